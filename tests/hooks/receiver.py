"""A real HTTP receiver on loopback that says what a test wants, and checks signatures by the specification alone."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

Answer = bytes
OK: Answer = b"HTTP/1.1 204 No Content\r\n\r\n"


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> dict[str, Any]:
        told: dict[str, Any] = self.json["data"]
        return told

    @property
    def ids(self) -> list[int]:
        return [record["id"] for record in self.data["records"]]


def is_signed_by(secret: str, received: Received) -> bool:
    """As docs/webhooks.md tells receivers to do it; nothing of rota's own code."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{received.id}.{received.headers['webhook-timestamp']}.".encode() + received.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    given = [part.partition(",") for part in received.headers["webhook-signature"].split(" ")]
    return any(version == "v1" and hmac.compare_digest(value, expected) for version, _, value in given)


class Receiver:
    """Listens on 127.0.0.1; `decide` gives the answer to each request, at once or after a while."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.received: list[Received] = []
        self.delivered: list[Received] = []
        self.connections = 0
        self.most_at_once = 0
        self.decide: Callable[[Received], Awaitable[Answer]] = self._agree
        self._at_once = 0
        self._came = asyncio.Condition()
        self._tls = tls
        self._host = host
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http{'s' if self._tls else ''}://{host}:{self.port}/hook?from=rota"

    async def until(self, condition: Callable[[], bool], within: float = 20.0) -> None:
        """Waits until a request has come after which the condition holds."""
        async with asyncio.timeout(within), self._came:
            await self._came.wait_for(condition)

    async def _agree(self, _received: Received) -> Answer:
        return OK

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                await self._exchange(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        received = Received(head[0].split(" ")[1], headers, body)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self.received.append(received)
            await self._tell()
            said = await self.decide(received)
        finally:
            self._at_once -= 1
        if said.startswith(b"HTTP/1.1 2"):
            self.delivered.append(received)
        writer.write(said)
        await writer.drain()
        await self._tell()

    async def _tell(self) -> None:
        async with self._came:
            self._came.notify_all()
