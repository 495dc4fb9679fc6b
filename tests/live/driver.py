"""Speaks for bots and clients in tests of live state, and lets time pass without waiting."""

from __future__ import annotations

import os
from typing import Any

from rota.live import bots, keys, profiles
from rota.live.beats import Answer, Beats
from rota.live.bots import Newcomer, Restored
from rota.live.entries import ProfileView, idle_entry, idle_entry_of, working_entry
from rota.live.scripts import Live
from rota.live.snapshot import profiles as profile_views
from rota.protocol import Working, deadline_after_ms

TTL = 90.0

_SHIFT = """
local by = tonumber(ARGV[1])
for _, key in ipairs({KEYS[1], KEYS[2]}) do
  local members = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #members, 2 do
    redis.call('ZADD', key, string.format('%.3f', members[i + 1] - by), members[i])
  end
end
for _, field in ipairs({'deaf', 'quiet', 'kept'}) do
  local value = redis.call('HGET', KEYS[3], field)
  if value then redis.call('HSET', KEYS[3], field, string.format('%.0f', math.max(0, value - by))) end
end
if ARGV[2] == '0' then
  redis.call('HSET', KEYS[3], 'heard', string.format('%.0f', redis.call('HGET', KEYS[3], 'heard') - by))
else
  local t = redis.call('TIME')
  redis.call('HSET', KEYS[3], 'heard', string.format('%.0f', t[1] * 1000 + t[2] / 1000))
end
local entries = redis.call('HGETALL', KEYS[4])
for i = 1, #entries, 2 do
  local head, since, after, lease, tail =
    string.match(entries[i + 1], '^(%S+ %d+ %d+ %S %S %d+) (%d+) (%d+) (%d+) (.*)$')
  local function back(value) return string.format('%.0f', math.max(0, value - by)) end
  redis.call('HSET', KEYS[4], entries[i],
    head .. ' ' .. back(since) .. ' ' .. back(after) .. ' ' .. back(lease) .. ' ' .. tail)
end
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
        digest = os.urandom(32)
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
        return await bots.resolve(self.live, self.fleet, bot, self.digests[bot], ttl=TTL, profile=profile, epoch=epoch)

    async def want(self, profile: str, want: str = "started", **changes: Any) -> int:
        """A wish with the next version unless `version` is given."""
        version = changes.pop("version", self.versions.get(profile, 0) + 1)
        self.versions[profile] = max(version, self.versions.get(profile, 0))
        wish = {"revision": 1, "priority": 0, "labels": {}, "epoch": 0} | changes
        return await profiles.want(
            self.live,
            self.fleet,
            [profiles.Want(profile=profile, version=version, want=want, **wish)],  # type: ignore[arg-type]
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

    async def pass_time(self, ms: float, *, hearing: bool = True) -> None:
        """Lets everything recorded be `ms` older; with `hearing` the web's pulse went on meanwhile."""
        await self._eval(
            _SHIFT,
            [keys.due(self.fleet), keys.held(self.fleet), keys.pulse(self.fleet), keys.profiles(self.fleet)],
            ms,
            int(hearing),
        )

    async def forget_run(self) -> None:
        """As if the store had been restarted without an orderly end."""
        await self.live.read(("HSET", keys.pulse(self.fleet), "run", "another"))

    async def _eval(self, script: str, names: list[str], *arguments: float) -> Any:
        (reply,) = await self.live.read(("EVAL", script, len(names), *names, *arguments))
        return reply
