"""The heartbeat against an empty request through the same server, and against the bare script."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from bench import load
from bench.processes import cpu_seconds, worker
from rota.embedded import EmbeddedPostgres, EmbeddedValkey, Place
from rota.ledger.migrations import upgrade
from rota.live import bots, profiles
from rota.live.beats import BATCH, Beats
from rota.live.bots import Newcomer
from rota.live.entries import idle_entry, working_entry
from rota.live.liveness import pulse
from rota.live.scripts import Live
from rota.protocol import deadline_after_ms
from rota.web.tokens import digest as digest_of
from rota.web.tokens import make_token

FLEET = "default"
TTL = 3600.0
CONNECTIONS = 64
Report = Callable[[str], None]


@dataclass(frozen=True)
class Working:
    """One confirmed working bot: what its heartbeat carries."""

    bot: str
    token: str
    digest: bytes
    profile: str
    epoch: int


@dataclass(frozen=True)
class Stores:
    """Addresses of a Valkey and a migrated PostgreSQL."""

    redis_url: str
    database_url: str


@contextmanager
def stores() -> Iterator[Stores]:
    """Stores of the benchmark's own, as `rota serve` runs them."""
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        Path(folder).chmod(0o711)
        place = Place(Path(folder) / "data")
        place.open()
        with EmbeddedValkey(place) as valkey, EmbeddedPostgres(place) as postgres:
            upgrade(postgres.url)
            yield Stores(valkey.url, postgres.url)
        place.close()


def measure(bots_registered: int, seconds: float, rounds: int, report: Report) -> list[dict[str, Any]]:
    """Rows of the table: what was measured, how much, and the ratio to the empty request."""
    with stores() as own:
        report(f"registering {bots_registered} working bots")
        crowd = asyncio.run(_register(own.redis_url, bots_registered))
        environment = {"ROTA_REDIS_URL": own.redis_url, "ROTA_DATABASE_URL": own.database_url}
        with (
            worker("bench.empty", ready="/") as empty,
            worker("rota.web", "--fd", ready="/healthz", environment=environment) as web,
        ):
            beats = [load.request("/bot/heartbeat", _body(one), one.token) for one in crowd]
            pairs = []
            for number in range(rounds):
                report(f"round {number + 1} of {rounds}")
                pairs.append((_drive(empty, beats, seconds), _drive(web, beats, seconds)))
        report("the bare script")
        script = asyncio.run(_script(own.redis_url, crowd))
    return [*_request_rows(pairs), script]


def _body(one: Working) -> bytes:
    return (f'{{"working":{{"profile":"{one.profile}","epoch":{one.epoch},"revision":1}},"status":"looking"}}').encode()


def _drive(target: tuple[int, int], requests: list[bytes], seconds: float) -> dict[str, float]:
    port, pid = target
    before = cpu_seconds(pid)
    done = asyncio.run(load.run(port, requests, connections=CONNECTIONS, seconds=seconds))
    used = cpu_seconds(pid) - before
    if done.refused:
        msg = f"{done.refused} of {done.answered} requests were refused: nothing was measured"
        raise RuntimeError(msg)
    return {
        "cpu_us": used / done.answered * 1e6,
        "per_second": done.answered / done.seconds,
        "per_core_second": done.answered / used,
        "p50_ms": done.percentile(0.5),
        "p99_ms": done.percentile(0.99),
    }


def _request_rows(pairs: list[tuple[dict[str, float], dict[str, float]]]) -> list[dict[str, Any]]:
    empty, beat = ({key: statistics.median(pair[at][key] for pair in pairs) for key in pairs[0][at]} for at in (0, 1))
    ratio = statistics.median(beat["cpu_us"] / empty["cpu_us"] for empty, beat in pairs)
    return [
        {"what": "empty request", **empty, "ratio": 1.0},
        {"what": "heartbeat", **beat, "ratio": ratio},
    ]


async def _register(redis_url: str, number: int) -> list[Working]:
    live = Live(redis_url)
    try:
        await pulse(live, FLEET, "steward", ttl=TTL, incarnation="bench")
        await pulse(live, FLEET, "built", ttl=TTL, incarnation="bench")
        gatherer, crowd = Beats(live), []
        for index in range(number):
            if index % 100 == 0:
                # Nothing is given away while nobody seems to hear.
                await pulse(live, FLEET, "web", ttl=TTL)
            crowd.append(await _working(live, gatherer, index))
        await gatherer.aclose()
        return crowd
    finally:
        await live.aclose()


async def _working(live: Live, gatherer: Beats, index: int) -> Working:
    bot, profile = f"farm-{index // 100}/{index % 100}", f"prf_{index:020}"
    token = make_token(FLEET, bot)
    digest = digest_of(token)
    wish = profiles.Want(profile=profile, version=1, want="started", revision=1, priority=0, labels={}, epoch=0)
    await profiles.want(live, FLEET, [wish])
    await bots.auth(live, FLEET, Newcomer(bot, digest, "1", {}, "::1"), ttl=TTL, leased=None)
    told = await gatherer.beat(FLEET, bot, idle_entry(digest, accepting=True, status=""), deadline_after_ms(TTL))
    if told is None or told.code != "start":
        msg = f"{bot} was not given work: {told}"
        raise RuntimeError(msg)
    one = Working(bot, token, digest, told.profile, told.epoch)
    await gatherer.beat(FLEET, bot, _entry(one), deadline_after_ms(TTL))
    return one


def _entry(one: Working) -> bytes:
    return working_entry(one.digest, one.profile, one.epoch, 1, accepting=True, status="looking")


async def _script(redis_url: str, crowd: list[Working]) -> dict[str, Any]:
    """The store's own time for each beat in full batches, as its command statistics have it."""
    live = Live(redis_url)
    try:
        batches = []
        for start in range(0, len(crowd), BATCH // 2):
            flat: list[str | bytes] = []
            for one in crowd[start : start + BATCH // 2]:
                flat += [one.bot, _entry(one)]
            batches.append(msgpack.packb(flat, use_bin_type=False))
        for packed in batches:
            await live.call("beat", FLEET, packed, deadline_after_ms(TTL))
        await live.read(("CONFIG", "RESETSTAT"))
        rounds = max(1, 20_000 // len(crowd))
        for _ in range(rounds):
            for packed in batches:
                await live.call("beat", FLEET, packed, deadline_after_ms(TTL))
        (statistics_,) = await live.read(("INFO", "commandstats"))
        used = _evalsha_us(statistics_)
        return {"what": "bare script, batches of 64", "store_us": used / (rounds * len(crowd))}
    finally:
        await live.aclose()


def _evalsha_us(info: Any) -> float:
    if isinstance(info, dict):
        return float(info["cmdstat_evalsha"]["usec"])
    line = next(line for line in info.decode().splitlines() if line.startswith("cmdstat_evalsha:"))
    return float(dict(part.split("=") for part in line.partition(":")[2].split(","))["usec"])
