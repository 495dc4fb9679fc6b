"""The status page `/`: totals, every server with its bots, what waits; and the stream that keeps it live."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from rota.errors import UnavailableError
from rota.live import snapshot
from rota.web.pages.facts import Facts
from rota.web.pages.incidents import IncidentGroup, groups
from rota.web.pages.queue import Queue, read_queue
from rota.web.pages.servers import Place, ServerCard, cards, places, share, unseen
from rota.web.pages.verdict import Verdict, judge
from rota.web.state import State

View = Literal["wall", "table"]
SERVERS_SHOWN = 24
"""Servers on one page."""
BOTS_SHOWN = 200
"""Bots of one server on the status page; its own page has them all."""
BOTS_IN_ALL = 800
"""Bots on one page, which keeps it near 200 KB: where there are more, each server shows fewer."""
BOT_ORDER = ("working", "free", "starting", "stopping")
PROFILE_ORDER = ("working", "waiting", "held", "starting", "stopping", "stopped")


@dataclass(frozen=True)
class Scope:
    """What one status page shows, and so what those who share a board have in common."""

    fleet: str
    view: View
    number: int


@dataclass(frozen=True)
class Figures:
    """Bots and profiles of the whole fleet by phase, counted by live state."""

    bots_total: int
    bots: tuple[tuple[str, int], ...]
    profiles_total: int
    profiles: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class FleetPage:
    """The status page.

    scope: fleet, view (`wall` or `table`) and number of the page.
    fleets: names of all fleets.
    notices: what is away, in sentences.
    incidents: the open ones by kind, the gravest first.
    verdict, figures, queue: None while live state is away.
    servers: the servers on this page; `server_count` in all, on `page_count` pages.
    now: when this was read.
    """

    scope: Scope
    fleets: tuple[str, ...]
    notices: tuple[str, ...]
    incidents: tuple[IncidentGroup, ...]
    verdict: Verdict | None
    figures: Figures | None
    servers: tuple[ServerCard, ...]
    server_count: int
    page_count: int
    queue: Queue | None
    now: datetime = field(compare=False)

    @property
    def title(self) -> str:
        """Of the window."""
        return self.verdict.headline if self.verdict else "Live state is away"


async def read_fleet(state: State, facts: Facts, scope: Scope) -> FleetPage:
    """The page as it is now; while a store is away, what is known without it.

    Raises:
        NotFoundError: there is no such fleet.
    """
    policy = await state.policies.of(scope.fleet)
    listed, all_fleets, drained, incidents = await asyncio.gather(
        facts.listed(scope.fleet),
        facts.fleets(),
        facts.drains(scope.fleet),
        facts.open_incidents(scope.fleet),
    )
    try:
        totals, actual = await asyncio.gather(
            snapshot.totals(state.live, scope.fleet), snapshot.servers(state.live, scope.fleet)
        )
        everywhere = places(actual, listed, scope.fleet, drained)
        shown = _on_page(everywhere, scope.number)
        most = share([place.actual or 0 for place in shown], BOTS_IN_ALL, BOTS_SHOWN)
        found, queue = await asyncio.gather(
            cards(state.live, facts, scope.fleet, shown, policy=policy, most=most),
            read_queue(state.live, facts, scope.fleet, totals),
        )
    except UnavailableError:
        everywhere = places(None, listed, scope.fleet, drained)
        found, totals, queue = [unseen(place) for place in _on_page(everywhere, scope.number)], None, None
    return FleetPage(
        scope=scope,
        fleets=all_fleets,
        notices=_notices(facts, live_away=totals is None),
        incidents=groups(incidents),
        verdict=judge(totals, everywhere, found, queue, len(incidents)) if totals and queue else None,
        figures=_figures(totals) if totals else None,
        servers=tuple(found),
        server_count=len(everywhere),
        page_count=_page_count(everywhere),
        queue=queue,
        now=datetime.now(UTC),
    )


def _page_count(everywhere: Sequence[Place]) -> int:
    return max(1, math.ceil(len(everywhere) / SERVERS_SHOWN))


def _on_page(everywhere: Sequence[Place], number: int) -> Sequence[Place]:
    """The servers of the page with this number; those of the last one where there are fewer pages by now."""
    start = (min(number, _page_count(everywhere)) - 1) * SERVERS_SHOWN
    return everywhere[start : start + SERVERS_SHOWN]


def _figures(totals: snapshot.Totals) -> Figures:
    bots = {"free" if phase == "idle" else phase: count for phase, count in totals.bots.items()}
    return Figures(
        bots_total=totals.bots_total,
        bots=tuple((phase, bots[phase]) for phase in BOT_ORDER),
        profiles_total=totals.profiles_total,
        profiles=tuple((phase, totals.profiles[phase]) for phase in PROFILE_ORDER),
    )


def _notices(facts: Facts, *, live_away: bool) -> tuple[str, ...]:
    notices = []
    if live_away:
        notices.append(
            "Live state (Redis or Valkey) does not answer. Bots keep working while their leases last; "
            "this page goes on by itself as soon as it is back."
        )
    if facts.away:
        notices.append("The ledger (PostgreSQL) does not answer. Names and expected numbers are missing or may be old.")
    return tuple(notices)
