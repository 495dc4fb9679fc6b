"""A thin HTTP/1.1 client for many small calls: a few kept connections, callbacks, no task for each call.

The simulator shares a machine with the rota it tries. Measured there, a call costs httpx2's async client 1.3
to 2.4 ms of processor time and this one 0.1, which is why it exists. httptools, the server's parser, does the
parsing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import httptools
from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import Callable

SWEEP = 0.25
"""Seconds between two looks for overdue answers."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `status` is 0 where nothing did. `sent` is when the request was written (loop time)."""

    status: int
    body: bytes
    sent: float
    retry_after: float | None = None

    @property
    def code(self) -> str:
        """The stable code of a refusal; an answer that is no problem of rota's counts under its status."""
        try:
            problem: Any = from_json(self.body)
        except ValueError:
            problem = None
        code = problem.get("code") if isinstance(problem, dict) else None
        return code if isinstance(code, str) else f"http_{self.status}"


@dataclass(slots=True)
class _Request:
    path: str
    token: str | None
    body: bytes
    done: Callable[[Answer], None]
    asked: float
    sent: float = 0.0
    given_up: bool = False


class Wire:
    """Posts JSON to one rota over at most `connections` connections; what finds none free waits in line."""

    def __init__(self, url: str, *, connections: int = 64, timeout: float = 10.0) -> None:
        """`timeout` is the longest wait for an answer, in seconds; it may be changed at any time."""
        parts = urlsplit(url)
        self.timeout = timeout
        self.overdue = 0
        """How many calls were given up because their answers took too long."""
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if self._tls else 80)
        self._authority = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._limit = connections
        self._waiting: deque[_Request] = deque()
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    def post(self, path: str, body: bytes, token: str | None, done: Callable[[Answer], None]) -> None:
        """Sends a JSON body; `done` is called later, exactly once, never from within this call."""
        now = asyncio.get_running_loop().time()
        self._waiting.append(_Request(self._prefix + path, token, body, done, now))
        self._pump()

    def close(self) -> None:
        """Drops every connection; calls still under way are not answered any more."""
        self._closed = True
        self._waiting.clear()
        if self._sweeper:
            self._sweeper.cancel()
        for task in self._opening:
            task.cancel()
        for connection in tuple(self._open):
            connection.abort()

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._open)

    def head(self, request: _Request) -> bytes:
        """Request line and header fields, up to the empty line."""
        bearer = f"Authorization: Bearer {request.token}\r\n" if request.token else ""
        return (
            f"POST {request.path} HTTP/1.1\r\nHost: {self._authority}\r\nContent-Type: application/json\r\n"
            f"{bearer}Content-Length: {len(request.body)}\r\n\r\n"
        ).encode("ascii")

    def freed(self, connection: _Connection) -> None:
        """A connection has got its answer and can take the next request."""
        self._idle.append(connection)
        self._pump()

    def lost(self, connection: _Connection, request: _Request | None, *, worn: bool) -> None:
        """A connection is gone.

        A request that a kept (`worn`) connection did not answer at all is sent again: most likely the server
        had just closed it, and perhaps the next kept one too.
        """
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        if self._closed or request is None:
            return
        if worn and not request.given_up:
            self._waiting.appendleft(request)
        else:
            request.done(Answer(0, b"", request.sent))
        self._pump()

    def _pump(self) -> None:
        if self._sweeper is None and not self._closed:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP, self._sweep)
        while self._waiting and self._idle:
            self._idle.popleft().send(self._waiting.popleft())
        opening = len(self._opening)
        lacking = min(len(self._waiting) - opening, self._limit - len(self._open) - opening)
        for _ in range(lacking):
            task = asyncio.get_running_loop().create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opened)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.timeout):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self), self._host, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError):
            if self._waiting:
                request = self._waiting.popleft()
                request.done(Answer(0, b"", loop.time()))
            return
        self._open.add(connection)
        self._idle.append(connection)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if not self._closed:
            self._pump()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(SWEEP, self._sweep)
        oldest = loop.time() - self.timeout
        for connection in tuple(self._open):
            if connection.request and connection.request.sent < oldest:
                self.overdue += 1
                connection.give_up()
        while self._waiting and self._waiting[0].asked < oldest:
            request = self._waiting.popleft()
            self.overdue += 1
            request.done(Answer(0, b"", loop.time()))


class _Connection(asyncio.Protocol):
    """One kept connection with at most one request under way."""

    def __init__(self, wire: Wire) -> None:
        self.request: _Request | None = None
        self._wire = wire
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._heard = False
        self._retry_after: float | None = None
        self._body = bytearray()
        self._answered = 0

    def send(self, request: _Request) -> None:
        """Writes a request; the connection is busy until it is answered."""
        assert self._transport is not None  # noqa: S101 - the wire knows no connection before it is made
        self.request = request
        self._heard, self._retry_after = False, None
        self._body.clear()
        request.sent = asyncio.get_running_loop().time()
        self._transport.write(self._wire.head(request) + request.body)

    def give_up(self) -> None:
        """The answer is overdue: no second try, the caller has its own."""
        if self.request:
            self.request.given_up = True
        self.abort()

    def abort(self) -> None:
        """Ends the connection at once."""
        if self._transport:
            self._transport.abort()

    # -- called by asyncio ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parses; what nobody asked for, or what is no HTTP, ends the connection."""
        if self.request is None:
            self.abort()
            return
        self._heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Tells the wire, which cares for a request under way."""
        request, self.request = self.request, None
        self._wire.lost(self, request, worn=self._answered > 0 and not self._heard)

    # -- called by the parser ------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps the one header field that matters."""
        if name.lower() == b"retry-after":
            with contextlib.suppress(ValueError):
                self._retry_after = max(0.0, float(value))

    def on_body(self, body: bytes) -> None:
        """Collects the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Hands the answer over."""
        request, self.request = self.request, None
        if request is None:
            return
        # Before the connection is freed: it may take its next request, and forget this answer, at once.
        status = self._parser.get_status_code()
        answer = Answer(status, bytes(self._body), request.sent, self._retry_after)
        self._answered += 1
        if self._parser.should_keep_alive():
            self._wire.freed(self)
        else:
            self.abort()
        request.done(answer)
