"""One web worker in process, on real stores: what tests of the web layer talk to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from httpx2 import ASGITransport, AsyncClient, Limits
from sqlalchemy import text
from starlette.datastructures import State as AppState
from uvicorn.server import ServerState

from rota.ledger import accounts, fleets, tables
from rota.ledger import keys as ledger_keys
from rota.ledger.connection import Ledger
from rota.live.liveness import pulse
from rota.settings import Settings
from rota.steward.apply import apply
from rota.steward.rebuild import rebuild
from rota.steward.record import record
from rota.web.__main__ import server
from rota.web.app import App, create_app, open_state
from rota.web.connection import Connection
from rota.web.state import State

Json = dict[str, Any]
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of servers without TLS: to load certificates takes as long as twenty calls."""
_SETTINGS = Settings(store_timeout=3, webhook_allow="127.0.0.0/8")


@dataclass
class Site:
    """`rest` carries an operator's key, `anybody` carries none, and `wire` speaks over real connections as bots do."""

    app: App
    state: State
    rest: AsyncClient
    anybody: AsyncClient
    wire: AsyncClient

    async def build(self, fleet: str = "default") -> None:
        """What the steward does first, builds live state from the ledger; and then a pulse of the web."""
        async with self.state.ledger.begin() as tx:
            known = await fleets.get(tx, fleet)
        await rebuild(self.state.ledger, self.state.live, known)
        await pulse(self.state.live, fleet, "web", ttl=known.ttl)

    async def lose_live_state(self) -> None:
        """Everything in Redis is gone, and the steward has built it anew."""
        await self.state.live.read(("FLUSHDB",))
        await self.build()

    async def record(self, fleet: str = "default") -> None:
        """What the steward does with events and with the outbox."""
        await record(self.state.ledger, self.state.live, fleet)
        await apply(self.state.ledger, self.state.live, fleet)

    async def expire(self, table: Literal["api_keys", "enrolment_keys"], key_id: str) -> None:
        """Lets a key's time be over."""
        async with self.state.ledger.begin() as tx:
            statement = f"UPDATE {table} SET expires_at = now() - interval '1 second' WHERE id = :id"  # noqa: S608
            await tx.execute(text(statement), {"id": key_id})

    async def account(self, name: str) -> str:
        """A new account's id."""
        async with self.state.ledger.begin() as tx:
            return (await accounts.create(tx, name)).id

    @asynccontextmanager
    async def client_of(self, account: str) -> AsyncIterator[AsyncClient]:
        """REST with a client's key of this account."""
        async with self.state.ledger.begin() as tx:
            _, secret = await ledger_keys.create_api_key(tx, role="client", account=account)
        async with speaker(self.app, secret) as client:
            yield client

    async def made(self, path: str, **body: Any) -> Json:
        """What REST answers to a POST that makes something."""
        answer = await self.rest.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    async def shown(self, path: str, **query: Any) -> Json:
        """What REST answers to a GET."""
        answer = await self.rest.get(f"/api/v1/{path}", params=query)
        assert answer.status_code == 200, answer.text
        shown: Json = answer.json()
        return shown


@asynccontextmanager
async def open_site(redis_url: str, database_url: str) -> AsyncIterator[Site]:
    """Starts a worker on stores that it empties, and builds the fleet `default`."""
    await _empty(database_url)
    app = _app()
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(open_state(_SETTINGS, redis_url, database_url))
        app.fastapi.state = AppState({"rota": state})  # pages keep there what belongs to one run
        await state.live.read(("FLUSHDB",))
        async with state.ledger.begin() as tx:
            _, secret = await ledger_keys.create_api_key(tx, role="operator")
        rest = await stack.enter_async_context(speaker(app, secret))
        anybody = await stack.enter_async_context(speaker(app))
        wire = await stack.enter_async_context(connected(app, state))
        site = Site(app, state, rest, anybody, wire)
        await site.build()
        yield site


@asynccontextmanager
async def connected(app: App, state: State) -> AsyncIterator[AsyncClient]:
    """HTTP over connections to a port, which are served as a web worker serves them."""
    config = server(app, Settings()).config
    config.load()
    serving, loop = ServerState(), asyncio.get_running_loop()
    serving.default_headers = [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")]
    listener = await loop.create_server(
        lambda: Connection(config, serving, {"rota": state}, loop), "127.0.0.1", 0, backlog=1024
    )
    host, port = listener.sockets[0].getsockname()
    try:
        limits = Limits(max_connections=None, max_keepalive_connections=None)
        base_url = f"http://{host}:{port}"
        async with AsyncClient(base_url=base_url, limits=limits, timeout=60, verify=NO_TLS) as client:
            yield client
    finally:
        listener.close()
        for connection in tuple(serving.connections):
            connection.transport.close()
        async with asyncio.timeout(5):
            await listener.wait_closed()


def speaker(app: App, secret: str | None = None) -> AsyncClient:
    """HTTP with this key or token, or with none."""
    headers = {"authorization": f"Bearer {secret}"} if secret is not None else {}
    return AsyncClient(transport=ASGITransport(app=app), base_url="http://rota.test", headers=headers)


@cache
def _app() -> App:
    """One for all sites, with the state of the newest: FastAPI takes long to prepare its routes."""
    return create_app(Settings(), "redis://unused", "postgresql://unused")


async def _empty(database_url: str) -> None:
    """Which takes a tenth of the time of another database."""
    ledger = Ledger(database_url)
    async with ledger.begin() as tx:
        for table in reversed(tables.metadata.sorted_tables):
            await tx.execute(table.delete())
        await fleets.create(tx, "default")
    await ledger.aclose()
