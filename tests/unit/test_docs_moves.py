"""The tables of moves in `docs/states.md` are what the scripts do.

No move that a long random walk makes is missing, and none stands there that neither the walk nor one of the stories of
a binding makes. The scripts run as they are, against a real store, with a line more where they write down a phase.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from itertools import product
from random import Random

import pytest

from rota.errors import NotFoundError, SlotContestedError, UnknownBotError
from rota.live import bots, keys, liveness, profiles, scripts
from rota.live.entries import BOT_PHASES, PROFILE_PHASES
from rota.live.scripts import Live
from rota.protocol import Working
from tests.live.conftest import build
from tests.live.driver import TTL, Driver
from tests.unit.test_docs_states import moves

BOTS = ("host-1/1", "host-1/2", "host-2/1")
PROFILES = 3
STEPS = 6_000
CRASHES = 6
"""As many as it takes for a hold that is longer than a lease."""
LATE_MS = TTL * 1_200
LOG = "{moves}"
_TELL = f"call('RPUSH', '{LOG}', '%s ' .. %s .. ' ' .. %s .. ' VERB')"
PLACES = {
    "local function put_bot(id, bot, was)": _TELL % ("bot", "(was or '-')", "bot.phase"),
    "local function remove_bot(id, bot)": _TELL % ("bot", "bot.phase", "'-'"),
    "local function move_profile(id, p, phase)": _TELL % ("profile", "(p.phase or '-')", "phase"),
}
NAMES = {"bot": BOT_PHASES, "profile": PROFILE_PHASES}


def telling(verb: str, source: str) -> str:
    """The script, with a line that logs every phase that it writes."""
    for place, line in PLACES.items():
        assert source.count(place) == 1
        source = source.replace(place, f"{place}\n{line.replace('VERB', verb)}")
    return source


class Walk:
    """Bots and clients that do one thing after the other, in any order."""

    def __init__(self, live: Live, fleet: str, seed: int) -> None:
        self.random = Random(seed)
        self.driver = Driver(live, fleet)
        self.live, self.fleet = live, fleet
        self.born = PROFILES
        self.profiles = [f"prf_{number}" for number in range(PROFILES)]
        self.told: dict[str, Working | None] = {}
        self.leases: list[Working] = []

    async def step(self) -> None:
        """One thing that somebody does; what is refused does not matter."""
        deeds: dict[Callable[[], Awaitable[object]], float] = {
            self.beat: 30,
            self.want: 8,
            self.auth: 8,
            self.pass_time: 5,
            self.steward: 5,
            self.leave: 3,
            self.kill: 3,
            self.drain: 2,
            self.delete: 2,
            self.release: 2,
            self.restart: 0.5,
        }
        (deed,) = self.random.choices(list(deeds), list(deeds.values()))
        try:
            await deed()
        except (NotFoundError, SlotContestedError, UnknownBotError):
            return

    async def want(self) -> None:
        wish = self.random.choice(("started", "started", "stopped"))
        await self.driver.want(self.random.choice(self.profiles), wish, revision=self.random.randrange(1, 3))

    async def delete(self) -> None:
        """What is deleted never comes back, so another takes its place, which may be deleted before anybody knew it."""
        at = self.random.randrange(len(self.profiles))
        await self.driver.want(self.profiles[at], "deleted")
        self.born += 1
        self.profiles[at] = f"prf_{self.born}"

    async def beat(self) -> None:
        bot = self.random.choice(BOTS)
        if bot not in self.driver.digests:
            return
        says = self.random.choice((self.told.get(bot), self.told.get(bot), None))
        told = await self.driver.beat(bot, says, accepting=self.random.random() < 0.95)
        if told.code == "start":
            granted = Working(profile=told.profile, epoch=told.epoch, revision=told.revision)
            self.told[bot] = granted
            self.leases = [*self.leases, granted][-12:]
        elif told.code == "stop" and self.random.random() < 0.5:
            self.told[bot] = None

    async def auth(self) -> None:
        bot = self.random.choice(BOTS)
        leased = self.random.choice((None, self.told.get(bot), *self.leases[-4:]))
        restored = await self.driver.auth(bot, leased=leased)
        self.told[bot] = leased if restored else None

    async def leave(self) -> None:
        bot = self.random.choice(BOTS)
        if bot in self.driver.digests:
            await self.driver.leave(bot, self.random.choice(("shutdown", "crash")))

    async def kill(self) -> None:
        await bots.kill(self.live, self.fleet, self.random.choice(BOTS))

    async def drain(self) -> None:
        await bots.drain(self.live, self.fleet, self.random.choice(BOTS), draining=self.random.random() < 0.25)

    async def release(self) -> None:
        await profiles.release(self.live, self.fleet, self.random.choice(self.profiles))

    async def pass_time(self) -> None:
        await self.driver.pass_time(self.random.choice((1_000, 15_000, LATE_MS)))

    async def steward(self) -> None:
        duty = self.random.choice((liveness.reap, profiles.promote))
        await duty(self.live, self.fleet, 100)

    async def restart(self) -> None:
        await self.driver.forget_run()


class Story:
    """One bot and one profile, brought into a state of a binding and then to its end."""

    def __init__(self, live: Live, fleet: str) -> None:
        self.driver = Driver(live, fleet)
        self.live, self.fleet, self.bot = live, fleet, BOTS[0]

    async def begin(self, *, holding: bool) -> None:
        """Works; `holding`: in spite of a hold that lasts for longer than a lease."""
        self.work = await self.driver.working(self.bot)
        for _ in range(CRASHES if holding else 0):
            await self.driver.leave(self.bot, "crash")
            assert await self.driver.auth(self.bot, leased=self.work)

    async def starting(self) -> None:
        await self.driver.auth(self.bot)

    async def working(self) -> None:
        return

    async def drained(self) -> None:
        await bots.drain(self.live, self.fleet, self.bot, draining=True)

    async def stopped(self) -> None:
        await self.driver.want(self.work.profile, "stopped")

    async def deleted(self) -> None:
        await self.driver.want(self.work.profile, "deleted")

    async def beat(self) -> None:
        await self.driver.beat(self.bot)

    async def shutdown(self) -> None:
        await self.driver.leave(self.bot)

    async def crash(self) -> None:
        await self.driver.leave(self.bot, "crash")

    async def silence(self) -> None:
        await self.driver.pass_time(LATE_MS)
        await liveness.reap(self.live, self.fleet, 1)

    async def late_silence(self) -> None:
        """It has been heard long enough for its death not to be its profile's fault."""
        await self.driver.pass_time(70_000)
        await self.driver.beat(self.bot)
        await self.silence()

    async def kill(self) -> None:
        await bots.kill(self.live, self.fleet, self.bot)

    async def late_kill(self) -> None:
        await self.driver.pass_time(LATE_MS)
        await self.kill()

    async def parting(self) -> None:
        """The ledger knows a newer epoch."""
        await self.driver.want(self.work.profile, epoch=self.work.epoch + 10**12, anew=True)

    async def late_parting(self) -> None:
        await self.driver.pass_time(LATE_MS)
        await self.parting()

    async def other_work(self) -> None:
        await self.driver.auth(self.bot, leased=Working(profile="prf_other", epoch=1))

    async def late_other_work(self) -> None:
        await self.driver.pass_time(LATE_MS)
        await self.other_work()

    async def torn_from_profile(self) -> None:
        """Somebody wrote to the store: the profile is gone from it."""
        await self.live.read(("HDEL", keys.profiles(self.fleet), self.work.profile))
        await bots.mend(self.live, self.fleet, self.bot, self.work.profile)

    async def torn_from_bot(self) -> None:
        """The same, but the bot."""
        await self.live.read(("HDEL", keys.roster(self.fleet), self.bot))
        await bots.mend(self.live, self.fleet, self.bot, self.work.profile)

    async def repeated_auth(self) -> None:
        """A repeated auth was taken for another process, which is at work already."""
        await self.driver.auth(self.bot)
        told = await self.driver.beat(self.bot)
        if told.code == "start":
            granted = Working(profile=told.profile, epoch=told.epoch, revision=told.revision)
            await self.driver.beat(self.bot, granted)
        await self.driver.auth(self.bot, leased=self.work)

    async def free_work(self) -> None:
        await self.driver.want("prf_other")
        await self.other_work()


