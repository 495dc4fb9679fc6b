"""Gathers the heartbeats that arrive in the same moment into one script call.

One gatherer per fleet and web worker: while a call is under way, later beats collect for the next one, so batches grow
with the load by themselves. This is the hot path: no task and no object per beat beyond its future.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import msgpack

from rota.errors import RotaError, UnavailableError
from rota.live.scripts import Live

BATCH = 128
"""Beats in one script call; 256 took up to 3 ms of the store's time."""
BUSY = 8
"""So many beats in one call, and the next one waits for more: what a call costs this side is shared by all in it."""
GATHER = 0.002
"""Seconds that it waits for them."""
MOST_WAITING = 20_000
"""Beats that may wait for their turn in one worker; above it they are told to come back."""


class Answer(NamedTuple):
    """What a bot is told other than `wait` (it reported no work) or `continue` (it did)."""

    code: str
    profile: str
    epoch: int
    revision: int


class Beats:
    """All fleets' gatherers of one web worker."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._gatherers: dict[str, _Gatherer] = {}

    def beat(self, fleet: str, bot: str, entry: bytes, deadline_ms: int) -> asyncio.Future[Answer | None]:
        """The answer to one beat; None where there is nothing new to say.

        `entry` is the roster entry as it would be if nothing had changed (`entries.idle_entry`, `working_entry`).

        Raises (from the future): UnavailableError.
        """
        gatherer = self._gatherers.get(fleet)
        if gatherer is None:
            gatherer = self._gatherers[fleet] = _Gatherer(self._live, fleet)
        return gatherer.add(bot, entry, deadline_ms)

    async def many(self, fleet: str, beats: Sequence[str | bytes], deadline_ms: int) -> dict[int, Answer]:
        """The answers to beats that came together, by their place from 0; nothing where there is nothing new to say.

        `beats` has a bot's id and its entry in turn.

        Raises:
            UnavailableError: the store is away.
        """
        news = {}
        for start in range(0, len(beats), 2 * BATCH):
            for index, answer in await _call(self._live, fleet, beats[start : start + 2 * BATCH], deadline_ms):
                news[start // 2 + index] = answer
        return news

    async def aclose(self) -> None:
        """Waits for the calls under way."""
        for gatherer in self._gatherers.values():
            await gatherer.finished()


class _Gatherer:
    def __init__(self, live: Live, fleet: str) -> None:
        self._live = live
        self._fleet = fleet
        self._beats: list[str | bytes] = []
        self._futures: list[asyncio.Future[Answer | None]] = []
        self._deadline_ms = 0
        self._busy = False
        self._running: asyncio.Task[None] | None = None
        # Asked once: before Python 3.12 it costs a system call each time, a tenth of a whole heartbeat.
        self._loop = asyncio.get_running_loop()

    def add(self, bot: str, entry: bytes, deadline_ms: int) -> asyncio.Future[Answer | None]:
        if len(self._futures) >= MOST_WAITING:
            raise UnavailableError("Too many heartbeats at once.", retry_after=5)
        future: asyncio.Future[Answer | None] = self._loop.create_future()
        self._beats.append(bot)
        self._beats.append(entry)
        self._futures.append(future)
        self._deadline_ms = deadline_ms
        if self._running is None:
            self._running = self._loop.create_task(self._run())
        return future

    async def finished(self) -> None:
        if self._running is not None:
            await self._running

    async def _run(self) -> None:
        try:
            while self._futures:
                # What arrived in this turn of the event loop, and while the last call was under way, goes together.
                await asyncio.sleep(GATHER if self._busy and len(self._futures) < BATCH // 2 else 0)
                self._busy = len(self._futures) >= BUSY
                beats, self._beats = self._beats[: 2 * BATCH], self._beats[2 * BATCH :]
                futures, self._futures = self._futures[:BATCH], self._futures[BATCH:]
                await self._call(beats, futures)
        finally:
            self._running = None

    async def _call(self, beats: list[str | bytes], futures: list[asyncio.Future[Answer | None]]) -> None:
        try:
            news = await _call(self._live, self._fleet, beats, self._deadline_ms)
        except RotaError as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        for index, answer in news:
            if not futures[index].done():
                futures[index].set_result(answer)
        for future in futures:
            if not future.done():
                future.set_result(None)


async def _call(live: Live, fleet: str, beats: Sequence[str | bytes], deadline_ms: int) -> list[tuple[int, Answer]]:
    """One script call; the places from 0 of the beats that are answered otherwise than that nothing is new."""
    # The store knows only the older, binary-safe string type.
    replies = await live.call("beat", fleet, msgpack.packb(beats, use_bin_type=False), deadline_ms)
    return [
        (index - 1, Answer(code.decode(), profile.decode(), int(epoch), int(revision)))
        for index, code, profile, epoch, revision in (replies[at : at + 5] for at in range(0, len(replies), 5))
    ]
