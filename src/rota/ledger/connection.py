"""Connections to PostgreSQL, transactions, and the lock that makes one steward the leader.

The one place where what the database says about being away becomes UnavailableError.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import structlog
from sqlalchemy import exc, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from rota.errors import DiskFullError, InvalidRequestError, RotaError, StoreError, UnavailableError

Transaction = AsyncConnection
"""What the functions of the ledger take; opaque to everybody else."""

OLDEST = 14
POOL_SIZE = 10
IDLE_SECONDS = 60
"""After which PostgreSQL ends a transaction whose process has stopped in its midst: it holds locks that others need."""
LEADER_LOCK = 7_682_001
"""Key of the advisory lock that the leading steward holds."""

_AWAY_CLASSES = {"08", "25", "53", "57", "58", "55", "40"}
"""SQLSTATE classes that a later try may be spared: connection, read-only, resources, shutdown, I/O, locks, deadlock."""

_DISK_FULL = "53100"
_UNTYPABLE = {"22021", "22P05"}
"""SQLSTATEs of a text that PostgreSQL cannot hold."""

log = structlog.get_logger(__name__)


def database_url(url: str) -> URL:
    """The address in SQLAlchemy's terms, whatever driver it names.

    Raises:
        StoreError: it is no PostgreSQL address.
    """
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):  # ValueError: a port that is no number
        raise StoreError("ROTA_DATABASE_URL is not an address of the form postgresql://…") from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise StoreError("ROTA_DATABASE_URL must begin with postgresql://")
    query = dict(parsed.query)
    if "sslmode" in query:
        # libpq's word, which every other tool takes, in asyncpg's terms.
        query["ssl"] = query.pop("sslmode")
    return parsed.set(drivername="postgresql+asyncpg", query=query)


def engine(url: str, *, timeout: float, pooled: bool = True) -> AsyncEngine:
    """An engine whose connections and statements end within `timeout` seconds."""
    arguments = {
        "timeout": timeout,
        "command_timeout": timeout,
        "server_settings": {
            "application_name": "rota",
            "statement_timeout": str(int(timeout * 1000)),
            "idle_in_transaction_session_timeout": str(IDLE_SECONDS * 1000),
        },
    }
    if not pooled:
        return create_async_engine(database_url(url), poolclass=NullPool, connect_args=arguments)
    return create_async_engine(
        database_url(url),
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=timeout,
        pool_pre_ping=True,
        connect_args=arguments,
    )


class Ledger:
    """A bounded pool of connections to the ledger."""

    def __init__(self, url: str, *, timeout: float = 5) -> None:
        self._engine = engine(url, timeout=timeout)
        self._url = url
        self.timeout = timeout

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        """A transaction that is committed at the end of the block, or rolled back by an exception.

        Raises:
            UnavailableError: the database is away; nothing is known about a commit that was under way.
        """
        async with _Away(self.timeout), self._engine.begin() as connection:
            yield connection

    async def check(self) -> None:
        """Proves at start-up that the database answers and is new enough.

        Raises:
            StoreError: one line that says what to do.
        """
        await check(self._url, timeout=self.timeout)

    @asynccontextmanager
    async def own_connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection outside the pool, for what must live as long as the connection: an advisory lock."""
        alone = engine(self._url, timeout=self.timeout, pooled=False)
        try:
            async with _Away(self.timeout), alone.connect() as connection:
                yield await connection.execution_options(isolation_level="AUTOCOMMIT")
        finally:
            await alone.dispose()


class _Away:
    """Turns "the database is away" into UnavailableError, whatever layer says it."""

    def __init__(self, within: float) -> None:
        """`within` is the seconds after which the database is given up."""
        self._within = within

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, exc.DBAPIError) and sqlstate(error) in _UNTYPABLE:
            raise InvalidRequestError("A text holds a character that cannot be stored, such as NUL.") from error
        if isinstance(error, RotaError):
            return
        if error is not None and _state(error) == _DISK_FULL:
            log.error("disk of the ledger is full", error=str(error).partition("\n")[0])
            raise DiskFullError from error
        if error is not None and is_away(error):
            log.warning("ledger away", error=_told(error, self._within))
            msg = "The ledger does not answer at the moment: try again."
            raise UnavailableError(msg) from error


