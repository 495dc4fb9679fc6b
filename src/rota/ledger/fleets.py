"""Fleets and their policies: how often bots beat, and how long a lease lasts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from rota.errors import ConflictError, NotFoundError
from rota.ledger import checks, retention
from rota.ledger.connection import Transaction
from rota.ledger.tables import fleets

MOST_FLEETS = 1000
MOST_INTERVAL, MOST_TTL = 3600.0, 86_400.0
"""Longest interval and ttl of a policy, in seconds."""
MOST_BEATS = 10_000_000.0


@dataclass(frozen=True)
class Fleet:
    """One fleet; `interval` and `ttl` are seconds, and are stretched where its beats are over `beats_per_second`."""

    name: str
    interval: float
    ttl: float
    incarnation: str | None
    recorded_to: str | None
    created_at: datetime
    keep_days: int | None
    keep_records: int | None
    beats_per_second: float


async def get(tx: Transaction, name: str) -> Fleet:
    """One fleet.

    Raises:
        NotFoundError: there is none of that name.
    """
    row = (await tx.execute(select(fleets).where(fleets.c.name == name))).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no fleet {name!r}.")
    return Fleet(*row)


async def all(tx: Transaction) -> list[Fleet]:
    """Every fleet, by name."""
    return [Fleet(*row) for row in await tx.execute(select(fleets).order_by(fleets.c.name).limit(MOST_FLEETS))]


async def create(tx: Transaction, name: str, *, interval: float = 30, ttl: float = 90) -> Fleet:
    """A new fleet.

    Raises:
        ConflictError: there is one of that name.
        InvalidRequestError: the name or the policy makes no sense.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", name):
        raise checks.refuse("name", "must be 1 to 32 of a-z, 0-9 and -")
    _check_policy(interval, ttl)
    values = insert(fleets).values(name=name, interval=interval, ttl=ttl)
    row = (await tx.execute(values.on_conflict_do_nothing().returning(fleets))).one_or_none()
    if row is None:
        raise ConflictError(f"There is a fleet named {name!r} already.")
    return Fleet(*row)


async def set_policy(
    tx: Transaction,
    name: str,
    *,
    interval: float | None = None,
    ttl: float | None = None,
    beats_per_second: float | None = None,
    keep_days: int | None = None,
    keep_records: int | None = None,
) -> Fleet:
    """Changes what is given and returns the fleet; records are kept for ever with 0.

    Raises:
        InvalidRequestError: a ttl under two intervals, or a value out of range.
    """
    query = select(fleets).where(fleets.c.name == name).with_for_update()
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no fleet {name!r}.")
    new_interval = row.interval if interval is None else interval
    new_ttl = row.ttl if ttl is None else ttl
    new_budget = row.beats_per_second if beats_per_second is None else beats_per_second
    _check_policy(new_interval, new_ttl)
    if not 1 <= new_budget <= MOST_BEATS:
        raise checks.refuse("beats_per_second", f"must be between 1 and {MOST_BEATS:.0f}")
    retention.check(keep_days, keep_records)
    new = {
        "interval": new_interval,
        "ttl": new_ttl,
        "beats_per_second": new_budget,
        "keep_days": row.keep_days if keep_days is None else keep_days,
        "keep_records": row.keep_records if keep_records is None else keep_records,
    }
    values = update(fleets).where(fleets.c.name == name).values(new)
    return Fleet(*(await tx.execute(values.returning(fleets))).one())


async def set_incarnation(tx: Transaction, name: str, incarnation: str) -> None:
    """Live state of this name now holds every wish; its event stream begins anew."""
    new = update(fleets).where(fleets.c.name == name, fleets.c.incarnation.is_distinct_from(incarnation))
    await tx.execute(new.values(incarnation=incarnation, recorded_to=None))


def _check_policy(interval: float, ttl: float) -> None:
    if not 0.5 <= interval <= MOST_INTERVAL:  # noqa: PLR2004
        raise checks.refuse("interval", "must be between 0.5 and 3600 seconds")
    if not 2 * interval <= ttl <= MOST_TTL:
        raise checks.refuse("ttl", "must be at least two intervals, and at most 86400 seconds")
