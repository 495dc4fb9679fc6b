"""What this installation signs with, made once and the same for all of its processes."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from rota.ledger.connection import Transaction
from rota.ledger.tables import secrets


async def get_or_create(tx: Transaction, name: str, make: Callable[[], str]) -> str:
    """The secret of this name; of several processes that make it at once, one wins for all."""
    await tx.execute(insert(secrets).values(name=name, value=make()).on_conflict_do_nothing())
    return str((await tx.execute(select(secrets.c.value).where(secrets.c.name == name))).scalar_one())
