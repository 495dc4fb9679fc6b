"""Real bots of the real SDK, in processes of their own, that are stopped for longer than their leases last."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from rota.chaos import strokes
from rota.chaos.members import Member
from rota.chaos.scenario import Injected
from rota.chaos.stage import POLL, Stage
from rota.chaos.worker import KIND, KINDS, LASTING
from rota.errors import RotaError
from rota.settings import PREFIX

HOSTNAME = "sdk-1"
OF_A_KIND = 2
"""Workers, for one profile: whoever does not work for it can take it over."""
WORKERS, PROFILES = OF_A_KIND * len(KINDS), len(KINDS)
RESTARTED_AFTER = 0.5
OVERLAPPED = 0.5
"""Seconds for which the others work already when the stopped ones are continued."""
WITHIN = 4.0
"""Times the ttl, and `GRACE` seconds more, that anything here may take."""
GRACE = 20.0


class Crew:
    """Workers on a server of their own, with a supervisor that starts again whoever ends."""

    def __init__(self, stage: Stage) -> None:
        self.members: list[Member] = []
        self.profiles: list[str] = []
        self.frozen: list[Member] = []
        """Those that are stopped; who ends meanwhile is not started again before the others go on."""
        self._stage = stage
        self._server = ""
        self._supervisor: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Makes the server and the profiles, starts the workers, and waits until every profile is worked on.

        Raises:
            RotaError: that takes too long, or rota refuses.
        """
        rest, fleet = self._stage.rest, self._stage.fleet
        made = await rest.post("/servers", {"hostname": HOSTNAME, "expected_bots": WORKERS, "fleet": fleet})
        self._server = made["id"]
        for kind in KINDS:
            wish = {"name": f"sdk-{kind}", "fleet": fleet, "labels": {KIND: kind}, "start": True}
            self.profiles.append((await rest.post("/profiles", wish))["id"])
        self.members = [self._member(number) for number in range(WORKERS)]
        for member in self.members:
            await member.start()
        self._supervisor = asyncio.create_task(self._supervise())
        await self.until(lambda: len(self.newest()) == PROFILES, "every profile is worked on")
        await self.until_complete()

    def noted(self) -> list[strokes.Stroke]:
        """All that the workers have noted."""
        return [stroke for member in self.members for stroke in strokes.read(member.name, _notes(member))]

    def freeze(self, names: set[str]) -> None:
        """Stops the workers of these names."""
        self.frozen = [member for member in self.members if member.name in names]
        for member in self.frozen:
            member.freeze()

    def thaw(self) -> list[str]:
        """Lets those that are stopped go on, and says what is wrong where one lives that should not."""
        alive = [member for member in self.frozen if member.running]
        for member in alive:
            member.thaw()
        self.frozen = []
        return [f"{member.name} was still there beyond its lease" for member in alive if not lasting(member)]

    def newest(self) -> dict[str, strokes.Stroke]:
        """Profile → the first stroke under its newest epoch."""
        return strokes.newest(self.noted())

    async def until(self, reached: Callable[[], bool], what: str) -> None:
        """Waits for something.

        Raises:
            RotaError: it does not come.
        """
        deadline = self._stage.now + WITHIN * self._stage.options.ttl + GRACE
        while not reached():
            if self._stage.now > deadline:
                said = "\n".join(f"{member.name}: {member.last_words()}" for member in self.members)
                raise RotaError(f"it did not come to this: {what}\n{said}")
            await asyncio.sleep(POLL)

    async def until_complete(self) -> None:
        """Waits until every worker is on the roster."""
        deadline = self._stage.now + WITHIN * self._stage.options.ttl + GRACE
        while len(await self._roster()) < WORKERS:
            if self._stage.now > deadline:
                raise RotaError("not every worker is on the roster")
            await asyncio.sleep(2 * POLL)

    async def kept(self, profile: str) -> list[strokes.Kept]:
        """A profile's records as the ledger holds them."""
        offset = time.time() - time.monotonic()
        rows = self._stage.rest.pages(f"/profiles/{profile}/records")
        return [
            strokes.Kept(
                row["epoch"],
                row["data"]["number"],
                datetime.fromisoformat(row["received_at"]).timestamp() - offset,
            )
            async for row in rows
        ]

    async def end(self) -> None:
        """Ends the workers, stops their profiles and takes the server off the list."""
        if self._supervisor:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        for member in self.members:
            member.thaw()
        await asyncio.gather(*(member.end() for member in self.members))
        with contextlib.suppress(RotaError):
            await self._stage.order("stop", self.profiles)
        with contextlib.suppress(RotaError):
            if self._server:
                await self._stage.rest.delete(f"/servers/{self._server}")

    async def _roster(self) -> list[object]:
        found = await self._stage.rest.get("/bots", fleet=self._stage.fleet, server=HOSTNAME)
        items: list[object] = found["items"]
        return items

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(RESTARTED_AFTER)
            for member in self.members:
                if not member.running and member not in self.frozen:
                    await member.start()

    def _member(self, number: int) -> Member:
        stage = self._stage
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment |= {
            f"{PREFIX}URL": stage.installation.front_url,
            f"{PREFIX}ENROLMENT_KEY": stage.enrolment_key,
            f"{PREFIX}INSTANCE": str(number + 1),
        }
        log = stage.installation.folder / f"worker-{number + 1}.log"
        log.with_suffix(".notes").unlink(missing_ok=True)  # of an earlier crew
        kind = KINDS[number % len(KINDS)]
        command = ("rota.chaos.worker", str(log.with_suffix(".notes")), HOSTNAME, kind)
        return Member(f"{HOSTNAME}/{number + 1} ({kind})", command, environment, (), log)


async def sdk_stopped(stage: Stage) -> Injected:
    """Whoever works is stopped until others have all its work, and then goes on, if it is still there: with nothing."""
    crew = Crew(stage)
    try:
        await crew.begin()
        before = crew.newest()
        victims = {stroke.worker for stroke in before.values()}
        crew.freeze(victims)
        await crew.until(lambda: _all_newer(crew.newest(), before), "others work for the profiles of those stopped")
        await asyncio.sleep(OVERLAPPED)
        over = stage.now
        unmet = crew.thaw()
        await crew.until_complete()
        await asyncio.sleep(OVERLAPPED)
        unmet += await _judge(stage, crew)
    finally:
        await crew.end()
    return Injected(len(victims), over, tuple(unmet))


def _all_newer(now: dict[str, strokes.Stroke], before: dict[str, strokes.Stroke]) -> bool:
    return all(now[profile].epoch > stroke.epoch for profile, stroke in before.items())


async def _judge(stage: Stage, crew: Crew) -> list[str]:
    """Notes what the workers' own notes and the ledger show; returns what was lost."""
    noted, missing = crew.noted(), list[str]()
    for text in strokes.overlaps(noted, [member.name for member in crew.members if lasting(member)]):
        stage.witness.note("promise 1", stage.now, text)
    for profile in crew.profiles:
        kept = await crew.kept(profile)
        for text in strokes.stale(profile, noted, kept):
            stage.witness.note("promise 2", stage.now, text)
        missing += strokes.lost(profile, noted, kept)
    return missing


def lasting(worker: Member) -> bool:
    """Whether the SDK may not end this worker's process, so that it lives beyond its lease."""
    return LASTING in worker.name


def _notes(member: Member) -> Path:
    return member.log.with_suffix(".notes")
