"""What a heartbeat costs in fleets of different sizes: the cost must not grow with the fleet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bench import crowd
from bench.processes import cpu_seconds, worker
from bench.row import Row, at_most
from bench.run import Run, beats, drive
from bench.script import Scripts
from bench.stores import stores

FLAT = 1.3
"""Times the cost in the smallest fleet, which no other may exceed."""
STORE_LIMITS = {10_000: 4.0, 1_000_000: 8.0}
"""Bots → µs of the store's own time for a beat in batches of 64."""


class _Cost(NamedTuple):
    """Of one heartbeat, in µs: bare script, and over HTTP the web worker's and the store process's CPU time."""

    script: float
    web: float
    store: float


def measure(run: Run) -> Iterable[Row]:
    """Confirmed working bots beat in random order, first in calls of the bare script, then over HTTP."""
    smallest: _Cost | None = None
    for size in run.options.sizes:
        cost = _measure(run, size)
        smallest = smallest or cost
        limit = STORE_LIMITS.get(size)
        yield Row(
            f"{size:,} bots: store's own time, batches of 64",
            cost.script,
            "µs",
            at_most(limit) if limit else None,
            x_script=cost.script / smallest.script,
        )
        yield Row(f"{size:,} bots: web worker's CPU time", cost.web, "µs", x_empty=cost.web / run.empty_us)
        yield Row(f"{size:,} bots: store's CPU time over HTTP", cost.store, "µs")
        times = (cost.web + cost.store) / (smallest.web + smallest.store)
        what = f"{size:,} bots: web worker and store, times those of {run.options.sizes[0]:,}"
        yield Row(what, times, "×", at_most(FLAT))


def _measure(run: Run, size: int) -> _Cost:
    with stores() as own:
        scripts = Scripts(own.redis_url)
        crowd.load(scripts, size, run.report)
        run.report(f"{size:,} bots: the bare script")
        script = crowd.beat_cost(scripts, size)
        requests = beats(size)
        with worker("rota.web", "--fd", ready="/healthz", environment=own.environment) as web:
            run.report(f"{size:,} bots: over HTTP")
            before = cpu_seconds(scripts.pid)
            driven = drive(web, requests, run.options.seconds)
            store = (cpu_seconds(scripts.pid) - before) / driven.answered * 1e6
        return _Cost(script.us, driven.cpu_us, store)
