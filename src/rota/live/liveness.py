"""Pulse and reaping: who is heard, who has fallen silent, and when silence is held against nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple

from rota.live.entries import moment
from rota.live.scripts import Live
from rota.protocol import deadline_after_ms

STEP_LEAST_MS = 250.0
"""A step of the store's clock that is smaller does nobody harm."""
RATE_SHARE = 0.05
"""By how much the rates of two clocks may differ; what is more is a step."""


@dataclass(frozen=True)
class Pulse:
    """What live state says of itself; no `incarnation` means that it is empty and has to be built.

    `now` is its clock in ms, and `steps` how often the store's was set and that was made good. With `gap` rota has not
    heard for so long that the web is asked whether that is the clock's doing before anything is noted. `bots`
    is how many are on the roster.
    """

    incarnation: str | None
    built: bool
    deaf_until: datetime | None
    quiet_until: datetime | None
    now: int
    steps: int
    gap: bool
    bots: int


@dataclass(frozen=True)
class Reaped:
    """One step of reaping; `deaf` means that nobody was looked at."""

    count: int
    more: bool
    deaf: bool


async def pulse(
    live: Live,
    fleet: str,
    who: Literal["web", "steward", "built", "seal"],
    *,
    ttl: float,
    incarnation: str = "",
    known: str = "",
    seen: int | None = None,
    step_ms: int = 0,
) -> Pulse:
    """Says that `who` is there; see `lua/pulse.lua` for what each one changes. `known` is the ledger's incarnation.

    `seen` is the number of steps that were known when the web looked at live state's clock, and `step_ms` by how much
    it found it to have been set.
    """
    under = "" if seen is None else seen
    reply = await live.call("pulse", fleet, who, deadline_after_ms(ttl), incarnation, known, under, step_ms)
    name, built, deaf, quiet, now, steps, gap, bots = reply
    return Pulse(
        incarnation=name.decode() or None,
        built=bool(built),
        deaf_until=moment(int(deaf)),
        quiet_until=moment(int(quiet)),
        now=int(now),
        steps=int(steps),
        gap=bool(gap),
        bots=int(bots),
    )


class Hearing:
    """The pulse of one web worker for one fleet, which also notices when somebody sets the store's clock.

    Between two pulses a worker's own monotonic clock tells how much time can have passed. Where live state's has gone
    further, or back, it was set, and goes on where it stood. A worker that has just started cannot tell: it leaves a
    gap to the others for one pulse.
    """

    def __init__(self, live: Live, fleet: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` is the worker's own, in seconds, which nobody sets."""
        self._live = live
        self._fleet = fleet
        self._clock = clock
        self._last: _Reading | None = None

    async def pulse(self, ttl: float) -> Pulse:
        """Says that rota hears; called about once a second.

        Raises:
            UnavailableError: the store is away.
        """
        reading, found = await self._read(ttl)
        step = self._last.step_to(reading) if self._last else 0
        if step or (found.gap and self._last):
            reading, found = await self._read(ttl, seen=found.steps, step_ms=step)
        self._last = reading
        return found

    async def _read(self, ttl: float, *, seen: int | None = None, step_ms: int = 0) -> tuple[_Reading, Pulse]:
        sent = self._clock()
        found = await pulse(self._live, self._fleet, "web", ttl=ttl, seen=seen, step_ms=step_ms)
        return _Reading(found.now, found.steps, sent * 1000, self._clock() * 1000), found


class _Reading(NamedTuple):
    """Live state's clock, and between which moments of the worker's own it stood so, in ms."""

    now: int
    steps: int
    sent: float
    received: float

    def step_to(self, later: _Reading) -> int:
        """By how many ms live state's clock was set between two readings; 0 where it need not have been.

        Where somebody has made a step good meanwhile, the two cannot be compared.
        """
        if later.steps != self.steps:
            return 0
        passed = later.now - self.now
        least, most = later.sent - self.received, later.received - self.sent
        tolerance = max(STEP_LEAST_MS, RATE_SHARE * most)
        if passed > most + tolerance:
            return round(passed - most)
        if passed < least - tolerance:
            return round(passed - least)
        return 0


async def reap(live: Live, fleet: str, limit: int) -> Reaped:
    """Removes at most `limit` bots whose deadline has passed."""
    count, more = await live.call("reap", fleet, limit)
    return Reaped(count=max(0, int(count)), more=bool(more), deaf=int(count) < 0)
