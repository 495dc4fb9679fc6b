"""`push_data` through one web worker against a bare COPY of the same rows into the same table, in one run."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import Any, overload

import asyncpg
from pydantic_core import to_json

from bench import crowd, load
from bench.processes import worker
from bench.row import Row, at_least, at_most
from bench.run import CONNECTIONS, Driven, Run, drive
from bench.script import Scripts
from bench.stores import stores
from rota.ledger import fences
from rota.ledger.connection import Ledger

BATCH = 100
"""Records in a batch of the comparison."""
OFFERED = 2_000
"""Batches of one record that are offered in a second, to see how long each waits."""
_COLUMNS = ["profile_id", "epoch", "batch", "position", "bot", "kind", "data"]
_FIRST, _TURN = 10**9, 10**7
"""Batch numbers begin here, so that all are of one length, and there in the next measurement."""


def measure(run: Run) -> Iterable[Row]:
    """COPY and pushes are measured in turn, several rounds; medians count."""
    options = run.options
    with stores() as own:
        crowd.load(Scripts(own.redis_url), CONNECTIONS, run.report)
        asyncio.run(_fence(own.database_url))
        with worker("rota.web", "--fd", ready="/healthz", environment=own.environment) as web:
            run.report("pushes at a fixed rate")
            # First: after the others PostgreSQL still writes out what they have left.
            paced = drive(web, _Batches(1, options.rounds), options.seconds, rate=OFFERED)
            pairs = []
            for turn in range(options.rounds):
                run.report(f"pushes, round {turn + 1} of {options.rounds}")
                copied = asyncio.run(_copy(own.database_url, turn, options.seconds))
                pairs.append((copied, drive(web, _Batches(BATCH, turn), options.seconds)))
    copied = statistics.median(copied for copied, _ in pairs)
    share = statistics.median(driven.per_second * BATCH / copied for copied, driven in pairs)
    yield Row(f"bare COPY, {BATCH} records a transaction", copied, "rows/s")
    yield Row(f"push_data, {BATCH} records", _median(pairs, "per_second") * BATCH, "rows/s")
    yield Row("… of the bare COPY's", share * 100, "%", at_least(30))
    yield Row("… worker CPU", _median(pairs, "cpu_us") / BATCH, "µs/row")
    yield Row("… p99", _median(pairs, "p99_ms"), "ms")
    yield Row(f"push_data, 1 record, {OFFERED:,}/s offered: answered", paced.per_second, "/s")
    yield Row("… p50", paced.p50_ms, "ms")
    yield Row("… p99", paced.p99_ms, "ms", at_most(100))


def records(number: int) -> list[dict[str, Any]]:
    """What a site watcher might push."""
    return [
        {
            "kind": "check",
            "data": {"url": f"https://shop.example/article/{at}", "status": 200, "ms": 12.5 + at, "tags": ["a", "b"]},
        }
        for at in range(number)
    ]


def _median(pairs: Sequence[tuple[float, Driven]], figure: str) -> float:
    return statistics.median(float(getattr(driven, figure)) for _, driven in pairs)


async def _fence(database_url: str) -> None:
    """The ledger knows the epochs of the crowd."""
    ledger = Ledger(database_url)
    members = [crowd.member(number) for number in range(CONNECTIONS)]
    async with ledger.begin() as tx:
        await fences.raise_to(tx, [(one.profile, one.epoch) for one in members])
    await ledger.aclose()


async def _copy(database_url: str, turn: int, seconds: float) -> float:
    """Rows a second of one connection that copies batch after batch, each in a transaction of its own."""
    connection = await asyncpg.connect(database_url)
    one, number = crowd.member(0), 0
    texts = [to_json(record["data"]).decode() for record in records(BATCH)]
    began = time.perf_counter()
    while time.perf_counter() < began + seconds:
        rows = [(one.profile, turn, number, at, one.bot, "check", text) for at, text in enumerate(texts)]
        await connection.copy_records_to_table("records", records=rows, columns=_COLUMNS)
        number += 1
    took = time.perf_counter() - began
    await connection.close()
    return number * BATCH / took


class _Batches(Sequence[bytes]):
    """Requests of the crowd in turn, each with a batch number of its own; made when they are asked for."""

    def __init__(self, size: int, turn: int, numbers: range = range(_TURN)) -> None:
        self._size, self._turn, self._numbers = size, turn, numbers
        self._body = json.dumps(records(size)).encode() + b"}"

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> _Batches: ...
    def __getitem__(self, index: int | slice) -> bytes | _Batches:
        if isinstance(index, slice):
            return _Batches(self._size, self._turn, self._numbers[index])
        number = self._numbers[index]
        one = crowd.member(number % CONNECTIONS)
        batch = _FIRST + self._turn * _TURN + number
        head = f'{{"profile":"{one.profile}","epoch":{one.epoch},"batch":{batch},"records":'
        return load.request("/bot/push_data", head.encode() + self._body, one.token)
