"""A restart of a whole farm: every bot comes in at once, over and over the same few connections, and beats."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence

from bench import crowd, load
from bench.processes import worker
from bench.row import Row, at_most
from bench.run import Run
from bench.script import Scripts
from bench.stores import Stores, stores
from rota.ledger import keys as ledger_keys
from rota.ledger import servers
from rota.ledger.connection import Ledger

BOTS = 100_000
CONNECTIONS = 64
WORKERS = 2
REAP_EVERY, REAPED_AT_ONCE = 0.5, 50
"""As a steward does."""


def measure(run: Run) -> Iterable[Row]:
    """100,000 idle bots that are on the roster come in anew on two workers, and each beats once."""
    with stores() as own:
        key = asyncio.run(_admitted(own))
        with (
            worker("rota.web", "--fd", ready="/healthz", environment=own.environment) as one,
            worker("rota.web", "--fd", ready="/healthz", environment=own.environment) as other,
        ):
            scripts = Scripts(own.redis_url)
            crowd.load(scripts, BOTS, run.report, bound=False)
            run.report("the restart")
            seconds, dead = asyncio.run(_restart((one[0], other[0]), key, scripts))
    yield Row(f"restart of {BOTS:,} bots, from the first to the last heartbeat", seconds, "s", at_most(60))
    yield Row("bots that died of it", dead, "", at_most(0))


async def _admitted(own: Stores) -> str:
    """An enrolment key for the farm's servers."""
    ledger = Ledger(own.database_url)
    async with ledger.begin() as tx:
        await servers.add(tx, hostname="bot-farm-*", expected_bots=crowd.PER_SERVER)
        _, secret = await ledger_keys.create_enrolment_key(tx)
    await ledger.aclose()
    return secret


async def _restart(ports: Sequence[int], key: str, scripts: Scripts) -> tuple[float, int]:
    """How many seconds it took, and how many bots died meanwhile."""
    bots = iter(range(BOTS))
    lines = [_Line(bots, key) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    await asyncio.gather(*(line.connect(ports[at % WORKERS]) for at, line in enumerate(lines)))
    everybody = asyncio.gather(*(line.ended for line in lines))
    dead = 0
    while not everybody.done():
        await asyncio.wait([everybody], timeout=REAP_EVERY)
        dead += max(0, (await asyncio.to_thread(scripts.call, "reap", REAPED_AT_ONCE))[0])
    await everybody
    return time.perf_counter() - began, dead


class _Line(load.Line):
    """A connection over which one bot after the other comes in and beats."""

    def __init__(self, bots: Iterable[int], key: str) -> None:
        super().__init__()
        self._bots = iter(bots)
        self._key = key
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._come_in()

    def answered(self, body: bytes, *, ok: bool) -> None:
        if not ok:
            self.ended.set_exception(RuntimeError(body.decode()))
            return
        told = json.loads(body)
        if "token" in told:
            self.transport.write(load.request("/bot/heartbeat", b"{}", told["token"]))
        else:
            self._come_in()

    def _come_in(self) -> None:
        number = next(self._bots, None)
        if number is None:
            self.transport.close()
            self.ended.set_result(None)
            return
        hostname, instance = crowd.member(number).bot.split("/")
        body = json.dumps({"hostname": hostname, "instance": instance, "version": crowd.VERSION}).encode()
        self.transport.write(load.request("/bot/auth", body, self._key))
