"""How long reaping holds the store."""

from __future__ import annotations

from collections.abc import Iterable

from bench import crowd
from bench.row import Row
from bench.run import Run
from bench.script import Scripts
from bench.stores import live_store
from rota.live import keys
from rota.steward.reap import STEP

DEAD_SHARE = 0.1
LOOKS = 200


def measure(run: Run) -> Iterable[Row]:
    """The largest fleet: first nobody is overdue, then every tenth bot, all of them at work."""
    size = max(run.options.sizes)
    with live_store() as url:
        scripts = Scripts(url)
        crowd.load(scripts, size, run.report)
        run.report(f"reaping {size:,} bots of whom none is overdue")
        yield from scripts.held_us("reap", lambda: _look(scripts)).rows(f"{size:,} bots, nobody overdue", 1.0)
        dead = crowd.shuffled(size, int(size * DEAD_SHARE))
        run.report(f"letting {len(dead):,} of {size:,} bots fall silent")
        _fall_silent(scripts, dead)
        run.report(f"reaping {len(dead):,} of {size:,} bots")
        held = scripts.held_us("reap", lambda: _reap_all(scripts, len(dead)))
        yield from held.rows(f"{len(dead):,} of {size:,} overdue", 5.0)


def _fall_silent(scripts: Scripts, dead: Iterable[int]) -> None:
    pipe = scripts.redis.pipeline(transaction=False)
    for number in dead:
        pipe.execute_command("ZADD", keys.due(scripts.fleet), number + 1, crowd.member(number).bot)
    pipe.execute()


def _look(scripts: Scripts) -> None:
    for _ in range(LOOKS):
        _reap(scripts)


def _reap(scripts: Scripts) -> int:
    scripts.hear()
    removed = int(scripts.call("reap", STEP)[0])
    if removed < 0:
        msg = "rota is deaf and reaps nobody: nothing was measured"
        raise RuntimeError(msg)
    return removed


def _reap_all(scripts: Scripts, number: int) -> None:
    removed = 0
    while step := _reap(scripts):
        removed += step
    if removed != number:
        msg = f"{removed} bots were reaped instead of {number}: nothing was measured"
        raise RuntimeError(msg)
