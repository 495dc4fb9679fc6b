"""Loads the Lua scripts, calls them, and turns what the store says into rota's errors; the only door to Redis.

Scripts are assembled from `lua/_moves.lua` and the verb's own file. A store that forgot them (restart, promoted
replica) is taught again.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import structlog
from redis import exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from rota.errors import InternalError, RotaError, StoreError, UnavailableError
from rota.live import keys

VERBS = (
    "auth",
    "beat",
    "drain",
    "kill",
    "leave",
    "mend",
    "promote",
    "pulse",
    "reap",
    "release",
    "resolve",
    "want",
)
OLDEST_REDIS = (7, 0)
OLDEST_VALKEY = (7, 2)
CONNECTIONS = 32
HUNG_SHARE = 0.2
"""Of the timeout: how long a call waits for a store that has just been found to hang."""
TOGETHER = 64
"""Scripts that go in one round trip at most."""

_TIMEOUTS = (TimeoutError, redis_errors.TimeoutError)
_AWAY = (
    *_TIMEOUTS,
    redis_errors.ConnectionError,
    redis_errors.BusyLoadingError,
    redis_errors.ReadOnlyError,
    redis_errors.OutOfMemoryError,
    redis_errors.ClusterDownError,
    redis_errors.MasterDownError,
    OSError,
)
_AWAY_WORDS = ("MISCONF", "BUSY", "NOREPLICAS", "TRYAGAIN", "UNBLOCKED")

Command = tuple[str | bytes | int | float, ...]

log = structlog.get_logger(__name__)


@cache
def assembled() -> dict[str, str]:
    """Verb → full source: the `#!lua` line, the shared prelude, then the verb's own lines."""
    folder = files("rota.live") / "lua"
    prelude = (folder / "_moves.lua").read_text(encoding="utf-8")
    sources = {}
    for verb in VERBS:
        shebang, _, body = (folder / f"{verb}.lua").read_text(encoding="utf-8").partition("\n")
        sources[verb] = f"{shebang}\n{prelude}\n{body}"
    return sources


@cache
def _digests() -> dict[str, str]:
    return {verb: hashlib.sha1(source.encode()).hexdigest() for verb, source in assembled().items()}  # noqa: S324 - Redis names scripts so


class _Together(NamedTuple):
    """One call among others, and who waits for its answer."""

    verb: str
    fleet: str
    arguments: tuple[str | bytes | float, ...]
    answer: asyncio.Future[Any]


