"""An installation with its bots: what a scenario may do to them, and whether all is well."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from rota.chaos.installation import Found, Installation
from rota.chaos.witness import BatchName, LedgerAccount, Row, Witness, audit
from rota.errors import ProblemError, RotaError
from rota.simulator.bot import Phase, SimulatedBot
from rota.simulator.crowd import Crowd, Plan
from rota.simulator.faults import Fault
from rota.simulator.preparation import LABELS, Wanted, in_parallel, prepare
from rota.simulator.rest import Rest
from rota.simulator.surroundings import Surroundings, Tally
from rota.simulator.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterable

FLEET = "chaos"
"""A new one: bots of a fleet whose policy was just changed would still be told the old one for a moment."""
SERVERS = 6
MOST_BEATS, MOST_PUSHES = 1000, 128
"""Connections that all bots share at most: as good as one of its own for each bot's beats, and some for pushes."""
OPEN_FILES = 8192
"""What this process needs at most: three for each connection, whose both ends run through it."""
SPARE = 10
"""Of so many bots, one has no profile to work for."""
SMALLEST = 15
"""One of so many bots is on the smallest server: the others can do its work."""
INTERVALS = 3
"""How many intervals a ttl has."""
CALL_SHARE, LONGEST_CALL = 0.25, 10.0
"""Timeout of a bot's call as a share of the ttl, and at most, as the SDK has it."""
PUSH_SHARE = 0.6
"""Pause between two records of a bot as a share of the ttl."""
BEAT_WITHIN = 1.1
"""Times the interval within which a bot beats."""
POLL = 0.1
HURRY = 0.5
SETTLES_WITHIN = 2.0
"""Times the ttl, and `GRACE` seconds more, that a fleet may take to settle."""
GRACE = 30.0
REST_TIMEOUT = 20.0


