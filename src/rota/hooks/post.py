"""Sends one signed message to a webhook's URL, and tells what became of it.

The name is resolved once, every address is checked, and the connection goes to the very address that was checked,
while TLS and `Host` keep the name: a name that resolves differently a moment later (DNS rebinding) gains nothing.
No redirect is followed, no proxy and no `.netrc` of the environment is used, and of the answer nothing but the status
and `Retry-After` is kept.
"""

from __future__ import annotations

import asyncio
import math
import os
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from typing import Any, Self

import httpcore2

from rota import __version__
from rota.errors import InvalidRequestError
from rota.hooks.address import Networks, Resolver, Target, target_of

CONNECT, WHOLE = 5.0, 20.0
"""Seconds for a connection, and for everything from the name to the end of the answer."""
MOST_ANSWER = 65_536
"""Bytes of an answer that are read before the connection is given up."""
MOST_CONNECTIONS, KEPT_CONNECTIONS, KEPT_FOR = 64, 32, 30.0
MOST_TEXT = 300


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt.

    status: of the answer, or None where there was none.
    error: why it does not count as delivered, in words; empty where it does.
    retry_after: seconds that the receiver asks to be left alone, or None.
    took: seconds.
    """

    status: int | None
    error: str
    retry_after: float | None
    took: float

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver has taken it."""
        return self.error == ""


@cache
def _tls_of_the_system() -> ssl.SSLContext:
    return httpcore2.default_ssl_context()  # 20 ms each


class Post:
    """Connections to receivers, kept for a moment; one for a process."""

    def __init__(
        self, networks: Networks, *, tls: ssl.SSLContext | None = None, connect: float = CONNECT, whole: float = WHOLE
    ) -> None:
        """`tls` is for receivers whose certificates the system does not know."""
        self.resolver = Resolver(networks)
        self._whole = whole
        self._timeouts = {"connect": connect, "read": whole, "write": whole, "pool": whole}
        context = tls or _tls_of_the_system()
        self._pools = {
            scheme: httpcore2.AsyncConnectionPool(
                ssl_context=context,
                max_connections=MOST_CONNECTIONS,
                max_keepalive_connections=KEPT_CONNECTIONS,
                keepalive_expiry=KEPT_FOR,
                network_backend=_ToChecked(self.resolver, encrypted=scheme == "https"),
            )
            for scheme in ("https", "http")
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all connections."""
        for pool in self._pools.values():
            await pool.aclose()
        self.resolver.close()

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """One attempt; whatever goes wrong on the way is in the outcome."""
        began = time.monotonic()
        status, error, retry_after = None, "", None
        try:
            async with asyncio.timeout(self._whole):
                status, retry_after = await self._exchange(target_of(url), headers, body)
        except Exception as failure:  # noqa: BLE001 - whatever a receiver brings about, it is a try that failed
            error = self._words(failure)
        if status is not None and not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            error = _told(status)
        return Outcome(status, error[:MOST_TEXT], retry_after, time.monotonic() - began)

    async def _exchange(self, target: Target, headers: Mapping[str, str], body: bytes) -> tuple[int, float | None]:
        sent: list[tuple[bytes | str, bytes | str]] = [
            (b"host", target.authority),
            (b"content-type", b"application/json"),
            (b"user-agent", f"rota/{__version__}"),
            *headers.items(),
        ]
        where = httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        extensions = {"timeout": self._timeouts}
        pool = self._pools[target.scheme]
        async with pool.stream("POST", where, headers=sent, content=body, extensions=extensions) as answer:
            asked = next((value for name, value in answer.headers if name.lower() == b"retry-after"), None)
            read = 0
            async for part in answer.aiter_stream():
                read += len(part)
                if read > MOST_ANSWER:
                    break
            return answer.status, _seconds(asked)

    def _words(self, failure: BaseException) -> str:
        if isinstance(failure, InvalidRequestError):
            return failure.detail.removeprefix("url: ")
        if isinstance(failure, httpcore2.ConnectTimeout):
            return f"no connection within {self._timeouts['connect']:.0f} s"
        if isinstance(failure, TimeoutError | httpcore2.TimeoutException):
            return f"no answer within {self._whole:.0f} s"
        text = _cause_of(failure) or str(failure).partition("\n")[0]
        return text or type(failure).__name__


class _ToChecked(httpcore2.AsyncNetworkBackend):
    """Opens connections to names, by way of addresses that were checked."""

    def __init__(self, resolver: Resolver, *, encrypted: bool) -> None:
        self._resolver = resolver
        self._encrypted = encrypted
        self._plain = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to the first of the name's addresses that takes one, within `timeout` seconds for all."""
        try:
            async with asyncio.timeout(timeout):
                return await self._first_of(host, port, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout(str(error)) from error

    async def _first_of(
        self, host: str, port: int, local_address: str | None, socket_options: Iterable[Any] | None
    ) -> httpcore2.AsyncNetworkStream:
        failure: Exception | None = None
        for address in await self._resolver.addresses(host, port, encrypted=self._encrypted):
            try:
                # A number, which nobody resolves once more.
                return await self._plain.connect_tcp(
                    address, port, local_address=local_address, socket_options=socket_options
                )
            except httpcore2.ConnectError as error:
                failure = error
        assert failure is not None  # noqa: S101 - there is an address, or `addresses` had refused
        raise failure

    async def sleep(self, seconds: float) -> None:
        """As httpcore asks."""
        await asyncio.sleep(seconds)


def _cause_of(failure: BaseException) -> str:
    """What the system says of a connection that could not be made, such as that it was refused."""
    cause: BaseException | None = failure
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None and not isinstance(cause, ssl.SSLError):
            return os.strerror(cause.errno).lower() if cause.errno > 0 else str(cause)
        cause = cause.__cause__ or cause.__context__
    return ""


def _told(status: int) -> str:
    """What a status that is no success says."""
    try:
        name = f" {HTTPStatus(status).phrase}"
    except ValueError:
        name = ""
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return f"answered {status}{name}: redirects are not followed, register the new address"
    return f"answered {status}{name}"


def _seconds(retry_after: bytes | None) -> float | None:
    """What a `Retry-After` asks for (RFC 9110, 10.2.3): seconds, or a date."""
    if retry_after is None:
        return None
    text = retry_after.decode("ascii", "replace").strip()
    try:
        if text.isdecimal():
            return min(float(text), 1e9)
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    seconds = (aware - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