class Live:
    """A bounded pool of connections to the live store. Every call ends within `timeout` seconds.

    While the store hangs, a call now and then waits so long, and all others a fifth of it: who needs several answers
    for one request does not wait for each of them.
    """

    def __init__(self, url: str, *, timeout: float = 5) -> None:
        """`url` is `redis://`, `rediss://` or `unix://`."""
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS,
                timeout=timeout,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                # A pooled connection may have died with the store's last run: once more on a new one. Every script
                # may run twice. Not after a timeout, or a store that hangs would be waited for twice.
                retry=Retry(NoBackoff(), 1, supported_errors=(redis_errors.ConnectionError,)),
            )
        except ValueError as error:
            msg = f"ROTA_REDIS_URL is not a Redis address: {error}"
            raise StoreError(msg) from None
        self._redis: Redis = Redis.from_pool(pool)
        self._timeout = timeout
        self._hung_at = -math.inf
        """When a call last waited in vain for the whole timeout, by the monotonic clock."""
        self._keys: dict[str, list[str]] = {}
        self._together: list[_Together] = []
        self._gathering: asyncio.Task[None] | None = None
        self._under_way = 0
        self._closed = False
        self._idle = asyncio.Event()

    async def aclose(self) -> None:
        """Takes no call any more, waits for those that are under way, and closes all connections."""
        # Of a call whose connection is taken away redis-py would make a new one, which nobody closes.
        self._closed = True
        if self._under_way:
            self._idle.clear()
            await self._idle.wait()
        await self._redis.aclose()

    async def check(self) -> None:
        """Proves at start-up that the store answers and is new enough.

        Raises:
            StoreError: one line that says what to do.
        """
        try:
            info: dict[str, Any] = await self._redis.info("server")
        except redis_errors.ResponseError as error:
            msg = f"Redis refuses ROTA_REDIS_URL (user, password or database number?): {error}"
            raise StoreError(msg) from None
        except (*_AWAY, redis_errors.RedisError) as error:
            if isinstance(error.__cause__ or error, redis_errors.AuthenticationError):
                msg = f"Redis refuses the user or the password in ROTA_REDIS_URL: {error}"
            else:
                msg = f"cannot reach Redis: {error}; is it running, and is ROTA_REDIS_URL right?"
            raise StoreError(msg) from None
        _refuse_old_store(info)

    async def call(self, verb: str, fleet: str, *arguments: str | bytes | float) -> Any:
        """Runs one verb's script on one fleet.

        Raises:
            UnavailableError: the store is away.
        """
        names = self._names(fleet)
        async with self._asking():
            try:
                return await self._redis.execute_command("EVALSHA", _digests()[verb], len(names), *names, *arguments)
            except redis_errors.NoScriptError:
                return await self._redis.execute_command("EVAL", assembled()[verb], len(names), *names, *arguments)

    async def call_together(self, verb: str, fleet: str, *arguments: str | bytes | float) -> Any:
        """The same in one round trip with all others that are called so at this moment: a crowd costs less that way.

        Raises:
            UnavailableError: the store is away.
        """
        loop = asyncio.get_running_loop()
        one = _Together(verb, fleet, arguments, loop.create_future())
        self._together.append(one)
        if self._gathering is None:
            self._gathering = loop.create_task(self._gather())
        return await one.answer

    async def read(self, *commands: Command) -> list[Any]:
        """Plain reads in one round trip, as they come (bytes); not atomic.

        Raises:
            UnavailableError: the store is away.
        """
        return await self._read(commands, at_once=False)

    async def read_at_once(self, *commands: Command) -> list[Any]:
        """The same in one transaction: what is read was true at one moment."""
        return await self._read(commands, at_once=True)

    def _names(self, fleet: str) -> list[str]:
        names = self._keys.get(fleet)
        if names is None:
            names = self._keys[fleet] = keys.script_keys(fleet)
        return names

    async def _gather(self) -> None:
        try:
            while self._together:
                # Whatever else is called in this turn of the event loop comes along.
                await asyncio.sleep(0)
                some, self._together = self._together[:TOGETHER], self._together[TOGETHER:]
                try:
                    await self._call_together(some)
                except RotaError as error:
                    for one in some:
                        if not one.answer.done():
                            one.answer.set_exception(error)
                finally:
                    for one in some:
                        one.answer.cancel()
        finally:
            self._gathering = None

    async def _call_together(self, some: Sequence[_Together]) -> None:
        async with self._asking(), self._redis.pipeline(transaction=False) as pipe:
            for one in some:
                names = self._names(one.fleet)
                pipe.execute_command("EVALSHA", _digests()[one.verb], len(names), *names, *one.arguments)
            replies = await pipe.execute(raise_on_error=False)
        for one, reply in zip(some, replies, strict=True):
            if isinstance(reply, Exception):
                # Forgotten scripts, and what is wrong with one of them alone: `call` knows what to do.
                reply = await self.call(one.verb, one.fleet, *one.arguments)  # noqa: PLW2901
            if not one.answer.done():
                one.answer.set_result(reply)

    async def _read(self, commands: Sequence[Command], *, at_once: bool) -> list[Any]:
        async with self._asking(), self._redis.pipeline(transaction=at_once) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return list(await pipe.execute())

    async def trim_events(self, fleet: str, oldest: str) -> None:
        """Drops the events before the stream id `oldest`."""
        async with self._asking():
            await self._redis.xtrim(keys.events(fleet), minid=oldest, approximate=True)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Around every call: each ends within the timeout."""
        if self._closed:
            raise UnavailableError("The way to the live store is closed: this process ends.")
        self._under_way += 1
        within = self._timeout
        if time.monotonic() - self._hung_at < self._timeout:
            within *= HUNG_SHARE
        try:
            async with store_errors(within):
                yield
            self._hung_at = -math.inf
        except UnavailableError as error:
            if within == self._timeout and isinstance(error.__cause__, _TIMEOUTS):
                self._hung_at = time.monotonic()
            raise
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()


@asynccontextmanager
async def store_errors(within: float) -> AsyncIterator[None]:
    """Turns what redis-py raises, and `within` seconds without an answer, into UnavailableError or InternalError."""
    try:
        async with asyncio.timeout(within):
            yield
    except _AWAY as error:
        msg = "The live store does not answer at the moment: keep working while the lease lasts and try again."
        log.warning("live store away", error=str(error) or f"no answer within {within:g} s")
        raise UnavailableError(msg) from error
    except redis_errors.ResponseError as error:
        if str(error).startswith(_AWAY_WORDS):
            log.warning("live store refuses", error=str(error))
            raise UnavailableError from error
        raise InternalError(f"live store: {error}") from error


def _refuse_old_store(info: dict[str, Any]) -> None:
    name, text, oldest = "Redis", str(info.get("redis_version", "0")), OLDEST_REDIS
    if "valkey_version" in info:
        name, text, oldest = "Valkey", str(info["valkey_version"]), OLDEST_VALKEY
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if version < oldest:
        wanted = ".".join(map(str, oldest))
        msg = f"{name} {text} is too old: rota needs Redis 7.0 or Valkey 7.2 at least ({name} {wanted} here)"
        raise StoreError(msg)


def pairs(flat: Any) -> Iterable[tuple[bytes, bytes]]:
    """A hash as redis-py gives it: a dict, or a flat list under the older wire protocol."""
    return flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
