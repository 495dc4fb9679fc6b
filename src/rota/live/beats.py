"""Gathers the heartbeats that arrive in the same moment into one script call.

One gatherer per fleet and web worker: while a call is under way, later beats collect for the next one, so batches grow
with the load by themselves. This is the hot path: no task, no future and no object per beat; whoever brings one is
called with its answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple

import msgpack
import structlog

from rota.errors import RotaError, UnavailableError
from rota.live.entries import DIGEST_BYTES
from rota.live.scripts import Live

BATCH = 64
"""Beats in one script call: with the work that some are given, it holds a store of a million bots for 2 ms."""
BATCH_AT_WORK = 256
"""The same where all of them report work, so that nobody can be given any."""
BUSY = 8
"""So many beats in one call, and the next one waits for more: what a call costs this side is shared by all in it."""
GATHER = 0.002
"""Seconds that it waits for them."""
MOST_WAITING = 20_000
"""Beats that may wait for their turn in one worker; above it they are told to come back. Half of it for idle bots."""
MOST_OF_CALLS = 100_000
"""Beats that came together, in calls of many, and may wait for their answers in one worker: each costs a fifth of one
that came by itself. Above half of it those of idle bots are put off."""
BINDINGS_A_CALL = 12
"""Bots to which one script call gives work at most, as in beat.lua."""
_IDLE = ord("i")


log = structlog.get_logger(__name__)


class Answer(NamedTuple):
    """What a bot is told other than `wait` (it reported no work) or `continue` (it did)."""

    code: str
    profile: str
    epoch: int
    revision: int


Tell = Callable[[Answer | RotaError | None], None]
"""Is called with the answer to a beat: None where there is nothing new to say, an error where the store is away."""


class Beats:
    """All fleets' gatherers of one web worker."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._gatherers: dict[str, _Gatherer] = {}
        self._slowest = 0.0
        self._of_calls = 0
        """Beats of `many` under way."""

    def take_slowest(self) -> float:
        """Seconds that the slowest script call took since this was last asked; those that failed do not count."""
        slowest, self._slowest = self._slowest, 0.0
        return slowest

    def add(self, fleet: str, bot: str, entry: bytes, deadline_ms: int, tell: Tell) -> None:
        """Lets one beat go with the others of this moment; `tell` is called with its answer, once.

        `entry` is the roster entry as it would be if nothing had changed (`entries.idle_entry`, `working_entry`).

        Raises:
            UnavailableError: too many wait; nothing was taken.
        """
        gatherer = self._gatherers.get(fleet)
        if gatherer is None:
            gatherer = self._gatherers[fleet] = _Gatherer(partial(self._call, fleet))
        gatherer.add(bot, entry, deadline_ms, tell)

    def beat(self, fleet: str, bot: str, entry: bytes, deadline_ms: int) -> asyncio.Future[Answer | None]:
        """The same for whoever waits for the answer; an error comes from the future."""
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self.add(fleet, bot, entry, deadline_ms, partial(settle, future))
        return future

    async def many(
        self, fleet: str, beats: Sequence[str | bytes], deadline_ms: int
    ) -> dict[int, Answer | UnavailableError]:
        """The answers to beats that came together, by their place from 0; nothing where there is nothing new to say.

        `beats` has a bot's id and its entry in turn. While too many wait, idle bots are put off: an error each.

        Raises:
            UnavailableError: the store is away, or too many wait for any of these; none was taken then.
        """
        places, number = self._admitted(beats), len(beats) // 2
        news: dict[int, Answer | UnavailableError] = {}
        if len(places) < number:
            news = dict.fromkeys(set(range(number)).difference(places), _too_many())
            beats = [part for at in places for part in beats[2 * at : 2 * at + 2]]
        self._of_calls += len(places)
        try:
            done = 0
            while done < len(places):
                step = _first(beats[2 * done :])
                for index, answer in await self._call(fleet, step, deadline_ms):
                    news[places[done + index]] = answer
                done += len(step) // 2
        finally:
            self._of_calls -= len(places)
        return news

    async def aclose(self) -> None:
        """Waits for the calls under way."""
        for gatherer in self._gatherers.values():
            await gatherer.finished()

    def _admitted(self, beats: Sequence[str | bytes]) -> Sequence[int]:
        """The places of those for which there is room: all, or the bots' that are at work."""
        number = len(beats) // 2
        if self._of_calls + number <= MOST_OF_CALLS // 2:
            return range(number)
        working = [at for at in range(number) if beats[2 * at + 1][DIGEST_BYTES] != _IDLE]
        if not working or self._of_calls + len(working) > MOST_OF_CALLS:
            raise _too_many()
        return working

    async def _call(self, fleet: str, beats: Sequence[str | bytes], deadline_ms: int) -> list[tuple[int, Answer]]:
        """The places from 0 of the beats that are answered otherwise than that nothing is new, with their answers."""
        news = latest = await self._ask(fleet, beats, deadline_ms)
        while sum(answer.code == "start" for _, answer in latest) >= BINDINGS_A_CALL:
            # More may wait: whoever got no work asks again, until a call has not given all that it may.
            told = {place for place, _ in news}
            left = [at for at in range(len(beats) // 2) if at not in told and beats[2 * at + 1][DIGEST_BYTES] == _IDLE]
            if not left:
                break
            again = [part for at in left for part in beats[2 * at : 2 * at + 2]]
            latest = [(left[at], answer) for at, answer in await self._ask(fleet, again, deadline_ms)]
            news = news + latest
        return news

    async def _ask(self, fleet: str, beats: Sequence[str | bytes], deadline_ms: int) -> list[tuple[int, Answer]]:
        """One script call."""
        began = time.monotonic()
        # The store knows only the older, binary-safe string type.
        replies = await self._live.call("beat", fleet, msgpack.packb(beats, use_bin_type=False), deadline_ms)
        self._slowest = max(self._slowest, time.monotonic() - began)
        return [
            (index - 1, Answer(code.decode(), profile.decode(), int(epoch), int(revision)))
            for index, code, profile, epoch, revision in (replies[at : at + 5] for at in range(0, len(replies), 5))
        ]


def _first(beats: Sequence[str | bytes]) -> Sequence[str | bytes]:
    """As many of the first of these as go into one script call."""
    some = beats[: 2 * BATCH_AT_WORK]
    return some[: 2 * BATCH] if any(entry[DIGEST_BYTES] == _IDLE for entry in some[1::2]) else some


def settle(future: asyncio.Future[Answer | None], answer: Answer | RotaError | None) -> None:
    """Hands an answer to whoever awaits the future, if anybody still does."""
    if future.done():
        return
    if isinstance(answer, RotaError):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _too_many() -> UnavailableError:
    return UnavailableError("Too many heartbeats at once.", retry_after=5)


class _Queue:
    """Beats that wait for their turn."""

    def __init__(self) -> None:
        self.beats: list[str | bytes] = []
        self.tells: list[Tell] = []

    def take(self, number: int) -> tuple[list[str | bytes], list[Tell]]:
        """The first so many, which are then gone."""
        beats, self.beats = self.beats[: 2 * number], self.beats[2 * number :]
        tells, self.tells = self.tells[:number], self.tells[number:]
        return beats, tells


class _Gatherer:
    def __init__(self, call: Callable[[list[str | bytes], int], Awaitable[list[tuple[int, Answer]]]]) -> None:
        self._call = call
        self._working = _Queue()
        self._idle = _Queue()
        self._deadline_ms = 0
        self._busy = False
        self._running: asyncio.Task[None] | None = None

    def add(self, bot: str, entry: bytes, deadline_ms: int, tell: Tell) -> None:
        # Who works has a lease to lose, who is idle only its place in the roster.
        idle = entry[DIGEST_BYTES] == _IDLE
        queue, most = (self._idle, MOST_WAITING // 2) if idle else (self._working, MOST_WAITING)
        if len(queue.tells) >= most:
            raise _too_many()
        queue.beats.append(bot)
        queue.beats.append(entry)
        queue.tells.append(tell)
        # The longest that anybody among them will be told.
        self._deadline_ms = max(self._deadline_ms, deadline_ms)
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run())

    def __len__(self) -> int:
        return len(self._working.tells) + len(self._idle.tells)

    async def finished(self) -> None:
        if self._running is not None:
            await self._running

    async def _run(self) -> None:
        try:
            while len(self):
                # What arrived in this turn of the event loop, and while the last call was under way, goes together.
                await asyncio.sleep(GATHER if self._busy and len(self) < BATCH // 2 else 0)
                self._busy = len(self) >= BUSY
                beats, tells = self._working.take(BATCH)
                if len(tells) < BATCH and self._idle.tells:
                    more_beats, more_tells = self._idle.take(BATCH - len(tells))
                    beats, tells = beats + more_beats, tells + more_tells
                deadline_ms, self._deadline_ms = self._deadline_ms, self._deadline_ms if len(self) else 0
                await self._send(beats, tells, deadline_ms)
        finally:
            self._running = None

    async def _send(self, beats: list[str | bytes], tells: list[Tell], deadline_ms: int) -> None:
        error: RotaError | None = None
        news: list[tuple[int, Answer]] = []
        try:
            news = await self._call(beats, deadline_ms)
        except RotaError as away:
            error = away
        except BaseException:
            for tell in tells:
                _say(tell, UnavailableError())
            raise
        for index, answer in news:
            _say(tells[index], answer)
            tells[index] = _nobody
        for tell in tells:
            _say(tell, error)


def _say(tell: Tell, answer: Answer | RotaError | None) -> None:
    """One who cannot take its answer must not keep the others from theirs."""
    try:
        tell(answer)
    except Exception:
        log.exception("an answer could not be told")


def _nobody(_: object) -> None:
    return
