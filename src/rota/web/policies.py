"""What bots are granted, interval and ttl, so that a heartbeat asks no ledger; and the worker's pulse.

Both are refreshed every second in the background. A ledger that is away leaves the last known policies in force.
A fleet that is too large for its budget of beats, or a worker that cannot keep up, stretches both: see `Grant`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import cycle

import structlog

from rota.errors import RotaError
from rota.ledger import fleets
from rota.ledger.connection import Ledger
from rota.ledger.fleets import Fleet
from rota.live.liveness import Hearing
from rota.live.scripts import Live
from rota.live.snapshot import Beat
from rota.protocol import deadline_after_ms
from rota.web.load import Load
from rota.web.spells import Spell, followed, last_beat

REFRESH = 1.0
"""Seconds between two looks at the ledger, and between two pulses."""
SPREAD = 0.1
"""By which share stretched intervals differ from bot to bot: a crowd that came at once does not come back at once."""
VARIANTS = 16
ROOM = 0.05
"""By which share more is granted than is needed, so that not every newcomer changes it …"""
SLACK = 0.2
"""… and by which share it may be too much before it is changed."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Policy:
    """What one bot is granted, in seconds; the rest is worked out once for the hot path."""

    interval: float
    ttl: float
    deadline_ms: int
    json: str
    wait_reply: str
    continue_reply: str
    """Up to the profile of the assignment."""
    spells: tuple[Spell, ...]

    @classmethod
    def of(cls, interval: float, ttl: float, spells: tuple[Spell, ...]) -> Policy:
        """The policy with its ready-made pieces of replies."""
        json = f'"interval":{interval:g},"ttl":{ttl:g}'
        wait = f'{{"instruction":"wait",{json},"assignment":null}}'
        go_on = f'{{"instruction":"continue",{json},"assignment":{{"profile":"'
        return cls(interval, ttl, deadline_after_ms(ttl), json, wait, go_on, spells)

    def beat(self, left_ms: float) -> Beat:
        """What the milliseconds that are left until a bot's deadline tell of its last sign of life."""
        return last_beat(self.spells, left_ms, time.monotonic())


class Grant:
    """What a fleet's bots are granted: its policy, stretched until all their beats fit into its budget.

    Interval and ttl are stretched alike, so that as many beats may get lost as the operator allowed for.
    """

    def __init__(self, fleet: Fleet) -> None:
        """As if the fleet were small."""
        self.fleet = fleet
        self.stretch = 1.0
        always = Spell(fleet.interval, deadline_after_ms(fleet.ttl), -math.inf)
        self.mean = Policy.of(fleet.interval, fleet.ttl, (always,))
        self.turns: Iterator[Policy] = cycle((self.mean,))
        """The policies of one bot after the other."""

    def follow(self, fleet: Fleet, needed: float) -> None:
        """Grants by what the fleet's policy is now, and by how much it has to be stretched (1 or less: not at all)."""
        needed = min(max(1.0, needed), fleets.MOST_TTL / fleet.ttl)
        same = fleet.interval == self.fleet.interval and fleet.ttl == self.fleet.ttl
        if same and (needed == self.stretch or 1.0 < needed <= self.stretch <= needed * (1 + SLACK)):
            return
        self.fleet = fleet
        self.stretch = needed if needed == 1.0 else min(needed * (1 + ROOM), fleets.MOST_TTL / fleet.ttl)
        interval, ttl = _rounded(fleet.interval * self.stretch), _rounded(fleet.ttl * self.stretch)
        spells = followed(self.mean.spells, Spell(interval, deadline_after_ms(ttl), time.monotonic()))
        self.mean = mean = Policy.of(interval, ttl, spells)
        if self.stretch == 1.0:
            self.turns = cycle((mean,))
            return
        shares = [1 + SPREAD * (2 * at / (VARIANTS - 1) - 1) for at in range(VARIANTS)]
        self.turns = cycle([Policy.of(_rounded(mean.interval * share), mean.ttl, spells) for share in shares])


