"""History: every move of live state, and from it who worked for whom, from when to when, and why it ended.

A bot that has said that it goes is not being drained any more, whoever comes into its slot next.

Taking the same events again, or an older one after a newer one, leads to the same history.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from rota.ledger import drains, moves
from rota.ledger.connection import Transaction
from rota.ledger.moves import Move
from rota.ledger.page import Page, bounded, page_of
from rota.ledger.tables import assignments, events, fleets


@dataclass(frozen=True)
class HistoryEvent:
    """One move; `id` is the live stream's."""

    id: str
    at: datetime
    kind: str
    bot: str | None
    profile: str | None
    epoch: int | None
    reason: str | None


@dataclass(frozen=True)
class PastAssignment:
    """Who worked for whom; `ended_at` is None while it lasts."""

    profile: str
    epoch: int
    fleet: str
    bot: str
    server: str
    started_at: datetime
    confirmed_at: datetime | None
    ended_at: datetime | None
    reason: str | None


async def record(tx: Transaction, fleet: str, found: Sequence[HistoryEvent], *, recorded_to: str) -> None:
    """Takes events into history and notes how far the stream is recorded, all in this transaction."""
    if found:
        rows = [
            {
                "fleet": fleet,
                "id": event.id,
                "at": event.at,
                "kind": event.kind,
                "bot": event.bot,
                "profile_id": event.profile,
                "epoch": event.epoch,
                "reason": event.reason,
            }
            for event in found
        ]
        await tx.execute(insert(events).on_conflict_do_nothing(), rows)
        await moves.take(tx, fleet, _moves(found))
        if left := {event.bot for event in found if (event.kind, event.reason) == ("left", "shutdown") and event.bot}:
            await drains.forget(tx, fleet, sorted(left))
    await tx.execute(update(fleets).where(fleets.c.name == fleet).values(recorded_to=recorded_to))


async def events_page(
    tx: Transaction,
    fleet: str,
    *,
    profile: str | None = None,
    bot: str | None = None,
    limit: int = 100,
    after: str | None = None,
) -> Page[HistoryEvent]:
    """Events of a fleet, newest first; `after` is the `next` of the page before."""
    limit = bounded(limit)
    table = events.c
    query = select(table.id, table.at, table.kind, table.bot, table.profile_id, table.epoch, table.reason)
    query = query.where(table.fleet == fleet)
    if profile is not None:
        query = query.where(table.profile_id == profile)
    if bot is not None:
        query = query.where(table.bot == bot)
    if after:
        last = select(table.at).where(table.fleet == fleet, table.id == after).scalar_subquery()
        query = query.where(or_(table.at < last, and_(table.at == last, table.id < after)))
    rows = await tx.execute(query.order_by(table.at.desc(), table.id.desc()).limit(limit + 1))
    return page_of([HistoryEvent(*row) for row in rows], limit, lambda event: event.id)


async def assignments_page(
    tx: Transaction,
    *,
    profile: str | None = None,
    bot: str | None = None,
    at: datetime | None = None,
    limit: int = 100,
    after: str | None = None,
) -> Page[PastAssignment]:
    """Assignments of a profile or of a bot, newest first; with `at`, the one that lasted at that moment.

    `after` is the `next` of the page before.
    """
    limit = bounded(limit)
    table = assignments.c
    query = select(
        table.profile_id,
        table.epoch,
        table.fleet,
        table.bot,
        table.server,
        table.started_at,
        table.confirmed_at,
        table.ended_at,
        table.reason,
    )
    if profile is not None:
        query = query.where(table.profile_id == profile)
    if bot is not None:
        query = query.where(table.bot == bot)
    if at is not None:
        query = query.where(table.started_at <= at, or_(table.ended_at.is_(None), table.ended_at > at))
    if after and after.isdecimal():
        query = query.where(table.epoch < int(after))
    rows = await tx.execute(query.order_by(table.epoch.desc()).limit(limit + 1))
    return page_of([PastAssignment(*row) for row in rows], limit, lambda item: item.epoch)


@dataclass(frozen=True)
class Binding:
    """Who works for which profile, as live state has it; `since` is when that began."""

    profile: str
    epoch: int
    bot: str
    since: datetime


async def open_bindings(
    tx: Transaction, fleet: str, *, after: str = "", limit: int = 500, among: Sequence[str] | None = None
) -> list[Binding]:
    """Assignments that have not ended, by profile, behind the profile `after`; with `among` of these profiles alone."""
    table = assignments.c
    query = select(table.profile_id, table.epoch, table.bot, table.started_at)
    query = query.where(table.fleet == fleet, table.ended_at.is_(None), table.profile_id > after)
    if among is not None:
        query = query.where(table.profile_id.in_(among))
    return [Binding(*row) for row in await tx.execute(query.order_by(table.profile_id, table.epoch).limit(limit))]


async def mend(tx: Transaction, fleet: str, *, ended: Sequence[Binding] = (), begun: Sequence[Binding] = ()) -> None:
    """Ends assignments whose end, and begins those whose beginning, was lost together with live state's events."""
    now, reason = datetime.now(UTC), "lost: its end was not recorded"
    await moves.take(tx, fleet, [Move("released", lost.profile, lost.epoch, lost.bot, now, reason) for lost in ended])
    await moves.take(
        tx, fleet, [Move("granted", found.profile, found.epoch, found.bot, found.since, None) for found in begun]
    )


class Deaths(NamedTuple):
    """Hostname → how many of its bots have died, and when the last one did, by the clock of the events."""

    of: dict[str, int]
    last: datetime | None


async def deaths(tx: Transaction, fleet: str, since: datetime) -> Deaths:
    """The deaths behind this moment."""
    host = func.split_part(events.c.bot, "/", 1)
    query = select(host, func.count(), func.max(events.c.at))
    query = query.where(events.c.fleet == fleet, events.c.at > since, events.c.kind == "died")
    rows = (await tx.execute(query.group_by(host).order_by(host).limit(10_000))).all()
    return Deaths({row[0]: row[1] for row in rows}, max((row[2] for row in rows), default=None))


def _moves(found: Sequence[HistoryEvent]) -> Iterator[Move]:
    for event in found:
        if event.profile is not None and event.epoch and event.bot is not None:
            reason = f"{event.kind}: {event.reason}" if event.reason else event.kind
            yield Move(event.kind, event.profile, event.epoch, event.bot, event.at, reason)
