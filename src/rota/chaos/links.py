"""A link: a proxy between two unix sockets that can be slow, or cut in one direction or both.

What is held back while a direction is cut is delivered when it is mended, as TCP does it after a network's outage,
even if whoever sent it has given up meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from enum import Flag, auto
from pathlib import Path

CHUNK = 65536


class Direction(Flag):
    """Which way bytes go: to the store, or back from it."""

    TO = auto()
    BACK = auto()


BOTH = Direction.TO | Direction.BACK
NONE = Direction(0)


class Link:
    """Everything that connects to `path` speaks to the socket behind it, as long as the link lets it."""

    def __init__(self, path: Path) -> None:
        """Nothing happens before `open`."""
        self.path = path
        self.delay = 0.0
        """Seconds that every answer takes longer."""
        self.callers: set[int] = set()
        """The ids of all processes that ever connected."""
        self._target = ""
        self._cut = NONE
        self._mended = asyncio.Event()
        self._mended.set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self, target: str) -> None:
        """Listens at `path` for the socket `target`."""
        self._target = target
        self._server = await asyncio.start_unix_server(self._accept, str(self.path))

    def cut(self, direction: Direction = BOTH) -> None:
        """Nothing passes in that direction any more, and nobody is told; `NONE` mends it."""
        self._cut = direction
        self._mended.set()
        if direction:
            self._mended = asyncio.Event()

    async def lose(self) -> None:
        """Drops every connection, and with them whatever is held back."""
        connections = tuple(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def close(self) -> None:
        """Listens no more and drops every connection."""
        if self._server:
            self._server.close()
        await self.lose()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._connections.add(task)
        self.callers.add(_caller(writer))
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            writer.close()
            self._connections.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, beyond = await asyncio.open_unix_connection(self._target)
        try:
            back = asyncio.create_task(self._pass(behind, writer, Direction.BACK))
            try:
                await self._pass(reader, beyond, Direction.TO)
            finally:
                back.cancel()
                await asyncio.gather(back, return_exceptions=True)
        finally:
            beyond.close()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: Direction) -> None:
        """Carries what `source` says to `sink` until it ends; its end is carried too."""
        try:
            while chunk := await source.read(CHUNK):
                if way is Direction.BACK and self.delay:
                    await asyncio.sleep(self.delay)
                while self._cut & way:
                    await self._mended.wait()
                sink.write(chunk)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()


def _caller(writer: asyncio.StreamWriter) -> int:
    """The id of the process at the other end of a unix socket."""
    size = struct.calcsize("3i")
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid: int = struct.unpack("3i", credentials)[0]
    return pid
