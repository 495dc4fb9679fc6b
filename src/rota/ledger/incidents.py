"""Incidents: what an operator has to know of, from when it was seen until it was over.

Whoever looks for one kind says all that it sees at once, again and again (`observe`): so nothing is told twice, and
nothing stays open because whoever had to close it died.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert

from rota.ledger.connection import Transaction
from rota.ledger.page import Page, bounded, number_after, page_of
from rota.ledger.tables import incidents

MOST_OPEN = 1000
"""Open incidents of one kind that are looked at."""


@dataclass(frozen=True)
class Sighting:
    """Something that is wrong at this moment: what it concerns, a sentence for people, and the figures behind it."""

    subject: str
    message: str
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Incident:
    """One incident; `closed_at` is None while it lasts."""

    id: int
    fleet: str
    kind: str
    subject: str
    message: str
    detail: dict[str, Any]
    raised_at: datetime
    seen_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True)
class Changed:
    """What `observe` has made of the incidents of one kind: the subjects that are new, and those that are over."""

    raised: list[str]
    closed: list[str]


async def observe(tx: Transaction, fleet: str, kind: str, seen: Sequence[Sighting]) -> Changed:
    """Raises what is seen for the first time, keeps up what still is, and closes what is not seen any more."""
    known = {incident.subject for incident in await open_of(tx, fleet, kind)}
    await sight(tx, fleet, kind, seen)
    subjects = {one.subject for one in seen}
    over = sorted(known - subjects)
    if over:
        await _close(tx, fleet, kind, incidents.c.subject.in_(over))
    return Changed(sorted(subjects - known), over)


async def sight(tx: Transaction, fleet: str, kind: str, seen: Sequence[Sighting]) -> None:
    """Raises what is seen for the first time and keeps up what still is; closes nothing."""
    if not seen:
        return
    rows = [
        {"fleet": fleet, "kind": kind, "subject": one.subject, "message": one.message, "detail": dict(one.detail)}
        for one in seen
    ]
    statement = insert(incidents).values(rows)
    new = statement.excluded
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[incidents.c.fleet, incidents.c.kind, incidents.c.subject],
            index_where=incidents.c.closed_at.is_(None),
            set_={"message": new.message, "detail": new.detail, "seen_at": func.now()},
        )
    )


async def close_unseen(tx: Transaction, fleet: str, kind: str, seconds: float) -> list[str]:
    """Closes what nobody has seen for so long; the subjects that are over."""
    return await _close(tx, fleet, kind, incidents.c.seen_at < func.now() - timedelta(seconds=seconds))


async def _close(tx: Transaction, fleet: str, kind: str, which: ColumnElement[bool]) -> list[str]:
    of_kind = (incidents.c.fleet == fleet, incidents.c.kind == kind, incidents.c.closed_at.is_(None))
    ended = update(incidents).where(*of_kind, which).values(closed_at=func.now())
    return sorted((await tx.execute(ended.returning(incidents.c.subject))).scalars())


async def open_of(tx: Transaction, fleet: str, kind: str | None = None) -> list[Incident]:
    """The open incidents of a fleet, the oldest first, at most 1000."""
    query = select(incidents).where(incidents.c.fleet == fleet, incidents.c.closed_at.is_(None))
    if kind is not None:
        query = query.where(incidents.c.kind == kind)
    return [Incident(*row) for row in await tx.execute(query.order_by(incidents.c.id).limit(MOST_OPEN))]


async def last_closed(tx: Transaction, fleet: str, kind: str) -> Incident | None:
    """The one of this kind that was over last."""
    query = select(incidents).where(incidents.c.fleet == fleet, incidents.c.kind == kind)
    query = query.where(incidents.c.closed_at.is_not(None)).order_by(incidents.c.id.desc()).limit(1)
    row = (await tx.execute(query)).first()
    return Incident(*row) if row is not None else None


async def page(
    tx: Transaction, fleet: str, *, only_open: bool = False, limit: int = 100, after: str | None = None
) -> Page[Incident]:
    """Incidents of a fleet, newest first; `after` is the `next` of the page before."""
    limit = bounded(limit)
    query = select(incidents).where(incidents.c.fleet == fleet)
    if only_open:
        query = query.where(incidents.c.closed_at.is_(None))
    if after:
        query = query.where(incidents.c.id < number_after(after))
    rows = await tx.execute(query.order_by(incidents.c.id.desc()).limit(limit + 1))
    return page_of([Incident(*row) for row in rows], limit, lambda incident: incident.id)
