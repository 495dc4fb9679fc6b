"""Partitions of `records`: one a day (UTC), made ahead by the steward, and by whoever finds one missing.

Only the database's clock is asked. A partition is made apart and then attached, which holds up nobody who pushes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text

from rota.ledger.connection import Transaction

DAYS_AHEAD = 7
PARTITION_LOCK = 7_682_003
"""Key of the advisory lock under which partitions are made and dropped, one process at a time."""

_BOUNDS = text(
    "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) AS bound, pg_total_relation_size(c.oid) AS size "
    "FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'records'::regclass"
)


@dataclass(frozen=True)
class Partition:
    """One partition: from when (None: from ever) until when its records arrived, and its bytes with all indexes."""

    name: str
    begin: datetime | None
    end: datetime | None
    size: int


async def all_of(tx: Transaction) -> list[Partition]:
    """Every partition, the oldest first."""
    # The bounds are printed in the session's time zone.
    await tx.execute(text("SET LOCAL TimeZone = 'UTC'"))
    found = [Partition(row.relname, *_bounds(row.bound), row.size) for row in await tx.execute(_BOUNDS)]
    return sorted(found, key=lambda one: one.begin or datetime.min.replace(tzinfo=UTC))


async def ensure(tx: Transaction, days_ahead: int = DAYS_AHEAD) -> list[str]:
    """Makes the partitions of today and the days to come that are not there; their names."""
    await tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": PARTITION_LOCK})
    there = await all_of(tx)
    today: date = (await tx.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date"))).scalar_one()
    made = []
    for day in (today + timedelta(days=n) for n in range(days_ahead + 1)):
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if _free(there, begin, begin + timedelta(days=1)):
            made.append(await _make(tx, begin))
    return made


async def drop(tx: Transaction, name: str) -> None:
    """Drops a partition with all that is in it. Waits for readers a fifth of a second, since pushes wait meanwhile.

    Raises:
        UnavailableError: somebody reads it; a later try will do.
    """
    await tx.execute(text("SET LOCAL lock_timeout = '200ms'"))
    await tx.execute(text(f'DROP TABLE "{name}"'))


def _free(there: Sequence[Partition], begin: datetime, end: datetime) -> bool:
    return not any((one.begin is None or one.begin < end) and (one.end is None or begin < one.end) for one in there)


async def _make(tx: Transaction, begin: datetime) -> str:
    name = await _free_name(tx, f"records_{begin:%Y%m%d}")
    await tx.execute(text(f"CREATE TABLE {name} (LIKE records INCLUDING ALL EXCLUDING INDEXES)"))
    await tx.execute(
        text(
            f"ALTER TABLE records ATTACH PARTITION {name} "
            f"FOR VALUES FROM ('{begin:%Y-%m-%d} 00:00+00') TO ('{begin + timedelta(days=1):%Y-%m-%d} 00:00+00')"
        )
    )
    return name


async def _free_name(tx: Transaction, wanted: str) -> str:
    """The name, or that with `_2`, `_3` … behind it.

    A partition that an operator has detached, to archive it, keeps its name, and is theirs: it is not attached again.
    """
    there = text("SELECT to_regclass(:name) IS NOT NULL")
    name, number = wanted, 1
    while (await tx.execute(there, {"name": name})).scalar_one():
        number += 1
        name = f"{wanted}_{number}"
    return name


def _bounds(expression: str) -> tuple[datetime | None, datetime | None]:
    """`FOR VALUES FROM (…) TO (…)`, as PostgreSQL prints it in UTC."""
    begin, _, end = expression.removeprefix("FOR VALUES FROM (").removesuffix(")").partition(") TO (")
    return _bound(begin), _bound(end)


def _bound(written: str) -> datetime | None:
    if written in ("MINVALUE", "MAXVALUE"):
        return None
    return datetime.fromisoformat(written.strip("'"))
