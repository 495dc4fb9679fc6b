"""A proxy between the bots and rota that knows HTTP requests: it can delay, double, reorder and swallow.

Without an order to do so it only passes them on. A request that is held back arrives in the end even if its bot has
given up meanwhile, as in a network.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

CHUNK = 65536
LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
OVERTAKEN_WITHIN = 1.0
"""Seconds after which a request that is held to be overtaken goes on anyway."""


class Mischief(StrEnum):
    """What may happen to a request."""

    DELAYED = "delayed"
    DOUBLED = "doubled"
    REORDERED = "reordered"
    SWALLOWED = "reply dropped"


@dataclass(frozen=True)
class Unruly:
    """How unruly the network is: the chance of each mischief, and the longest delay in seconds."""

    share: float
    longest: float


class Front:
    """Listens on a port of the loopback for the rota that listens on another."""

    def __init__(self, rng: Random) -> None:
        """Nothing happens before `open`."""
        self.port = 0
        self.unruly: Unruly | None = None
        self.done: Counter[Mischief] = Counter()
        self._rng = rng
        self._behind = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._passed = asyncio.Condition()

    async def open(self, behind: int) -> None:
        """Starts to listen for the rota at the port `behind`."""
        self._behind = behind
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listens no more and drops every connection."""
        if self._server:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, beyond = await asyncio.open_connection("127.0.0.1", self._behind)
        connection = _Connection(writer)
        back = asyncio.create_task(connection.answer(behind))
        try:
            while not connection.over:
                request = await _read_request(reader)
                mischief = self._draw()
                if mischief is Mischief.SWALLOWED:
                    connection.swallow = True
                elif mischief is Mischief.DOUBLED:
                    self._later(self._send_copy(request, self._moment()))
                elif mischief and not await self._hold(mischief, reader):
                    self._later(self._send_copy(request, 0.0))
                    return
                beyond.write(request)
                await beyond.drain()
                await self._note_passing()
        finally:
            back.cancel()
            beyond.close()

    def _draw(self) -> Mischief | None:
        """What happens to the next request: each kind with its share of chance."""
        if self.unruly is None:
            return None
        drawn = self._rng.random() / self.unruly.share
        if drawn >= len(Mischief):
            return None
        mischief = tuple(Mischief)[int(drawn)]
        self.done[mischief] += 1
        return mischief

    def _moment(self) -> float:
        return self._rng.uniform(0.0, self.unruly.longest if self.unruly else 0.0)

    async def _hold(self, mischief: Mischief, reader: asyncio.StreamReader) -> bool:
        """Waits as long as the request is to wait; whether its bot still does."""
        if mischief is Mischief.DELAYED:
            await asyncio.sleep(self._moment())
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._passing(), OVERTAKEN_WITHIN)
        return not reader.at_eof()

    async def _passing(self) -> None:
        async with self._passed:
            await self._passed.wait()

    async def _note_passing(self) -> None:
        async with self._passed:
            self._passed.notify_all()

    async def _send_copy(self, request: bytes, after: float) -> None:
        """Sends a request over a connection of its own, and reads the answer for nobody."""
        await asyncio.sleep(after)
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._behind)
            try:
                writer.write(request)
                async with asyncio.timeout(OVERTAKEN_WITHIN * 10):
                    await reader.read(CHUNK)
            except TimeoutError:
                pass
            finally:
                writer.close()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Connection:
    """The way back: whatever rota says goes to the bot, unless it is swallowed; then the bot's connection ends."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.swallow = False
        self.over = False
        self._writer = writer

    async def answer(self, behind: asyncio.StreamReader) -> None:
        """Passes on until either end is gone."""
        try:
            while (chunk := await behind.read(CHUNK)) and not self.swallow:
                self._writer.write(chunk)
                await self._writer.drain()
        except OSError:
            pass
        finally:
            self.over = True
            self._writer.close()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = LENGTH.search(head)
    return head + await reader.readexactly(int(length[1]) if length else 0)