@dataclass(frozen=True)
class Options:
    """What the caller chose. `ttl` is in seconds."""

    ttl: float = 5.0
    bots: int = 300
    seed: int | None = None
    records: int = 10_000
    """How many are pushed where a scenario lasts for so long."""

    @property
    def profiles(self) -> int:
        """A few fewer than bots, so that some stand by."""
        return self.bots - max(1, self.bots // SPARE)

    @property
    def interval(self) -> float:
        """Seconds between two beats."""
        return max(0.5, round(self.ttl / INTERVALS, 2))


class Stage:
    """Open it, hurt it, ask whether it has recovered, close it."""

    def __init__(self, options: Options) -> None:
        """Nothing happens before `open`."""
        self.options = options
        self.rng = Random(options.seed)  # noqa: S311 - chance, not secrets
        self.installation = Installation(options.ttl, self.rng)
        self.witness = Witness(asyncio.get_running_loop().time(), options.ttl)
        self.fleet = FLEET
        self.key = ""
        """An operator's, for REST."""
        self.enrolment_key = ""
        self.told: list[str] = []
        """What scenarios have to say besides figures."""
        self._poisonous: dict[str, bool] = {}
        self._rest: Rest | None = None
        self._crowd: Crowd | None = None
        self._wires: tuple[Wire, ...] = ()
        self._running: asyncio.Task[None] | None = None

    @property
    def crowd(self) -> Crowd:
        """The bots, once they are there."""
        if self._crowd is None:
            raise RotaError("the bots have not begun")
        return self._crowd

    @property
    def rest(self) -> Rest:
        """REST with an operator's key, past the front."""
        if self._rest is None:
            raise RotaError("rota is not started")
        return self._rest

    @property
    def broken_off(self) -> int:
        """How many calls of bots were refused a connection or lost it, and so got no answer."""
        return self.crowd.unanswered - sum(wire.overdue for wire in self._wires)

    @property
    def now(self) -> float:
        """Seconds of the clock that everything here is told by."""
        return asyncio.get_running_loop().time()

    async def open(self, found: Found) -> None:
        """Starts the installation and lets the bots begin.

        Raises:
            RotaError: something does not start.
        """
        options = self.options
        _allow_open_files()
        self.key = await self.installation.start(found)
        self._rest = rest = Rest(self.installation.url, self.key, timeout=REST_TIMEOUT, patience=REST_TIMEOUT)
        await rest.post("/fleets", {"name": FLEET, "interval": options.interval, "ttl": options.ttl})
        smallest = max(1, options.bots // SMALLEST)
        wanted = Wanted(FLEET, SERVERS, options.bots, options.profiles, smallest=smallest)
        prepared = await prepare(rest, wanted, lambda _what, _done, _of: None)
        around = Surroundings(
            judge=self.witness,
            tally=Tally(),
            rng=self.rng,
            labels=LABELS,
            push_every=PUSH_SHARE * options.ttl,
            poisonous=self._poisonous,
        )
        self.enrolment_key = prepared.enrolment_key
        url, timeout = self.installation.front_url, min(LONGEST_CALL, CALL_SHARE * options.ttl)
        # Bots have connections of their own: one's slow push keeps nobody's beat waiting.
        most = (min(options.bots, MOST_BEATS), MOST_PUSHES)
        beats, pushes = (Wire(url, connections=connections, timeout=timeout) for connections in most)
        self._wires = (beats, pushes)
        plan = Plan(wanted.bots_of(), options.profiles, prepared.enrolment_key, options.interval, options.ttl)
        self._crowd = Crowd(plan, around, beats, pushes)
        self._running = asyncio.create_task(self._crowd.run())

    async def close(self) -> None:
        """The bots vanish, everything else ends in order."""
        if self._crowd and self._running:
            self._crowd.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        for wire in self._wires:
            wire.close()
        if self._rest:
            await self._rest.__aexit__()
        await self.installation.close()

    def settled(self, since: float) -> bool:
        """Whether every bot is there, every profile is worked on, and each such bot has been answered since then."""
        crowd = self.crowd
        if len(crowd.bots) < self.options.bots or crowd.phases[Phase.JOINING] or crowd.phases[Phase.CUT_OFF]:
            return False
        if not self.all_worked_on():
            return False
        return all(bot.work is None or bot.lease_end - bot.ttl >= since for bot in crowd.bots)

    async def until_settled(self, since: float, within: float | None = None) -> bool:
        """Waits until `settled`; whether it came to that in time."""
        deadline = self.now + (SETTLES_WITHIN * self.options.ttl + GRACE if within is None else within)
        while not self.settled(since):
            if self.now > deadline:
                return False
            await asyncio.sleep(POLL)
        return True

    def state(self) -> str:
        """How many bots are in which phase, for the text of a failure."""
        phases = ", ".join(f"{number} {phase}" for phase, number in sorted(self.crowd.phases.items()) if number)
        return f"{phases}; {self.options.profiles} profiles"

    def some_working(self, number: int) -> list[SimulatedBot]:
        """So many bots that are at work, drawn by chance."""
        working = [bot for bot in self.crowd.bots if bot.phase is Phase.WORKING]
        return self.rng.sample(working, min(number, len(working)))

    def some_profiles(self, number: int) -> list[str]:
        """So many profiles that are worked on, drawn by chance."""
        return [bot.work.profile for bot in self.some_working(number) if bot.work]

    def largest_servers(self) -> list[str]:
        """All servers, the one with the most bots first."""
        servers = self.crowd.plan.servers
        return sorted(servers, key=lambda hostname: -servers[hostname])

    def all_worked_on(self) -> bool:
        """Whether every profile is."""
        return self.crowd.phases[Phase.WORKING] >= self.options.profiles

    def beat_beyond(self, seconds: float) -> float:
        """How much longer than so many seconds it may take until a bot beats."""
        return max(0.0, BEAT_WITHIN * self.options.interval - seconds)

    def poison(self, profile: str, *, says_so: bool) -> None:
        """Bots that work for a profile crash a moment later from now on, also the one that does already."""
        self._poisonous[profile] = says_so
        self.crowd.poison(profile)

    def cure(self) -> None:
        """No profile is poisonous any more."""
        self._poisonous.clear()

    async def kill(self, bots: Iterable[SimulatedBot]) -> None:
        """An operator has bots removed that know nothing of it.

        Raises:
            ProblemError: rota does not do it.
        """
        await in_parallel((self._kill(bot) for bot in bots), lambda _done: None)

    async def _kill(self, bot: SimulatedBot) -> None:
        self.witness.hurt([bot.worker])
        await self.rest.post(f"/bots/{bot.hostname}/{bot.instance}/kill?fleet={self.fleet}")
        self.witness.killed([bot.worker], self.now)

    async def order(self, verb: str, profiles: Iterable[str]) -> None:
        """A client starts or stops profiles.

        Raises:
            ProblemError: rota does not do it.
        """
        await in_parallel((self.rest.post(f"/profiles/{profile}/{verb}") for profile in profiles), lambda _done: None)

    def strike(self, bots: Iterable[SimulatedBot], fault: Fault, silent: float = 0.0) -> int:
        """Lets a fault befall bots, so that what they own may move; returns how many."""
        victims = list(bots)
        self.witness.hurt(bot.worker for bot in victims)
        self.crowd.strike(victims, fault, silent)
        return len(victims)

    async def forgive(self) -> None:
        """Has rota forget which profiles' bots died, or it would hold them back ever longer for what happens here.

        Raises:
            ProblemError: rota does not do it.
        """
        struck, self.witness.struck = self.witness.struck, set()
        await self.release(struck)

    async def hurry(self) -> None:
        """An impatient operator, until cancelled: releases every profile that is held back because its bot died.

        Else the seconds of that would hide a profile that is given away before the old lease is over.
        """
        while True:
            await asyncio.sleep(HURRY)
            with contextlib.suppress(ProblemError):
                await self.release(self.witness.bereft())

    async def release(self, profiles: Iterable[str]) -> None:
        """An operator has these profiles held back no longer.

        Raises:
            ProblemError: rota does not do it.
        """
        await in_parallel((self.rest.post(f"/profiles/{profile}/release") for profile in profiles), lambda _done: None)

    async def audit(self) -> LedgerAccount:
        """Everything that was acknowledged so far against everything that the ledger holds.

        Raises:
            ProblemError: rota does not hand it out.
        """
        acknowledged: dict[str, list[BatchName]] = {}
        for name in self.witness.acknowledged_batches:
            acknowledged.setdefault(name.profile, []).append(name)
        accounts = await in_parallel(
            (self._audit_one(profile, names) for profile, names in acknowledged.items()), lambda _done: None
        )
        whole = LedgerAccount()
        for account in accounts:
            whole = whole.plus(account)
        return whole

    async def rows(self, profile: str) -> list[Row]:
        """A profile's records as the ledger holds them, in the order of their arrival."""
        pages = self.rest.pages(f"/profiles/{profile}/records")
        return [Row(record["epoch"], record["batch"], record["position"]) async for record in pages]

    def tell(self, text: str) -> None:
        """For whoever reads the outcome."""
        self.told.append(text)

    async def _audit_one(self, profile: str, acknowledged: list[BatchName]) -> LedgerAccount:
        return audit(profile, acknowledged, await self.rows(profile))


def _allow_open_files() -> None:
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    if resource.RLIM_INFINITY != now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
