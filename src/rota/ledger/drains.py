"""Drains: servers and bots that are to finish what they have and take nothing new. Live state is told by the steward.

A drain of a server lasts until it is undone; that of a bot until the bot has said that it goes, or has been off the
roster for an hour.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from rota.errors import ConflictError, NotFoundError
from rota.ledger import checks, fleets
from rota.ledger.connection import Transaction
from rota.ledger.page import Page, bounded, page_of
from rota.ledger.tables import drains

_SUBJECT = re.compile(r"[a-z0-9_][a-z0-9._-]{0,252}(/[A-Za-z0-9._-]{1,64})?")
LONGEST = 30 * 86_400
GONE_FOR = timedelta(hours=1)
"""So long a bot that was killed or fell silent may take to come back, and is told to exit."""
MOST = 10_000
"""Drains of one fleet at a time."""
_AT_ONCE = 1_000
"""So many orders may have been counted at the same moment, and all have been let through."""


@dataclass(frozen=True)
class Drain:
    """One drain; `subject` is a hostname, or a bot's id. At `deadline` what has not ended is killed.

    `gone_at`: since when the bot is off the roster, although it never said that it goes.
    """

    fleet: str
    subject: str
    deadline: datetime | None
    created_at: datetime
    gone_at: datetime | None = None

    @property
    def is_of_a_bot(self) -> bool:
        """Whether one bot is meant, not a whole server."""
        return "/" in self.subject


async def order(tx: Transaction, fleet: str, subject: str, *, within: float | None = None) -> Drain:
    """Orders a drain, or gives the one that is under way another deadline; `within` is seconds from now.

    Raises:
        ConflictError: too many drains are under way.
        InvalidRequestError: neither a hostname nor a bot, or a deadline that makes no sense.
        NotFoundError: there is no such fleet.
    """
    if not _SUBJECT.fullmatch(subject):
        raise checks.refuse("subject", "must be one hostname, or a bot as <hostname>/<instance>")
    if within is not None and not 0 <= within <= LONGEST:
        raise checks.refuse("within", f"must be between 0 and {LONGEST} seconds")
    await fleets.get(tx, fleet)
    if await _are_too_many(tx, fleet, subject):
        raise ConflictError(f"Fleet {fleet} has {MOST} drains under way: drain whole servers, or undo some first.")
    deadline = None if within is None else datetime.now(UTC) + timedelta(seconds=within)
    statement = insert(drains).values(fleet=fleet, subject=subject, deadline=deadline)
    changed = statement.on_conflict_do_update(
        index_elements=[drains.c.fleet, drains.c.subject], set_={"deadline": deadline}
    )
    return Drain(*(await tx.execute(changed.returning(drains))).one())


async def _are_too_many(tx: Transaction, fleet: str, subject: str) -> bool:
    """Whether one more could not be read by whoever carries all of them out, who would take it for undone."""
    others = select(func.count()).select_from(drains).where(drains.c.fleet == fleet, drains.c.subject != subject)
    return int((await tx.execute(others)).scalar_one()) >= MOST


async def undo(tx: Transaction, fleet: str, subject: str) -> None:
    """Ends a drain before it is done.

    Raises:
        NotFoundError: nothing of that name is being drained.
    """
    if await forget(tx, fleet, [subject]) == 0:
        raise NotFoundError(f"{subject} is not being drained in fleet {fleet}.")


async def forget(tx: Transaction, fleet: str, subjects: Sequence[str]) -> int:
    """Takes drains out, and returns how many there were."""
    gone = delete(drains).where(drains.c.fleet == fleet, drains.c.subject.in_(subjects))
    return int((await tx.execute(gone)).rowcount)


async def note_gone(tx: Transaction, fleet: str, subjects: Sequence[str]) -> None:
    """Takes note that just these drained bots are off the roster; ends the drains of those that are gone for long."""
    gone, since = drains.c.subject.in_(subjects), drains.c.gone_at
    here = (drains.c.fleet == fleet, ~gone, since.is_not(None))
    await tx.execute(update(drains).where(*here).values(gone_at=None))
    await tx.execute(update(drains).where(drains.c.fleet == fleet, gone, since.is_(None)).values(gone_at=func.now()))
    await tx.execute(delete(drains).where(drains.c.fleet == fleet, gone, since < func.now() - GONE_FOR))


async def all_of(tx: Transaction, fleet: str) -> list[Drain]:
    """The drains of a fleet, of which there are at most 10,000."""
    query = select(drains).where(drains.c.fleet == fleet).order_by(drains.c.subject).limit(MOST + _AT_ONCE)
    return [Drain(*row) for row in await tx.execute(query)]


async def named(tx: Transaction, fleet: str, subjects: Sequence[str]) -> dict[str, Drain]:
    """Subject → its drain, for those of these that have one."""
    query = select(drains).where(drains.c.fleet == fleet, drains.c.subject.in_(subjects))
    return {drain.subject: drain for drain in (Drain(*row) for row in await tx.execute(query))}


async def page(tx: Transaction, fleet: str, *, limit: int = 100, after: str | None = None) -> Page[Drain]:
    """Drains of a fleet by subject; `after` is the `next` of the page before."""
    limit = bounded(limit)
    query = select(drains).where(drains.c.fleet == fleet, drains.c.subject > (after or ""))
    rows = await tx.execute(query.order_by(drains.c.subject).limit(limit + 1))
    return page_of([Drain(*row) for row in rows], limit, lambda drain: drain.subject)
