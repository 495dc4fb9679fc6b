"""How long giving work to many bots at once holds the store."""

from __future__ import annotations

from collections.abc import Iterable

from bench import crowd
from bench.row import Row
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
        yield from scripts.held_us("want", lambda: want(scripts)).rows(f"{BOUND:,} profiles wanted", 5.0)
        run.report(f"binding {BOUND:,} profiles among {size:,} bots")
        yield from scripts.held_us("beat", lambda: beat(scripts, size)).rows(f"{BOUND:,} profiles bound", 5.0)


def want(scripts: Scripts) -> None:
    """All of the profiles are wanted."""
    wishes = [
        Want(profile=crowd.member(n).profile, version=1, want="started", revision=1, priority=0, labels={}, epoch=0)
        for n in range(BOUND)
    ]
    for start in range(0, BOUND, STEP):
        scripts.call("want", packed(wishes[start : start + STEP]), 0)


def beat(scripts: Scripts, size: int) -> int:
    """Idle bots beat until the profiles are given away, in batches as web workers make them; how many were given.

    Who got nothing from a call that had given enough away beats again when all others have.
    """
    wanted, given = min(BOUND, size), 0
    left, before = crowd.shuffled(size, size), -1
    while given > before:
        before, again = given, []
        for start in range(0, len(left), BATCH):
            numbers = left[start : start + BATCH]
            scripts.hear()
            (batch,) = crowd.batches(numbers, BATCH, idle=True)
            news = scripts.call("beat", batch, LEASE_MS)
            started = {numbers[news[at] - 1] for at in range(0, len(news), 5)}
            again += [number for number in numbers if number not in started]
            given += len(started)
            if given >= wanted:
                return given
        left = again
    msg = f"{given} profiles were bound instead of {wanted}: nothing was measured"
    raise RuntimeError(msg)