STATES = (Story.starting, Story.working, Story.drained, Story.stopped, Story.deleted)
ENDS = (
    Story.beat,
    Story.shutdown,
    Story.crash,
    Story.silence,
    Story.late_silence,
    Story.kill,
    Story.late_kill,
    Story.parting,
    Story.late_parting,
    Story.other_work,
    Story.late_other_work,
    Story.free_work,
    Story.repeated_auth,
    Story.torn_from_profile,
    Story.torn_from_bot,
)


@pytest.fixture
def told_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {verb: telling(verb, source) for verb, source in scripts.assembled().items()}
    digests = {verb: hashlib.sha1(source.encode()).hexdigest() for verb, source in sources.items()}  # noqa: S324
    monkeypatch.setattr(scripts, "assembled", lambda: sources)
    monkeypatch.setattr(scripts, "_digests", lambda: digests)


async def made(live: Live, fleet: str) -> dict[str, set[tuple[str, str, str]]]:
    """Every move that the stories and a walk make, of bots and of profiles."""
    await live.read(("DEL", LOG))
    for number, (state, end, holding) in enumerate(product(STATES, ENDS, (False, True))):
        await build(live, f"{fleet}-{number}")
        story = Story(live, f"{fleet}-{number}")
        await story.begin(holding=holding)
        await state(story)
        await end(story)
    await build(live, fleet)
    walk = Walk(live, fleet, seed=7)
    for _ in range(STEPS):
        await walk.step()
    (log,) = await live.read(("LRANGE", LOG, 0, -1))
    found: dict[str, set[tuple[str, str, str]]] = {"bot": set(), "profile": set()}
    for side, start, end, verb in (entry.decode().split() for entry in log):
        if start != end:
            found[side].add((NAMES[side].get(start, "new"), NAMES[side].get(end, "gone"), verb))
    return found


async def test_the_moves_of_the_page_are_those_that_the_scripts_make(
    valkey_url: str, fleet: str, told_moves: None
) -> None:
    live = Live(valkey_url)
    try:
        found = await made(live, fleet)
    finally:
        await live.aclose()
    for side, title in (("profile", "## Profiles"), ("bot", "## Bots")):
        told = set(moves(title))
        assert not sorted(found[side] - told), f"moves of a {side} that are not told"
        assert not sorted(told - found[side]), f"moves of a {side} that are told and never made"
