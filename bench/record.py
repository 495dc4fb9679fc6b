"""How fast history takes over what happens, against how fast it can happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from bench import bind, crowd
from bench.row import Row
from bench.run import Run
from bench.script import Scripts
from bench.stores import Stores, stores
from rota.ledger.connection import Ledger
from rota.live.scripts import Live
from rota.steward.record import record


def measure(run: Run) -> Iterable[Row]:
    """10,000 profiles are given to bots, as when a farm starts; then the steward's duty records all of it."""
    with stores() as own:
        scripts = Scripts(own.redis_url)
        crowd.load(scripts, 2 * bind.BOUND, run.report, bound=False)
        bind.want(scripts)
        run.report(f"giving {bind.BOUND:,} profiles away")
        began = time.perf_counter()
        given = bind.beat(scripts, 2 * bind.BOUND) / (time.perf_counter() - began)
        run.report("recording it")
        recorded = asyncio.run(_record(own))
    yield Row("profiles given to bots a second, by one connection", given, "1/s")
    yield Row("moves recorded a second", recorded, "1/s")


async def _record(own: Stores) -> float:
    ledger, live = Ledger(own.database_url), Live(own.redis_url)
    try:
        began, moves = time.perf_counter(), 0
        while step := await record(ledger, live, "default"):
            moves += step
        return moves / (time.perf_counter() - began)
    finally:
        await live.aclose()
        await ledger.aclose()
