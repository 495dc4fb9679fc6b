"""The heartbeat against an empty request through the same server, and against the bare script."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from bench import crowd
from bench.processes import worker
from bench.row import Row, at_least, at_most
from bench.run import Driven, Run, beats, drive
from bench.script import Scripts
from bench.stores import stores


def measure(run: Run) -> Iterable[Row]:
    """Both servers are loaded in turn, several rounds; medians count."""
    options = run.options
    with stores() as own:
        scripts = Scripts(own.redis_url)
        crowd.load(scripts, options.bots, run.report)
        with (
            worker("bench.empty", ready="/") as empty,
            worker("rota.web", "--fd", ready="/healthz", environment=own.environment) as web,
        ):
            requests = beats(options.bots)
            pairs = []
            for number in range(options.rounds):
                run.report(f"round {number + 1} of {options.rounds}")
                pairs.append((drive(empty, requests, options.seconds), drive(web, requests, options.seconds)))
        run.report("the bare script")
        cost = crowd.beat_cost(scripts, options.bots)
    yield from _requests(pairs, cost.us)
    yield Row("store, its own time, in batches of 64", cost.us, "µs", at_most(4.0), x_script=1.0)
    yield Row("store, its process's CPU time, in batches of 64", cost.cpu_us, "µs", x_script=cost.cpu_us / cost.us)


def _requests(pairs: list[tuple[Driven, Driven]], script_us: float) -> Iterable[Row]:
    empty, beat = [one for one, _ in pairs], [one for _, one in pairs]
    ratio = statistics.median(one.cpu_us / bare.cpu_us for bare, one in pairs)
    cpu = statistics.median(one.cpu_us for one in beat)
    # 25,000 where the empty request makes 45,000, as on the machine for which the target was set.
    share = statistics.median(one.per_core_second / bare.per_core_second for bare, one in pairs)
    bare_us = statistics.median(one.cpu_us for one in empty)
    yield Row("empty request, the server's CPU time", bare_us, "µs", x_empty=1.0, x_script=bare_us / script_us)
    yield Row("web worker's CPU time", cpu, "µs", at_most(1.6, "x_empty"), ratio, cpu / script_us)
    per_core = statistics.median(one.per_core_second for one in beat)
    yield Row("heartbeats a second of one core", per_core, "1/s", at_least(round(25 / 45, 2), "x_empty"), share)
    yield Row("answered within, p50", statistics.median(one.p50_ms for one in beat), "ms")
    yield Row("answered within, p99", statistics.median(one.p99_ms for one in beat), "ms")
