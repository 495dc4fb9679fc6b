"""What an operator on call wants to know first: does anything need attention, and what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from rota.live.snapshot import Totals
from rota.web.pages.queue import Queue
from rota.web.pages.servers import Place, ServerCard

WAITS_LONG = timedelta(minutes=1)
MOST_SERVERS = 6
"""Servers that are named; how many more there are is said beside them."""


@dataclass(frozen=True)
class Finding:
    """One thing to look at, and where on the page it is."""

    text: str
    href: str


@dataclass(frozen=True)
class Verdict:
    """The page's first line.

    level: `well`, `alarm` (an incident is open), `look` (there are findings) or `empty` (nothing is set up yet).
    """

    level: Literal["well", "alarm", "look", "empty"]
    headline: str
    findings: tuple[Finding, ...]


def judge(
    totals: Totals, all_places: Sequence[Place], cards: Sequence[ServerCard], queue: Queue, incidents: int = 0
) -> Verdict:
    """The verdict on a fleet with that many open incidents. Silent bots are counted on the servers that are shown."""
    if not all_places and totals.bots_total == 0 and not incidents:
        return Verdict("empty", "No bot has come in yet", ())
    findings = (*_server_findings(all_places), *_bot_findings(cards), *_queue_findings(totals, queue))
    things = "One thing needs attention" if len(findings) == 1 else f"{len(findings)} things need attention"
    if incidents:
        lasting = "One incident is open" if incidents == 1 else f"{incidents} incidents are open"
        also = things[0].lower() + things[1:]
        return Verdict("alarm", f"{lasting}, and {also}" if findings else lasting, findings)
    if not findings:
        return Verdict("well", "All is as it should be", ())
    return Verdict("look", things, findings)


def _server_findings(all_places: Sequence[Place]) -> list[Finding]:
    wrong = [place for place in all_places if place.is_wrong]
    found = [Finding(_server_text(place), f"#server-{place.hostname}") for place in wrong[:MOST_SERVERS]]
    if len(wrong) > MOST_SERVERS:
        more = len(wrong) - MOST_SERVERS
        found.append(Finding(f"{more} more server{'s' if more > 1 else ''} with too few or too many bots", "#servers"))
    return found


def _server_text(place: Place) -> str:
    if place.balance == "unlisted":
        return f"{place.hostname} is not on the list"
    if place.actual == 0:
        return f"{place.hostname} has no bots"
    count = abs(place.missing)
    bots = f"{count} bot{'s' if count > 1 else ''}"
    return f"{place.hostname} lacks {bots}" if place.missing > 0 else f"{place.hostname} has {bots} too many"


def _bot_findings(cards: Sequence[ServerCard]) -> list[Finding]:
    found = []
    for look, text in (("silent", "silent"), ("crashing", "at work where others crashed or died early")):
        ids = [cell.id for card in cards for cell in card.cells if cell.look == look]
        if ids:
            found.append(Finding(f"{len(ids)} bot{'s are' if len(ids) > 1 else ' is'} {text}", f"#{ids[0]}"))
    return found


def _queue_findings(totals: Totals, queue: Queue) -> list[Finding]:
    found = []
    crashed = [entry for entry in queue.held if entry.crashes]
    if crashed:
        who = f"{len(crashed)} profiles are" if len(crashed) > 1 else f"{crashed[0].name} is"
        found.append(Finding(f"{who} held back after crashes or early deaths", "#queue"))
    if queue.waiting_total and not totals.free:
        who = f"{queue.waiting_total} profiles wait" if queue.waiting_total > 1 else "One profile waits"
        found.append(Finding(f"{who} and no bot is free", "#queue"))
    elif any(entry.since and datetime.now(UTC) - entry.since > WAITS_LONG for entry in queue.waiting):
        found.append(Finding("A profile waits although bots are free: compare their labels", "#queue"))
    return found
