"""Gathers the heartbeats that arrive in the same moment into one script call.

One gatherer per fleet and web worker: while a call is under way, later beats collect for the next one, so batches grow
with the load by themselves. This is the hot path: no task, no future and no object per beat; whoever brings one is
called with its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import msgpack
import structlog

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

    def add(self, fleet: str, bot: str, entry: bytes, deadline_ms: int, tell: Tell) -> None:
        """Lets one beat go with the others of this moment; `tell` is called with its answer, once.

        `entry` is the roster entry as it would be if nothing had changed (`entries.idle_entry`, `working_entry`).

        Raises:
            UnavailableError: too many wait; nothing was taken.
        """
        gatherer = self._gatherers.get(fleet)
        if gatherer is None:
            gatherer = self._gatherers[fleet] = _Gatherer(self._live, fleet)
        gatherer.add(bot, entry, deadline_ms, tell)

    def beat(self, fleet: str, bot: str, entry: bytes, deadline_ms: int) -> asyncio.Future[Answer | None]:
        """The same for whoever waits for the answer; an error comes from the future."""
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self.add(fleet, bot, entry, deadline_ms, partial(settle, future))
        return future

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


def settle(future: asyncio.Future[Answer | None], answer: Answer | RotaError | None) -> None:
    """Hands an answer to whoever awaits the future, if anybody still does."""
    if future.done():
        return
    if isinstance(answer, RotaError):
        future.set_exception(answer)
    else:
        future.set_result(answer)


class _Gatherer:
    def __init__(self, live: Live, fleet: str) -> None:
        self._live = live
        self._fleet = fleet
        self._beats: list[str | bytes] = []
        self._tells: list[Tell] = []
        self._deadline_ms = 0
        self._busy = False
        self._running: asyncio.Task[None] | None = None

    def add(self, bot: str, entry: bytes, deadline_ms: int, tell: Tell) -> None:
        if len(self._tells) >= MOST_WAITING:
            raise UnavailableError("Too many heartbeats at once.", retry_after=5)
        self._beats.append(bot)
        self._beats.append(entry)
        self._tells.append(tell)
        # The longest that anybody among them will be told.
        self._deadline_ms = max(self._deadline_ms, deadline_ms)
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._run())

    async def finished(self) -> None:
        if self._running is not None:
            await self._running

    async def _run(self) -> None:
        try:
            while self._tells:
                # What arrived in this turn of the event loop, and while the last call was under way, goes together.
                await asyncio.sleep(GATHER if self._busy and len(self._tells) < BATCH // 2 else 0)
                self._busy = len(self._tells) >= BUSY
                beats, self._beats = self._beats[: 2 * BATCH], self._beats[2 * BATCH :]
                tells, self._tells = self._tells[:BATCH], self._tells[BATCH:]
                deadline_ms, self._deadline_ms = self._deadline_ms, self._deadline_ms if self._tells else 0
                await self._call(beats, tells, deadline_ms)
        finally:
            self._running = None

    async def _call(self, beats: list[str | bytes], tells: list[Tell], deadline_ms: int) -> None:
        error: RotaError | None = None
        news: list[tuple[int, Answer]] = []
        try:
            news = await _call(self._live, self._fleet, beats, deadline_ms)
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


async def _call(live: Live, fleet: str, beats: Sequence[str | bytes], deadline_ms: int) -> list[tuple[int, Answer]]:
    """One script call; the places from 0 of the beats that are answered otherwise than that nothing is new."""
    # The store knows only the older, binary-safe string type.
    replies = await live.call("beat", fleet, msgpack.packb(beats, use_bin_type=False), deadline_ms)
    return [
        (index - 1, Answer(code.decode(), profile.decode(), int(epoch), int(revision)))
        for index, code, profile, epoch, revision in (replies[at : at + 5] for at in range(0, len(replies), 5))
    ]
