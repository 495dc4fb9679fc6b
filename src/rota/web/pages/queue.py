"""Profiles without a bot that want one: those that wait for a free one, and those that are held back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from rota.live import snapshot
from rota.live.entries import ProfileView
from rota.live.scripts import Live
from rota.web.api.holds import attempt
from rota.web.pages.facts import Facts
from rota.web.pages.rendering import link

SHOWN = 12
"""Profiles of each kind on the status page."""


@dataclass(frozen=True)
class Waiting:
    """One profile that waits or is held.

    since: when it began to.
    until: when a hold ends; None for one that waits.
    crashes: how many of its bots crashed or died early in a row; a hold without any waits for a killed bot's lease.
    attempt: which try the next one is.
    """

    name: str
    href: str
    since: datetime | None
    until: datetime | None
    crashes: int
    attempt: int = 1


@dataclass(frozen=True)
class Queue:
    """The first of those that wait (in the order in which they will be served) and are held, and how many in all."""

    waiting: tuple[Waiting, ...]
    waiting_total: int
    held: tuple[Waiting, ...]
    held_total: int


async def read_queue(live: Live, facts: Facts, fleet: str, totals: snapshot.Totals) -> Queue:
    """The queue of a fleet."""
    waiting, held = await asyncio.gather(snapshot.waiting(live, fleet, SHOWN), snapshot.held(live, fleet, SHOWN))
    names = await facts.names([view.id for view in (*waiting, *held)])
    return Queue(
        waiting=tuple(_entry(view, names[view.id]) for view in waiting),
        waiting_total=max(totals.profiles["waiting"], len(waiting)),
        held=tuple(_entry(view, names[view.id]) for view in held),
        held_total=max(totals.profiles["held"], len(held)),
    )


def _entry(view: ProfileView, name: str) -> Waiting:
    return Waiting(
        name=name,
        href=link("profiles", view.id),
        since=view.since,
        until=view.not_before,
        crashes=view.crashes,
        attempt=attempt(view),
    )
