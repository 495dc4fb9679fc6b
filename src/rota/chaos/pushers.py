"""Scenario `everything-killed`: bots push all the time while everything is killed, themselves included."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rota.chaos.members import Member
from rota.chaos.pusher import BOTS, INTERVAL, KEY, KIND, RECORDS, TTL, URL
from rota.chaos.scenario import Injected
from rota.chaos.stage import Stage
from rota.chaos.witness import BatchName, LedgerAccount, audit
from rota.errors import RotaError
from rota.settings import PREFIX
from rota.simulator.preparation import in_parallel

PROCESSES, EACH = 10, 5
"""Processes, and bots in each: 50 bots."""
PAUSE = (0.5, 2.0)
"""Seconds between two strokes."""
DOWN = (0.0, 1.0)
"""Seconds after which what was killed is started again."""
AT_ONCE = 3
"""So many different things are killed at once, at most."""
STROKES = 60
"""So many strokes are spread over a run: between two of them a share of its records is acknowledged …"""
PROGRESS_WITHIN = 30.0
"""… or so many seconds pass, because the strokes follow each other too fast for the machine."""
POLL = 0.1
RELEASE_EVERY = 1.0


@dataclass(frozen=True)
class Victim:
    """Something that can be killed and started again."""

    kind: str
    kill: Callable[[], Awaitable[None]]
    start: Callable[[], Awaitable[None]]


class Pushers:
    """The pushing bots, and what they have noted."""

    def __init__(self, stage: Stage) -> None:
        """Nothing happens before `begin`."""
        self._stage = stage
        self._server = ""
        self.members: list[Member] = []
        self.profiles: list[str] = []

    async def begin(self) -> None:
        """Lists their server, makes and starts a profile for each bot, and starts the processes.

        Raises:
            ProblemError: rota refuses.
        """
        rest, fleet = self._stage.rest, self._stage.fleet
        listed = {"hostname": f"{KIND}-*", "expected_bots": EACH, "fleet": fleet}
        self._server = (await rest.post("/servers", listed))["id"]
        for number in range(PROCESSES * EACH):
            wish = {"name": f"{KIND}-{number + 1}", "fleet": fleet, "labels": {"kind": KIND}, "start": True}
            self.profiles.append((await rest.post("/profiles", wish))["id"])
        self.members = [self._member(number) for number in range(PROCESSES)]
        for member in self.members:
            await member.start()

    def acknowledged(self) -> set[BatchName]:
        """Every batch that any of them was answered 200 for."""
        names = set()
        for member in self.members:
            with contextlib.suppress(FileNotFoundError):
                for line in member.log.with_suffix(".notes").read_text("ascii").splitlines(keepends=True):
                    # A process that died while it wrote leaves half a line.
                    if line.endswith("\n"):
                        profile, epoch, batch = line.split()
                        names.add(BatchName(profile, int(epoch), int(batch)))
        return names

    async def until_acknowledged(self, more: int) -> None:
        """Waits until so many more batches are, but no longer than `PROGRESS_WITHIN`."""
        wanted = len(self.acknowledged()) + more
        for _ in range(int(PROGRESS_WITHIN / POLL)):
            if len(self.acknowledged()) >= wanted:
                return
            await asyncio.sleep(POLL)

    async def release(self) -> None:
        """Until cancelled: rota must not hold profiles back because their bots die again and again."""
        while True:
            await asyncio.sleep(RELEASE_EVERY)
            with contextlib.suppress(RotaError):
                await self._stage.release(self.profiles)

    async def end(self) -> None:
        """Kills the processes; their profiles are stopped and their server is listed no more."""
        await asyncio.gather(*(member.kill() for member in self.members))
        with contextlib.suppress(RotaError):
            await self._stage.order("stop", self.profiles)
            if self._server:
                await self._stage.rest.delete(f"/servers/{self._server}")

    async def audit(self) -> LedgerAccount:
        """Every record of theirs in the ledger, against what was acknowledged."""
        by_profile: dict[str, list[BatchName]] = {profile: [] for profile in self.profiles}
        for name in self.acknowledged():
            by_profile[name.profile].append(name)
        accounts = await in_parallel(
            (self._audit_one(profile, names) for profile, names in by_profile.items()), lambda _done: None
        )
        whole = LedgerAccount()
        for account in accounts:
            whole = whole.plus(account)
        return whole

    async def _audit_one(self, profile: str, names: list[BatchName]) -> LedgerAccount:
        rows = await self._stage.rows(profile)
        return audit(profile, names, rows, size=RECORDS)

    def _member(self, number: int) -> Member:
        stage = self._stage
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment |= {
            URL: stage.installation.url,
            KEY: stage.enrolment_key,
            BOTS: str(EACH),
            INTERVAL: str(stage.options.interval),
            TTL: str(stage.options.ttl),
        }
        name = f"{KIND}-{number + 1}"
        log = stage.installation.folder / f"{name}.log"
        return Member(name, ("rota.chaos.pusher", str(log.with_suffix(".notes")), name), environment, (), log)


async def everything_killed(stage: Stage) -> Injected:
    """Until so many records are acknowledged as were asked for; each kind of thing has died at least once by then."""
    pushers = Pushers(stage)
    killed: dict[str, int] = {}
    releasing = asyncio.create_task(pushers.release())
    try:
        await pushers.begin()
        victims = _victims(stage, pushers)
        kinds = {victim.kind for victim in victims}
        share = stage.options.records // (RECORDS * STROKES)
        while len(pushers.acknowledged()) * RECORDS < stage.options.records or len(killed) < len(kinds):
            await asyncio.sleep(stage.rng.uniform(*PAUSE))
            await pushers.until_acknowledged(share)
            missing = [victim for victim in victims if victim.kind not in killed]
            chosen = stage.rng.sample(victims, stage.rng.randint(1, AT_ONCE)) if not missing else missing[:1]
            await _strike(stage, chosen)
            for victim in chosen:
                killed[victim.kind] = killed.get(victim.kind, 0) + 1
        over = stage.now
        await asyncio.gather(*(member.kill() for member in pushers.members))
        unmet = await _judge(stage, pushers, killed)
    finally:
        releasing.cancel()
        await asyncio.gather(releasing, return_exceptions=True)
        await pushers.end()
    return Injected(sum(killed.values()), over, unmet)


def _victims(stage: Stage, pushers: Pushers) -> list[Victim]:
    there = stage.installation

    def store(name: str) -> Victim:
        return Victim(name, lambda: there.stores.kill(name), lambda: there.stores.begin(name))

    groups = {"web": there.web, "steward": there.stewards, "bots": pushers.members}
    processes = [Victim(kind, member.kill, member.start) for kind, group in groups.items() for member in group]
    # Each kind has the same chance, however many there are of it.
    return [*processes, *([store("postgres"), store("valkey")] * len(there.web))]


async def _strike(stage: Stage, victims: list[Victim]) -> None:
    stores = {victim.kind: victim for victim in victims if victim.kind in ("postgres", "valkey")}
    chosen = [*(victim for victim in victims if victim.kind not in stores), *stores.values()]
    await asyncio.gather(*(victim.kill() for victim in chosen))
    await asyncio.sleep(stage.rng.uniform(*DOWN))
    for victim in chosen:
        await victim.start()


async def _judge(stage: Stage, pushers: Pushers, killed: dict[str, int]) -> tuple[str, ...]:
    """What the ledger shows once it answers again, and a line that sums it up."""
    await stage.until_settled(stage.now - stage.options.interval)
    account = await pushers.audit()
    for kind, number in (("promise 2", account.stale), ("lost", account.lost), ("doubled", account.doubled)):
        for _ in range(number):
            stage.witness.note(kind, stage.now, f"{kind} among the pushed records")
    strokes = ", ".join(f"{kind} {number}" for kind, number in sorted(killed.items()))
    stage.tell(
        f"{PROCESSES * EACH} bots: {account.acknowledged * RECORDS} records acknowledged, {account.rows} in the "
        f"ledger; lost {account.lost}, doubled {account.doubled}, incomplete {account.incomplete}, out of order "
        f"{account.disordered}, under an old epoch {account.stale}; killed: {strokes}"
    )
    return account.texts
