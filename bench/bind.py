"""How long giving work to many bots at once holds the store."""

from __future__ import annotations

from collections.abc import Iterable

from bench import crowd
from bench.row import Row, at_most
from bench.run import Run
from bench.script import LEASE_MS, Scripts
from bench.stores import live_store
from rota.live.beats import BATCH
from rota.live.profiles import STEP, Want, packed

BOUND = 10_000


def measure(run: Run) -> Iterable[Row]:
    """The largest fleet is idle; 10,000 profiles are wanted at once, and all bots beat until they have work."""
    size = max(run.options.sizes)
    with live_store() as url:
        scripts = Scripts(url)
        crowd.load(scripts, size, run.report, bound=False)
        run.report(f"{BOUND:,} profiles are wanted")
        wanted = scripts.longest_us(lambda: _want(scripts))
        yield Row(f"{BOUND:,} profiles wanted: longest call", wanted / 1000, "ms", at_most(5.0))
        run.report(f"binding {BOUND:,} profiles among {size:,} bots")
        bound = scripts.longest_us(lambda: _beat(scripts, size))
        yield Row(f"{BOUND:,} profiles bound: longest call", bound / 1000, "ms", at_most(5.0))


def _want(scripts: Scripts) -> None:
    wishes = [
        Want(profile=crowd.member(n).profile, version=1, want="started", revision=1, priority=0, labels={}, epoch=0)
        for n in range(BOUND)
    ]
    for start in range(0, BOUND, STEP):
        scripts.call("want", packed(wishes[start : start + STEP]), 0)


def _beat(scripts: Scripts, size: int) -> None:
    """In batches of the size that web workers make under load."""
    scripts.hear()
    started = 0
    # Twice as many beats as profiles: a call that has given enough away lets the rest wait for the next beat.
    for batch in crowd.batches(crowd.shuffled(size, min(size, 4 * BOUND)), BATCH, idle=True):
        started += len(scripts.call("beat", batch, LEASE_MS)) // 5
        if started >= BOUND:
            return
        scripts.hear()
    msg = f"{started} profiles were bound instead of {BOUND}: nothing was measured"
    raise RuntimeError(msg)
