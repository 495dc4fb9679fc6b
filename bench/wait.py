"""Held heartbeats (`wait`): how soon an order reaches its bot, and what a bot that waits costs a worker in memory."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from httpx2 import AsyncClient

from bench import crowd, load
from bench.processes import worker
from bench.row import Row, at_most
from bench.run import Run
from bench.script import Scripts
from bench.stores import Stores, stores
from rota.ledger import keys
from rota.ledger.connection import Ledger

WAITING = 10_000
WORKERS = 2
ORDERS = 200
"""Profiles that are started, and stopped again."""
AT_ONCE = 500
"""Connections that are opened at the same time."""
PATIENCE = 120.0
WAIT = 25


def measure(run: Run) -> Iterable[Row]:
    """Ten thousand bots wait on two workers, each on a connection of its own; profiles are started and stopped."""
    with stores() as own:
        crowd.load(Scripts(own.redis_url), WAITING, run.report, bound=False)
        with (
            worker("rota.web", "--fd", ready="/healthz", environment=own.environment) as one,
            worker("rota.web", "--fd", ready="/healthz", environment=own.environment) as other,
        ):
            found = asyncio.run(_Trial(own, (one, other), run).run())
    yield Row("memory of a worker for a bot that waits", found["memory_kb"], "KB", at_most(20))
    for what in ("start", "stop"):
        yield Row(f"{what} told, from the API's answer on, p50", _share(found[what], 0.5), "ms")
        yield Row(f"{what} told, from the API's answer on, p99", _share(found[what], 0.99), "ms", at_most(50))


def _share(seconds: Sequence[float], share: float) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * share))] * 1000


class _Trial:
    """All bots, on one event loop."""

    def __init__(self, own: Stores, workers: Sequence[tuple[int, int]], run: Run) -> None:
        self._own = own
        self._workers = workers
        self._report = run.report
        self._told: dict[tuple[str, str], asyncio.Future[float]] = {}

    async def run(self) -> dict[str, Any]:
        before = sum(map(_memory, self._workers))
        waiting = [_Bot(self, number) for number in range(WAITING)]
        for start in range(0, WAITING, AT_ONCE):
            self._report(f"bots that wait: {start:,} of {WAITING:,}")
            await asyncio.gather(*(bot.connect(self._port(bot)) for bot in waiting[start : start + AT_ONCE]))
        await asyncio.sleep(2)
        memory = (sum(map(_memory, self._workers)) - before) / WAITING
        self._report("orders")
        found: dict[str, Any] = {"memory_kb": memory, "start": [], "stop": []}
        async with AsyncClient(base_url=f"http://127.0.0.1:{self._workers[0][0]}/api/v1", timeout=30) as rest:
            rest.headers["authorization"] = f"Bearer {await self._key()}"
            for number in range(ORDERS):
                answer = await rest.post("/profiles", json={"name": f"p{number}", "start": False})
                profile = answer.raise_for_status().json()["id"]
                found["start"].append(await self._order(rest, profile, "start"))
                found["stop"].append(await self._order(rest, profile, "stop"))
        for bot in waiting:
            bot.transport.abort()
        return found

    async def _order(self, rest: AsyncClient, profile: str, order: str) -> float:
        """Seconds from the API's answer until the bot hears of it; 0 where the bot heard first."""
        told: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._told[order, profile] = told
        (await rest.post(f"/profiles/{profile}/{order}")).raise_for_status()
        answered = time.perf_counter()
        heard = await asyncio.wait_for(told, PATIENCE)
        return max(0.0, heard - answered)

    def hear(self, instruction: str, profile: str) -> None:
        """A bot was told to start or to stop."""
        told = self._told.get((instruction, profile))
        if told is not None and not told.done():
            told.set_result(time.perf_counter())

    def _port(self, bot: _Bot) -> int:
        return self._workers[bot.number % WORKERS][0]

    async def _key(self) -> str:
        ledger = Ledger(self._own.database_url)
        async with ledger.begin() as tx:
            _, secret = await keys.create_api_key(tx, role="operator")
        await ledger.aclose()
        return secret


class _Bot(load.Line):
    """One bot: its next heartbeat goes out as soon as the last one is answered."""

    def __init__(self, trial: _Trial, number: int) -> None:
        super().__init__()
        self._trial = trial
        self.number = number
        self._token = crowd.member(number).token

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._beat(None)

    def answered(self, body: bytes, *, ok: bool) -> None:
        if not ok:
            raise RuntimeError(body.decode())
        told = json.loads(body)
        instruction, assignment = told["instruction"], told["assignment"]
        if instruction in ("start", "stop"):
            self._trial.hear(instruction, assignment["profile"])
        self._beat(assignment if instruction in ("start", "continue") else None)

    def _beat(self, assignment: dict[str, Any] | None) -> None:
        working = assignment and {name: assignment[name] for name in ("profile", "epoch", "revision")}
        body = json.dumps({"working": working, "wait": WAIT}).encode()
        self.transport.write(load.request("/bot/heartbeat", body, self._token))


def _memory(target: tuple[int, int]) -> float:
    """Resident memory of a worker, in KB."""
    status = Path(f"/proc/{target[1]}/status").read_text(encoding="ascii")
    return float(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
