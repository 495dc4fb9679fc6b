"""Speaks for bots and clients in tests of live state, and lets time pass without waiting."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from rota.errors import ProblemError
from rota.live import bots, keys, profiles
from rota.live.beats import Answer, Beats
from rota.live.bots import Newcomer, Restored
from rota.live.entries import ProfileView, idle_entry, idle_entry_of, working_entry
from rota.live.liveness import Pulse, pulse
from rota.live.scripts import Live
from rota.live.snapshot import profiles as profile_views
from rota.protocol import Working, deadline_after_ms

TTL = 90.0

_PASS = """
redis.call('HINCRBY', KEYS[1], 'offset', ARGV[1])
local t, offset = redis.call('TIME'), redis.call('HGET', KEYS[1], 'offset')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + offset)
if ARGV[2] == '1' then redis.call('HSET', KEYS[1], 'heard', now) end
if ARGV[3] == '1' then redis.call('HSET', KEYS[1], 'led', now) end
"""


class Driver:
    """One fleet. A bot is named by its id; its newest token's digest is remembered here."""

    def __init__(self, live: Live, fleet: str) -> None:
        self.live = live
        self.fleet = fleet
        self.digests: dict[str, bytes] = {}
        self.versions: dict[str, int] = {}
        self._beats = Beats(live)

    async def auth(
        self, bot: str, *, labels: dict[str, str] | None = None, leased: Working | None = None
    ) -> Restored | None:
        digest = os.urandom(16)
        restored = await bots.auth(
            self.live, self.fleet, Newcomer(bot, digest, "1", labels or {}, "::1"), ttl=TTL, leased=leased
        )
        self.digests[bot] = digest
        return restored

    async def beat(
        self,
        bot: str,
        working: Working | None = None,
        *,
        accepting: bool = True,
        digest: bytes | None = None,
        ended: tuple[str, int] | None = None,
    ) -> Answer:
        """The answer in full, also where the script leaves it out because there is nothing new."""
        token = digest or self.digests[bot]
        if working is None and ended is not None:
            entry = idle_entry_of(token, accepting=accepting, status="", profile=ended[0], epoch=ended[1])
        elif working is None:
            entry = idle_entry(token, accepting=accepting, status="")
        else:
            entry = working_entry(
                token, working.profile, working.epoch, working.revision, accepting=accepting, status=""
            )
        news = await self._beats.beat(self.fleet, bot, entry, deadline_after_ms(TTL))
        if news is not None:
            return news
        if working is None:
            return Answer("wait", "-", 0, 0)
        return Answer("continue", working.profile, working.epoch, working.revision)

    async def leave(self, bot: str, reason: str = "shutdown") -> None:
        await bots.leave(self.live, self.fleet, bot, self.digests[bot], reason)

    async def resolve(self, bot: str, profile: str | None = None, epoch: int | None = None) -> tuple[str, int]:
        (found,) = await bots.resolve(
            self.live, self.fleet, [bots.Claim(bot, self.digests[bot], profile, epoch)], ttl=TTL
        )
        if isinstance(found, ProblemError):
            raise found
        return found

    async def want(self, profile: str, want: str = "started", **changes: Any) -> int:
        """A wish with the next version unless `version` is given."""
        version = changes.pop("version", self.versions.get(profile, 0) + 1)
        anew = changes.pop("anew", False)
        self.versions[profile] = max(version, self.versions.get(profile, 0))
        wish = {"revision": 1, "priority": 0, "labels": {}, "epoch": 0} | changes
        return await profiles.want(
            self.live,
            self.fleet,
            [profiles.Want(profile=profile, version=version, want=want, **wish)],  # type: ignore[arg-type]
            anew=anew,
        )

    async def profile(self, profile: str) -> ProfileView:
        return (await profile_views(self.live, self.fleet, [profile]))[profile]

    async def working(self, bot: str, profile: str = "prf_1") -> Working:
        """Brings the bot to work on a new profile and returns what it works on."""
        await self.want(profile)
        await self.auth(bot)
        told = await self.beat(bot)
        assert told.code == "start"
        work = Working(profile=told.profile, epoch=told.epoch, revision=told.revision)
        assert (await self.beat(bot, work)).code == "continue"
        return work

    async def long_at_work(self, bot: str, profile: str = "prf_1") -> Working:
        """Brings the bot to work, for so long that its death is not its profile's fault."""
        work = await self.working(bot, profile)
        await self.pass_time(61_000)
        assert (await self.beat(bot, work)).code == "continue"
        return work

    async def pass_time(self, ms: float, *, hearing: bool = True, leading: bool = True) -> None:
        """Live state's clock goes on by `ms`; with `hearing` the web's pulse went on meanwhile, or the steward's."""
        await self._eval(_PASS, [keys.pulse(self.fleet)], round(ms), int(hearing), int(leading))

    async def offset(self) -> int:
        """By how many ms live state's clock is ahead of the store's."""
        ((offset,),) = await self.live.read(("HMGET", keys.pulse(self.fleet), "offset"))
        return int(offset)

    async def set_clock(self, ms: int) -> None:
        """As if somebody had set the store's clock: to what live state makes of it that is the same."""
        await self._eval(_PASS, [keys.pulse(self.fleet)], ms, 0, 0)

    async def pulse(self, *, step_ms: int | None = None) -> Pulse:
        """A web worker's pulse; one that has seen the clock before tells by how many ms it was set."""
        found = await pulse(self.live, self.fleet, "web", ttl=TTL)
        if step_ms is None and not found.gap:
            return found
        return await pulse(self.live, self.fleet, "web", ttl=TTL, seen=found.steps, step_ms=step_ms or 0)

    async def promote(self) -> int:
        """Lets whatever is due wait again."""
        return (await profiles.promote(self.live, self.fleet, 100))[0]

    async def forget_everything(self, servers: Sequence[str] = ("s1", "s2"), classes: Sequence[str] = ("-",)) -> None:
        """All keys are lost."""
        names = [*keys.script_keys(self.fleet)[:-2], *(keys.server(self.fleet, host) for host in servers)]
        await self.live.read(("DEL", *names, *(keys.waiting(self.fleet, class_) for class_ in classes)))

    async def forget_run(self) -> None:
        """As if the store had been restarted without an orderly end."""
        await self.live.read(("HSET", keys.pulse(self.fleet), "run", "another"))

    async def _eval(self, script: str, names: list[str], *arguments: float) -> Any:
        (reply,) = await self.live.read(("EVAL", script, len(names), *names, *arguments))
        return reply
