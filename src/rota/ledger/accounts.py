"""Accounts: whoever owns profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from rota.errors import ConflictError, NotFoundError
from rota.ledger import checks, retention
from rota.ledger.connection import Transaction
from rota.ledger.page import Page, bounded, new_id, page_of
from rota.ledger.tables import accounts

OPERATOR = "operator"
"""Name of the account that owns profiles which an operator made for nobody else."""


@dataclass(frozen=True)
class Account:
    """One account."""

    id: str
    name: str
    created_at: datetime
    keep_days: int | None
    keep_records: int | None


async def create(tx: Transaction, name: str) -> Account:
    """A new account.

    Raises:
        ConflictError: there is one of that name.
    """
    made = await _insert(tx, checks.name(name))
    if made is None:
        raise ConflictError(f"There is an account named {name!r} already.")
    return made


async def default(tx: Transaction) -> Account:
    """The operator's own account, made when it is first asked for."""
    made = await _insert(tx, OPERATOR)
    if made is not None:
        return made
    row = (await tx.execute(select(accounts).where(accounts.c.name == OPERATOR))).one()
    return Account(*row)


async def get(tx: Transaction, account_id: str) -> Account:
    """One account.

    Raises:
        NotFoundError: there is none with this id.
    """
    row = (await tx.execute(select(accounts).where(accounts.c.id == account_id))).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no account {account_id}.")
    return Account(*row)


async def find(tx: Transaction, named: str) -> Account:
    """The account of this id or name.

    Raises:
        NotFoundError: there is none.
    """
    of_name = (await tx.execute(select(accounts.c.id).where(accounts.c.name == named))).scalar_one_or_none()
    return await get(tx, named if of_name is None else of_name)


async def set_limits(tx: Transaction, account_id: str, limits: Mapping[str, int | None]) -> Account:
    """Changes `keep_days` and `keep_records` where they are given: 0 is no limit, None what the fleet says.

    Raises:
        NotFoundError: there is none with this id.
        InvalidRequestError: a limit that makes no sense.
    """
    known = {name: limits[name] for name in ("keep_days", "keep_records") if name in limits}
    retention.check(known.get("keep_days"), known.get("keep_records"))
    if not known:
        return await get(tx, account_id)
    changed = update(accounts).where(accounts.c.id == account_id).values(known).returning(accounts)
    row = (await tx.execute(changed)).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no account {account_id}.")
    return Account(*row)


async def page(tx: Transaction, *, limit: int = 100, after: str | None = None) -> Page[Account]:
    """Accounts by id."""
    limit = bounded(limit)
    query = select(accounts).where(accounts.c.id > (after or "")).order_by(accounts.c.id).limit(limit + 1)
    return page_of([Account(*row) for row in await tx.execute(query)], limit, lambda account: account.id)


async def _insert(tx: Transaction, name: str) -> Account | None:
    values = insert(accounts).values(id=new_id("acc"), name=name)
    row = (await tx.execute(values.on_conflict_do_nothing().returning(accounts))).one_or_none()
    return Account(*row) if row else None