def _told(error: BaseException, within: float) -> str:
    """An error for the log; what is given up after `within` seconds mostly says nothing by itself."""
    silent = f"no answer within {within:g} s" if isinstance(error, TimeoutError) else type(error).__name__
    return str(error).partition("\n")[0] or silent


def is_away(error: BaseException) -> bool:
    """Whether the error means that the database is away or busy, rather than that a statement is wrong."""
    if isinstance(error, OSError | TimeoutError | exc.TimeoutError):
        return True
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg also says this of a value that it cannot encode.
        return not isinstance(error, ValueError)
    if isinstance(error, exc.DBAPIError):
        if error.connection_invalidated or isinstance(error, exc.InterfaceError):
            return True
        return error.orig is not None and is_away_state(sqlstate(error))
    return isinstance(error, asyncpg.PostgresError) and is_away_state(error.sqlstate)


def _state(error: BaseException) -> str | None:
    """The SQLSTATE, whichever of the two libraries brings it."""
    return sqlstate(error) if isinstance(error, exc.DBAPIError) else getattr(error, "sqlstate", None)


def sqlstate(error: exc.DBAPIError) -> str | None:
    """The five characters by which PostgreSQL names what went wrong."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state


def is_away_state(state: str | None) -> bool:
    """Whether a SQLSTATE belongs to the classes that a later try may be spared."""
    return state is not None and state[:2] in _AWAY_CLASSES


async def check(url: str, *, timeout: float) -> None:  # noqa: ASYNC109 - asyncpg's own, per step
    """See `Ledger.check`."""
    alone = engine(url, timeout=timeout, pooled=False)
    try:
        async with alone.connect() as connection:
            version = int(str(await connection.scalar(text("SHOW server_version_num"))))
    except Exception as error:  # noqa: BLE001 - whatever is wrong, it is said in one line
        raise StoreError(_reason(error)) from None
    finally:
        await alone.dispose()
    if version // 10_000 < OLDEST:
        raise StoreError(f"PostgreSQL {version // 10_000} is too old: rota needs {OLDEST} or newer")


def _reason(error: Exception) -> str:
    cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    state = getattr(cause, "sqlstate", None) or ""
    first_line = str(cause).partition("\n")[0].removeprefix("<class 'asyncpg.exceptions.").strip()
    if state.startswith("28"):
        return "PostgreSQL refuses the user or password in ROTA_DATABASE_URL"
    if state == "3D000":
        return "the database named in ROTA_DATABASE_URL does not exist: create it with createdb"
    return (
        f"cannot reach PostgreSQL: {first_line or type(cause).__name__}; is it running, and is ROTA_DATABASE_URL right?"
    )


class Leadership:
    """Of all stewards that share a ledger, the one whose connection holds the lock leads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._holder: asyncio.Task[None] | None = None
        self._connection: AsyncConnection | None = None
        self._let_go = asyncio.Event()

    async def try_acquire(self) -> bool:
        """Takes the lock if nobody holds it."""
        await self.release()
        self._let_go.clear()
        taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._holder = asyncio.create_task(self._hold(taken))
        return await taken

    async def held(self) -> bool:
        """Whether this one still leads, asked over the very connection that holds the lock."""
        if self._connection is None:
            return False
        try:
            await self._connection.execute(text("SELECT 1"))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the lock is gone
            log.warning("leadership lost", error=_told(error, self._ledger.timeout))
            await self.release()
            return False
        return True

    async def release(self) -> None:
        """Gives the lock up, if it is held."""
        self._let_go.set()
        if self._holder is not None:
            await asyncio.gather(self._holder, return_exceptions=True)
            self._holder = None

    async def _hold(self, taken: asyncio.Future[bool]) -> None:
        """One task opens and closes the connection, because its context belongs to the task."""
        try:
            async with self._ledger.own_connection() as connection:
                query = text("SELECT pg_try_advisory_lock(:key)")
                taken.set_result(bool(await connection.scalar(query, {"key": LEADER_LOCK})))
                if taken.result():
                    self._connection = connection
                    await self._let_go.wait()
        except Exception as error:  # noqa: BLE001 - handed on to whoever waits
            if not taken.done():
                taken.set_exception(error)
        finally:
            self._connection = None
