"""A closed loop of HTTP requests over keep-alive connections: each sends its next one when its last is answered.

Requests are written down beforehand and answers only counted, so that the load costs little beside what it measures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True)
class Load:
    """What was answered. `latencies` are seconds, sorted."""

    answered: int
    refused: int
    seconds: float
    latencies: list[float]

    def percentile(self, share: float) -> float:
        """Milliseconds within which so many of the answers came, `share` being between 0 and 1."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * share))] * 1000


class Line(asyncio.Protocol):
    """One keep-alive connection, over which one request at a time goes."""

    def __init__(self) -> None:
        self._buffer = b""

    async def connect(self, port: int) -> None:
        """Opens it."""
        await asyncio.get_running_loop().create_connection(partial(_same, self), "127.0.0.1", port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps its other end."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Collects an answer until it is whole."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        at = head.lower().index(b"content-length:") + 15
        if len(body) < int(head[at:].split(b"\r\n", 1)[0]):
            return
        self._buffer = b""
        self.answered(body, ok=head.startswith(b"HTTP/1.1 200"))

    def answered(self, body: bytes, *, ok: bool) -> None:
        """The request was answered; the next one may go."""
        raise NotImplementedError


class _Connection(Line):
    def __init__(
        self, requests: Sequence[bytes], until: float, done: asyncio.Future[None], pause: float, begin: float
    ) -> None:
        super().__init__()
        self._requests = requests
        self._pause = pause
        self._due = begin
        self._until = until
        self._done = done
        self._next = 0
        self._sent = 0.0
        self.number = 0
        self.refused = 0
        self.latencies: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._go_on()

    def answered(self, body: bytes, *, ok: bool) -> None:  # noqa: ARG002 - answers are only counted
        self.number += 1
        self.refused += not ok
        now = time.perf_counter()
        self.latencies.append(now - self._sent)
        if now < self._until:
            self._go_on()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None) if exc is None else self._done.set_exception(exc)

    def _go_on(self) -> None:
        """A request that could not be sent in time is late from then on, as its sender would see it."""
        wait = self._due - time.perf_counter()
        if self._pause and wait > 0:
            asyncio.get_running_loop().call_later(wait, self._send)
        else:
            self._send()

    def _send(self) -> None:
        self._sent = self._due if self._pause else time.perf_counter()
        self._due += self._pause
        self.transport.write(self._requests[self._next])
        self._next = (self._next + 1) % len(self._requests)


def request(path: str, body: bytes, token: str) -> bytes:
    """One POST as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _same(line: Line) -> Line:
    return line


async def run(
    port: int, requests: Sequence[bytes], *, connections: int, seconds: float, rate: float | None = None
) -> Load:
    """Sends the requests round and round; each connection has a share of them for itself.

    With a `rate`, so many are due in each second, and what a request waits for its turn counts as well.

    Raises:
        ValueError: there are fewer requests than connections.
    """
    if len(requests) < connections:
        msg = f"{len(requests)} requests cannot be shared among {connections} connections"
        raise ValueError(msg)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    until = began + seconds
    ends: list[asyncio.Future[None]] = []
    protocols: list[_Connection] = []
    for number in range(connections):
        end: asyncio.Future[None] = loop.create_future()
        pause = connections / rate if rate else 0.0
        protocol = _Connection(requests[number::connections], until, end, pause, began + pause * number / connections)
        await protocol.connect(port)
        ends.append(end)
        protocols.append(protocol)
    try:
        await asyncio.wait_for(asyncio.gather(*ends), seconds + 30)
    finally:
        # Where it failed, the server would wait for those that are left.
        for protocol in protocols:
            protocol.transport.abort()
    return Load(
        answered=sum(protocol.number for protocol in protocols),
        refused=sum(protocol.refused for protocol in protocols),
        seconds=time.perf_counter() - began,
        latencies=sorted(latency for protocol in protocols for latency in protocol.latencies),
    )
