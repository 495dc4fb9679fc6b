"""Server-sent events: one stream per open page, one reading and rendering per board however many look at it.

A board is what many people look at at once. It reads once a second while somebody looks, and passes on what changed.
Knows nothing of bots or pages; `pages/boards.py` gives it what to read and how to write it.
Source: the HTML standard, section "Server-sent events".
"""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import structlog
from starlette.requests import Request
from starlette.responses import StreamingResponse

EVERY = 1.0
"""Seconds between two readings of a board."""
FRESH = 0.5
"""Seconds for which a reading serves whoever asks while nobody's page is kept live."""
HEARTBEAT = 10.0
"""Seconds of silence after which a stream says that it is still there."""
LIFE = 900.0
"""Seconds after which a stream ends and the page asks for a new one, ± 20 %, so that load spreads anew."""
BACKLOG = 8
"""Messages that a slow reader may be behind; then it gets everything instead."""

MOST = 256
"""Streams that one process carries at once; further pages are told to ask again later."""

Shown = TypeVar("Shown")
log = structlog.get_logger(__name__)
_open: set[Viewer] = set()


def end_streams() -> None:
    """Ends every stream of this process now; called when the process is to end, which must not wait for readers."""
    for viewer in list(_open):
        viewer.end()


def is_full() -> bool:
    """Whether this process carries as many streams as it may."""
    return len(_open) >= MOST


def event(name: str, data: str) -> str:
    """One event; without a name it is the page's default kind."""
    head = f"event: {name}\n" if name else ""
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return head + "".join(f"data: {line}\n" for line in lines) + "\n"


def stream_response(request: Request, messages: AsyncIterator[str]) -> StreamingResponse:
    """The response that carries the messages, compressed where the browser takes that."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no", "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return StreamingResponse(_compressed(messages), headers=headers, media_type="text/event-stream")
    return StreamingResponse(messages, headers=headers, media_type="text/event-stream")


class Viewer:
    """One open stream: what it has still to be told."""

    def __init__(self) -> None:
        self.behind = True
        self.ended = False
        self._messages: asyncio.Queue[str | None] = asyncio.Queue()

    def tell(self, message: str) -> None:
        """Puts a message in line; a reader that is too slow is marked as behind instead."""
        if self._messages.qsize() >= BACKLOG:
            self._clear()
            self.behind = True
        elif message:
            self._messages.put_nowait(message)

    def nudge(self) -> None:
        """Lets `next` return, with an empty message where nothing else is in line."""
        if self._messages.empty():
            self._messages.put_nowait("")

    def end(self) -> None:
        """Ends the stream whatever is still in line."""
        self.ended = True
        self._clear()
        self._messages.put_nowait(None)

    async def next(self, within: float) -> str | None:
        """The next message, or None for the end; raises TimeoutError after `within` seconds."""
        async with asyncio.timeout(within):
            return await self._messages.get()

    def _clear(self) -> None:
        while not self._messages.empty():
            self._messages.get_nowait()


@contextmanager
def opened() -> Iterator[Viewer]:
    """A stream that ends with the process."""
    viewer = Viewer()
    _open.add(viewer)
    try:
        yield viewer
    finally:
        _open.discard(viewer)


class Board(Generic[Shown]):
    """What is shown to everybody who looks at the same thing.

    `read` gives its present state; `write(old, new)` the events that lead from one to the other, everything where
    `old` is None.
    """

    def __init__(self, read: Callable[[], Awaitable[Shown]], write: Callable[[Shown | None, Shown], str]) -> None:
        self._read = read
        self._write = write
        self._viewers: set[Viewer] = set()
        self._shown: Shown | None = None
        self._read_at = 0.0
        self._reader: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()

    @property
    def is_watched(self) -> bool:
        """Whether somebody looks."""
        return bool(self._viewers)

    async def shown(self) -> Shown:
        """The present state: what the viewers have just been shown, or read now where nobody looks."""
        async with self._looking:
            old = self._reader is None and time.monotonic() - self._read_at > FRESH
            if self._shown is not None and not old:
                return self._shown
            return await self._look()

    async def messages(self, life: float = LIFE) -> AsyncIterator[str]:
        """All that one viewer is to be told, for about `life` seconds."""
        with opened() as viewer:
            self._viewers.add(viewer)
            if self._reader is None:
                self._reader = asyncio.create_task(self._keep_reading())
            ends_at = time.monotonic() + life * random.uniform(0.8, 1)  # noqa: S311 - jitter, not a secret
            try:
                yield "retry: 1000\n\n"
                while (left := ends_at - time.monotonic()) > 0:
                    try:
                        message = await viewer.next(min(left, HEARTBEAT))
                    except TimeoutError:
                        # The comment keeps proxies from closing; the event lets the page's script see it, too.
                        message = f": heartbeat\n{event('heartbeat', str(int(time.time())))}"
                    if message is None:
                        return
                    yield message
            finally:
                self._viewers.discard(viewer)

    async def _keep_reading(self) -> None:
        """Reads and tells until nobody looks any more."""
        try:
            while self._viewers:
                started = time.monotonic()
                try:
                    async with self._looking:
                        await self._look()
                except Exception:
                    log.exception("a page cannot be kept live")
                await asyncio.sleep(max(0.0, started + EVERY - time.monotonic()))
        finally:
            self._reader = None
            self._shown = None

    async def _look(self) -> Shown:
        now = await self._read()
        before, self._shown, self._read_at = self._shown, now, time.monotonic()
        changes = self._write(before, now) if before is not None else ""
        everything = ""
        for viewer in self._viewers:
            if viewer.behind:
                everything = everything or self._write(None, now)
                viewer.behind = False
                viewer.tell(everything)
            else:
                viewer.tell(changes)
        return now


async def _compressed(messages: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """Each message is flushed, so that it arrives at once; a small window keeps a reader's memory small."""
    squeezer = zlib.compressobj(level=5, wbits=16 + 13, memLevel=6)
    async for message in messages:
        yield squeezer.compress(message.encode()) + squeezer.flush(zlib.Z_SYNC_FLUSH)
    yield squeezer.flush()
