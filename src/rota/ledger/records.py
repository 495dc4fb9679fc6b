"""Records, read: what bots pushed. `pushes` writes them.

The ids of one profile rise in the order of the commits, so `id > last` over one profile never passes over a record that
is committed later. Over several profiles that does not hold: there each needs a position of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from rota.ledger.connection import Transaction
from rota.ledger.page import Page, bounded, number_after, page_of
from rota.ledger.tables import batches, fences, records


@dataclass(frozen=True)
class Record:
    """One record as it was taken."""

    id: int
    profile: str
    epoch: int
    batch: int
    position: int
    bot: str
    kind: str
    at: datetime
    received_at: datetime
    data: Any


async def page(
    tx: Transaction, profile: str, *, kind: str | None = None, limit: int = 100, after: str | None = None
) -> Page[Record]:
    """A profile's records in the order of arrival."""
    limit = bounded(limit)
    query = select(records).where(records.c.profile_id == profile, records.c.id > number_after(after))
    if kind is not None:
        query = query.where(records.c.kind == kind)
    rows = await tx.execute(query.order_by(records.c.id).limit(limit + 1))
    return page_of([Record(*row) for row in rows], limit, lambda record: record.id)


async def newest(tx: Transaction, profile: str, limit: int) -> list[Record]:
    """A profile's newest records, newest first."""
    query = select(records).where(records.c.profile_id == profile).order_by(records.c.id.desc())
    return [Record(*row) for row in await tx.execute(query.limit(bounded(limit)))]


async def count(tx: Transaction, *, fleet_profiles: Sequence[str] | None = None) -> int:
    """How many records were ever taken, of these profiles or of all; records that are kept no more count, too."""
    known, forgotten = select(func.sum(batches.c.count)), select(func.sum(fences.c.forgotten_records))
    if fleet_profiles is not None:
        known = known.where(batches.c.profile_id.in_(fleet_profiles))
        forgotten = forgotten.where(fences.c.profile_id.in_(fleet_profiles))
    total = func.coalesce(known.scalar_subquery(), 0) + func.coalesce(forgotten.scalar_subquery(), 0)
    return int((await tx.execute(select(total))).scalar_one())
