"""Many bots of one host in one call, `POST /bot/heartbeats`, against the empty request of a single one."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from bench import crowd, load
from bench.processes import worker
from bench.row import Row, at_least, at_most
from bench.run import Run, beats, drive
from bench.script import Scripts
from bench.stores import stores

IN_ONE = 500
HOSTS = 4
"""Connections: hosts that call at the same time."""
LEAST_BOTS = IN_ONE * HOSTS


def measure(run: Run) -> Iterable[Row]:
    """The calls of four hosts, of 500 bots each; both servers are loaded in turn, and medians count."""
    options = run.options
    with stores() as own:
        crowd.load(Scripts(own.redis_url), options.bots, run.report)
        with (
            worker("bench.empty", ready="/") as empty,
            worker("rota.web", "--fd", ready="/healthz", environment=own.environment) as web,
        ):
            single, calls, pairs = beats(options.bots), list(_calls(options.bots)), []
            for number in range(options.rounds):
                run.report(f"round {number + 1} of {options.rounds}")
                many = drive(web, calls, options.seconds, connections=HOSTS)
                pairs.append((drive(empty, single, options.seconds), many))
    cpu = statistics.median(many.cpu_us for _, many in pairs) / IN_ONE
    share = statistics.median(many.cpu_us / IN_ONE / bare.cpu_us for bare, many in pairs)
    yield Row(f"web worker's CPU time for a beat, in calls of {IN_ONE}", cpu, "µs", x_empty=share)
    per_core = statistics.median(many.per_core_second for _, many in pairs) * IN_ONE
    # 150,000 where the empty request makes 45,000, as on the machine for which the target was set.
    yield Row("beats a second of one core", per_core, "1/s", at_least(round(150 / 45, 2), "x_empty"), 1 / share)
    yield Row("a call answered within, p99", statistics.median(many.p99_ms for _, many in pairs), "ms", at_most(1000))


def _calls(size: int) -> Iterable[bytes]:
    members = [crowd.member(number) for number in crowd.shuffled(size, min(size, 20_000))]
    for start in range(0, len(members) - IN_ONE + 1, IN_ONE):
        said = b",".join(
            b'{"token":"%b",%b' % (one.token.encode(), one.body[1:]) for one in members[start : start + IN_ONE]
        )
        yield load.request("/bot/heartbeats", b'{"beats":[%b]}' % said, "none")
