"""The outbox: which profiles changed and may not have reached live state yet.

A row says only THAT a profile changed. Whoever applies it reads the profile's current row, so order never matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import delete, insert, select

from rota.ledger.connection import Transaction
from rota.ledger.tables import outbox


class OutboxRow(NamedTuple):
    """One change that is to be applied."""

    id: int
    profile: str


async def add(tx: Transaction, fleet: str, profile_id: str) -> None:
    """Notes the change; belongs into the transaction that makes it."""
    await tx.execute(insert(outbox).values(fleet=fleet, profile_id=profile_id))


async def pending(tx: Transaction, fleet: str, limit: int) -> list[OutboxRow]:
    """The oldest changes that nobody else is applying; they stay locked until the transaction ends."""
    query = (
        select(outbox.c.id, outbox.c.profile_id)
        .where(outbox.c.fleet == fleet)
        .order_by(outbox.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [OutboxRow(*row) for row in await tx.execute(query)]


async def done(tx: Transaction, ids: Sequence[int]) -> None:
    """Takes applied changes out."""
    await tx.execute(delete(outbox).where(outbox.c.id.in_(ids)))
