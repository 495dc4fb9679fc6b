"""What a bot takes of the live store's memory."""

from __future__ import annotations

from collections.abc import Iterable

from bench import crowd
from bench.row import Row, at_most
from bench.run import Run
from bench.script import Scripts
from bench.stores import live_store


def measure(run: Run) -> Iterable[Row]:
    """The largest fleet, without work and at work."""
    size = max(run.options.sizes)
    for bound, limit in ((False, 300), (True, 420)):
        with live_store() as url:
            scripts = Scripts(url)
            before = int(scripts.redis.info("memory")["used_memory"])
            crowd.load(scripts, size, run.report, bound=bound)
            used = int(scripts.redis.info("memory")["used_memory"]) - before
            what = f"{size:,} bots: each, {'with a profile' if bound else 'without work'}"
            yield Row(what, used / size, "bytes", at_most(limit))