def _rounded(seconds: float) -> float:
    return round(seconds, 2)


class Policies:
    """Fleet → what is granted."""

    def __init__(self, ledger: Ledger, live: Live, load: Load) -> None:
        self._ledger = ledger
        self._live = live
        self._load = load
        self._grants: dict[str, Grant] = {}
        self._bots: dict[str, int] = {}
        self._hearing: dict[str, Hearing] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    async def of(self, fleet: str) -> Policy:
        """What the next bot of this fleet is granted; asks the ledger only for one that this worker has not met.

        Raises:
            NotFoundError: there is no such fleet.
            UnavailableError: the ledger is away.
        """
        return self.known(fleet) or await self._learn(fleet)

    def known(self, fleet: str) -> Policy | None:
        """The same if this worker has met the fleet, without waiting."""
        grant = self._grants.get(fleet)
        return next(grant.turns) if grant is not None else None

    async def turns(self, fleet: str) -> Iterator[Policy]:
        """What one bot of this fleet after the other is granted: their intervals may differ, their ttl does not.

        Raises:
            NotFoundError: there is no such fleet.
            UnavailableError: the ledger is away.
        """
        return (await self._met(fleet)).turns

    def grant(self, fleet: Fleet) -> Policy:
        """What the next bot of a fleet is granted that was just read from the ledger."""
        grant = self._grants.get(fleet.name)
        if grant is None:
            grant = self._grants[fleet.name] = Grant(fleet)
        self._follow(grant, fleet)
        return next(grant.turns)

    async def granted(self, fleet: str) -> Policy:
        """What this fleet's bots are granted on average.

        Raises:
            NotFoundError: there is no such fleet.
            UnavailableError: the ledger is away.
        """
        return (await self._met(fleet)).mean

    async def _met(self, fleet: str) -> Grant:
        if fleet not in self._grants:
            await self._learn(fleet)
        return self._grants[fleet]

    async def start(self) -> None:
        """Reads all policies and keeps them, and the pulse, fresh until `aclose`."""
        await self.refresh()
        self._tasks = [
            asyncio.create_task(self._load.watch()),
            asyncio.create_task(self._every_second(self.refresh)),
            asyncio.create_task(self._every_second(self._pulse)),
        ]

    async def aclose(self) -> None:
        """Ends the background work."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def refresh(self) -> None:
        """Reads the policies of all fleets, and grants by them."""
        async with self._ledger.begin() as tx:
            found = await fleets.all(tx)
        grants = {}
        for fleet in found:
            grants[fleet.name] = grant = self._grants.get(fleet.name) or Grant(fleet)
            self._follow(grant, fleet)
        self._grants = grants

    async def _learn(self, fleet: str) -> Policy:
        async with self._ledger.begin() as tx:
            return self.grant(await fleets.get(tx, fleet))

    def _follow(self, grant: Grant, fleet: Fleet) -> None:
        beats_per_second = self._bots.get(fleet.name, 0) / fleet.interval
        grant.follow(fleet, max(1.0, beats_per_second / fleet.beats_per_second) * self._load.stretch)

    async def _pulse(self) -> None:
        self._load.judge()
        for fleet, grant in list(self._grants.items()):
            hearing = self._hearing.get(fleet)
            if hearing is None:
                hearing = self._hearing[fleet] = Hearing(self._live, fleet)
            self._bots[fleet] = (await hearing.pulse(grant.mean.ttl)).bots
            self._follow(grant, grant.fleet)

    async def _every_second(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except RotaError as error:
                log.warning("background work failed", work=getattr(work, "__name__", ""), error=str(error))
            except Exception:
                log.exception("background work failed", work=getattr(work, "__name__", ""))
            # Before Python 3.12 `asyncio.wait_for`, which the drivers use, may lose a cancellation.
            if self._closing:
                return
            await asyncio.sleep(REFRESH)
