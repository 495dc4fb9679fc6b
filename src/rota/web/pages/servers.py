"""Servers as the pages show them: who is there, who should be, and what each bot does.

A listed pattern such as `bot-farm-*` appears as the hosts that match it, and by itself only while none does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rota.ledger.drains import Drain
from rota.ledger.servers import Server
from rota.live import snapshot
from rota.live.entries import ProfileView
from rota.live.scripts import Live
from rota.live.snapshot import BotView
from rota.web.pages.cells import LOOKS, Cell, cell
from rota.web.pages.facts import Facts
from rota.web.pages.rendering import link
from rota.web.policies import Policy

Balance = Literal["right", "few", "many", "unlisted", "nobody", "unknown"]


@dataclass(frozen=True)
class Place:
    """One server and its numbers.

    hostname: of the host, or a pattern that no host matches at present.
    pattern: the listed pattern by which the host is meant, or None where it is listed by its own name.
    actual: bots on the roster, or None while live state is away.
    expected: bots that should be there, or None where the server is not listed or the ledger is away.
    balance: how the two compare; `nobody` is a listed pattern without hosts.
    drain: that of the whole server, or None where it is not being drained.
    """

    hostname: str
    href: str
    pattern: str | None
    actual: int | None
    expected: int | None
    balance: Balance
    drain: Drain | None = None

    @property
    def missing(self) -> int:
        """Bots that should be there and are not; negative where there are too many."""
        return 0 if self.expected is None or self.actual is None else self.expected - self.actual

    @property
    def is_wrong(self) -> bool:
        """Whether an operator should look; a server that is being drained is left alone."""
        return self.drain is None and self.balance in ("few", "many", "unlisted")


@dataclass(frozen=True)
class ServerCard:
    """One server with its bots, or the first of them.

    looks: how many of the bots that are shown have which look, most urgent first.
    hidden: bots beyond those that are shown.
    """

    place: Place
    cells: tuple[Cell, ...]
    looks: tuple[tuple[str, int], ...]
    hidden: int


def places(
    actual: Mapping[str, int] | None,
    listed: Sequence[Server] | None,
    fleet: str,
    drained: Mapping[str, Drain] | None = None,
) -> list[Place]:
    """Every host that is listed, has bots or is being drained, in natural order; patterns without hosts at the end.

    `actual` or `listed` is None where its store is away.
    """
    exact = {server.hostname: server for server in listed or () if not server.is_pattern}
    # The longest pattern that fits decides, as it does when a bot comes in.
    patterns = sorted(
        (server for server in listed or () if server.is_pattern), key=lambda server: -len(server.hostname)
    )
    drains = {host: drain for host, drain in (drained or {}).items() if not drain.is_of_a_bot}
    found = []
    for hostname in sorted({*(actual or ()), *exact, *drains}, key=snapshot.natural):
        meant = exact.get(hostname) or next((p for p in patterns if p.matches(hostname)), None)
        there = None if actual is None else actual.get(hostname, 0)
        place = _place(hostname, there, meant, ledger_known=listed is not None, fleet=fleet)
        found.append(replace(place, drain=drains.get(hostname)))
    empty = [server for server in patterns if not any(server.matches(hostname) for hostname in actual or ())]
    return found + [Place(server.hostname, "", server.hostname, 0, server.expected_bots, "nobody") for server in empty]


def unseen(place: Place) -> ServerCard:
    """A server's card without bots, for while live state is away."""
    return _card(place, [])


async def cards(
    live: Live, facts: Facts, fleet: str, shown: Sequence[Place], *, policy: Policy, most: int, after: str = ""
) -> list[ServerCard]:
    """The places with at most `most` of their bots each, behind the bot with id `after`."""
    bots = await asyncio.gather(
        *(
            snapshot.bots(live, fleet, server=place.hostname, after=after, limit=most, beat_of=policy.beat)
            if place.actual
            else _nobody()
            for place in shown
        )
    )
    bound = [bot.profile for found in bots for bot in found if bot.profile]
    names, profiles = await asyncio.gather(facts.names(bound), snapshot.profiles(live, fleet, bound))
    return [
        _card(place, [_cell(bot, fleet, names, profiles) for bot in found])
        for place, found in zip(shown, bots, strict=True)
    ]


def share(numbers: Iterable[int], budget: int, most: int) -> int:
    """How many of each may be shown so that all together stay within `budget`, and each within `most`."""
    left, fair = budget, most
    ordered = sorted(numbers)
    for position, number in enumerate(ordered):
        fair = left // (len(ordered) - position)
        if number > fair:
            return max(1, min(fair, most))
        left -= number
    return most


def count_looks(cells: Iterable[Cell]) -> tuple[tuple[str, int], ...]:
    """Look → how many have it, most urgent first, those that nobody has left out."""
    counted = dict.fromkeys(LOOKS, 0)
    for one in cells:
        counted[one.look] += 1
    return tuple((look, count) for look, count in counted.items() if count)


def _place(hostname: str, actual: int | None, meant: Server | None, *, ledger_known: bool, fleet: str) -> Place:
    href = link("servers", hostname, fleet=fleet)
    if meant is None:
        return Place(hostname, href, None, actual, None, "unlisted" if ledger_known else "unknown")
    expected = meant.expected_bots
    balance: Balance = "unknown"
    if actual is not None:
        balance = "right" if actual == expected else "few" if actual < expected else "many"
    return Place(hostname, href, meant.hostname if meant.is_pattern else None, actual, expected, balance)


def _card(place: Place, cells: Sequence[Cell]) -> ServerCard:
    return ServerCard(
        place=place,
        cells=tuple(cells),
        looks=count_looks(cells),
        hidden=max(0, (place.actual or 0) - len(cells)),
    )


def _cell(
    bot: BotView,
    fleet: str,
    names: Mapping[str, str],
    profiles: Mapping[str, ProfileView],
) -> Cell:
    bound = bot.profile
    return cell(
        bot,
        fleet=fleet,
        name=names[bound] if bound else "",
        profile=profiles.get(bound) if bound else None,
    )


async def _nobody() -> list[BotView]:
    return []
