"""One run of the benchmark: what was chosen, who hears of progress, and what all figures are compared with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from bench import crowd, load
from bench.processes import cpu_seconds, worker
from bench.script import Scripts
from bench.stores import live_store

CONNECTIONS = 64
MOST_REQUESTS = 200_000
"""More different requests are not written down; no measurement gets through them."""


@dataclass(frozen=True)
class Options:
    """What the caller chose: `bots` are registered where a part does not say otherwise."""

    bots: int = 10_000
    seconds: float = 5.0
    rounds: int = 3
    sizes: Sequence[int] = (600, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Driven:
    """What a server made of a load."""

    answered: int
    cpu_us: float
    per_second: float
    per_core_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Run:
    """What every part is given."""

    options: Options
    report: Callable[[str], None]
    """Hears what is being done."""

    @cached_property
    def empty_us(self) -> float:
        """The CPU time of an empty request through the same server, in µs; measured when first asked for."""
        self.report("empty requests")
        with worker("bench.empty", ready="/") as empty:
            return drive(empty, beats(self.options.bots), self.options.seconds).cpu_us

    @cached_property
    def script_us(self) -> float:
        """The store's own time for a beat in batches of 64 at `bots` registered ones, in µs."""
        with live_store() as url:
            scripts = Scripts(url)
            crowd.load(scripts, self.options.bots, self.report)
            self.report("the bare script")
            return crowd.beat_cost(scripts, self.options.bots).us


def beats(size: int) -> list[bytes]:
    """The heartbeats of so many bots as requests, in random order."""
    chosen = (crowd.member(number) for number in crowd.shuffled(size, min(size, MOST_REQUESTS)))
    return [load.request("/bot/heartbeat", one.body, one.token) for one in chosen]


def drive(
    target: tuple[int, int],
    requests: Sequence[bytes],
    seconds: float,
    *,
    connections: int = CONNECTIONS,
    rate: float | None = None,
) -> Driven:
    """Loads a server, given as its port and process id; `rate` as in `load.run`.

    Raises:
        RuntimeError: something was refused, so that nothing was measured.
    """
    port, pid = target
    before = cpu_seconds(pid)
    done = asyncio.run(load.run(port, requests, connections=connections, seconds=seconds, rate=rate))
    used = cpu_seconds(pid) - before
    if done.refused:
        msg = f"{done.refused} of {done.answered} requests were refused: nothing was measured"
        raise RuntimeError(msg)
    return Driven(
        answered=done.answered,
        cpu_us=used / done.answered * 1e6,
        per_second=done.answered / done.seconds,
        per_core_second=done.answered / used,
        p50_ms=done.percentile(0.5),
        p99_ms=done.percentile(0.99),
    )
