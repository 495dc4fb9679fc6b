"""Several web workers: what a beat costs one of them must not depend on how many others there are."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from bench import crowd, load
from bench.processes import cpu_seconds, worker
from bench.row import Row, at_most
from bench.run import CONNECTIONS, Run, beats
from bench.script import Scripts
from bench.stores import stores


def measure(run: Run) -> Iterable[Row]:
    """The same load on one of two workers, and on both at once, in turn.

    Two empty servers are measured in the same way: what they lose, too, they lose to the machine, on which two of them
    leave no core to the load and to the store.
    """
    options = run.options
    serving = ("rota.web", "--fd")
    with stores() as own, ExitStack() as running:
        crowd.load(Scripts(own.redis_url), options.bots, run.report)
        empty = [running.enter_context(worker("bench.empty", ready="/")) for _ in range(2)]
        web = [running.enter_context(worker(*serving, ready="/healthz", environment=own.environment)) for _ in range(2)]
        requests = beats(options.bots)
        costs = []
        for number in range(options.rounds):
            run.report(f"round {number + 1} of {options.rounds}")
            targets = (empty[:1], empty, web[:1], web)
            costs.append([asyncio.run(_drive(target, requests, options.seconds)) for target in targets])
    both = statistics.median(two for _, _, _, two in costs)
    yield Row("worker's CPU time for a beat, two workers at once", both, "µs", x_empty=both / run.empty_us)
    ratio = statistics.median(two / one for _, _, one, two in costs)
    yield Row("the same against one worker alone", ratio, "×")
    bare = statistics.median(two / one for one, two, _, _ in costs)
    yield Row("an empty request, two servers against one", bare, "×")
    yield Row("what two workers lose beyond two empty servers", ratio / bare, "×", at_most(1.15))


async def _drive(targets: Sequence[tuple[int, int]], requests: Sequence[bytes], seconds: float) -> float:
    """The workers' CPU time for one beat, in µs, under 64 connections each: beats are batched by what comes at once."""
    before = sum(cpu_seconds(pid) for _, pid in targets)
    loads = (load.run(port, requests, connections=CONNECTIONS, seconds=seconds) for port, _ in targets)
    done = await asyncio.gather(*loads)
    if any(one.refused for one in done):
        msg = "requests were refused: nothing was measured"
        raise RuntimeError(msg)
    return (sum(cpu_seconds(pid) for _, pid in targets) - before) / sum(one.answered for one in done) * 1e6
