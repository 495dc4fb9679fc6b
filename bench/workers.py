"""Several web workers: what a beat costs one of them must not depend on how many others there are."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterable, Sequence

from bench import crowd, load
from bench.processes import cpu_seconds, worker
from bench.row import Row, at_most
from bench.run import CONNECTIONS, Run, beats
from bench.script import Scripts
from bench.stores import stores


def measure(run: Run) -> Iterable[Row]:
    """The same load on one of two workers, and on both at once, in turn."""
    options = run.options
    with stores() as own:
        crowd.load(Scripts(own.redis_url), options.bots, run.report)
        with (
            worker("rota.web", "--fd", ready="/healthz", environment=own.environment) as one,
            worker("rota.web", "--fd", ready="/healthz", environment=own.environment) as other,
        ):
            requests = beats(options.bots)
            pairs = []
            for number in range(options.rounds):
                run.report(f"round {number + 1} of {options.rounds}")
                alone = asyncio.run(_drive([one], requests, options.seconds))
                pairs.append((alone, asyncio.run(_drive([one, other], requests, options.seconds))))
    both = statistics.median(together for _, together in pairs)
    yield Row("worker's CPU time for a beat, two workers at once", both, "µs", x_empty=both / run.empty_us)
    ratio = statistics.median(together / alone for alone, together in pairs)
    yield Row("the same against one worker alone", ratio, "×", at_most(1.15))


async def _drive(targets: Sequence[tuple[int, int]], requests: Sequence[bytes], seconds: float) -> float:
    """The workers' CPU time for one beat, in µs, under 64 connections altogether."""
    before = sum(cpu_seconds(pid) for _, pid in targets)
    each = CONNECTIONS // len(targets)
    done = await asyncio.gather(*(load.run(port, requests, connections=each, seconds=seconds) for port, _ in targets))
    if any(one.refused for one in done):
        msg = "requests were refused: nothing was measured"
        raise RuntimeError(msg)
    return (sum(cpu_seconds(pid) for _, pid in targets) - before) / sum(one.answered for one in done) * 1e6
