"""A server that is drained while half of its bots crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rota.chaos.scenario import Injected
from rota.chaos.stage import POLL, Stage
from rota.simulator.faults import Fault

WITHIN = 3.0
"""Times the ttl that the bots have to end in order."""
EMPTY_WITHIN = 4.0
"""Times the ttl, and `GRACE` seconds more, after which nobody may work there any more."""
GRACE = 10.0
MOVED_BACK = 20


async def server_drained(stage: Stage) -> Injected:
    """Its work goes elsewhere; when the drain is undone, its bots are given work again."""
    (*_, hostname) = stage.largest_servers()
    there = [bot for bot in stage.crowd.bots if bot.hostname == hostname]
    stage.witness.hurt(bot.worker for bot in there)
    order = {"subject": hostname, "within": WITHIN * stage.options.ttl}
    await stage.rest.post(f"/fleets/{stage.fleet}/drains", order)
    crashed = stage.strike(stage.rng.sample(there, len(there) // 2), Fault.CRASH)
    unmet = await _until(stage, lambda: not _at_work(stage, hostname) and stage.all_worked_on(), "its work elsewhere")
    await stage.rest.delete(f"/fleets/{stage.fleet}/drains/{hostname}")
    unmet += await _until(stage, lambda: not stage.crowd.missing, "its bots back")
    profiles = stage.some_profiles(MOVED_BACK)
    stage.witness.restless |= set(profiles)
    await stage.order("stop", profiles)
    unmet += await _until(
        stage, lambda: not any(map(stage.witness.working, profiles)), "profiles for them, by stopping some"
    )
    over = stage.now
    await stage.order("start", profiles)
    unmet += await _until(stage, lambda: _at_work(stage, hostname) > 0, "its bots at work again")
    return Injected(1 + crashed, over, unmet)


def _at_work(stage: Stage, hostname: str) -> int:
    return sum(bot.hostname == hostname and bot.work is not None for bot in stage.crowd.bots)


async def _until(stage: Stage, reached: Callable[[], bool], what: str) -> tuple[str, ...]:
    """Waits for something; where it does not come, what was missed."""
    deadline = stage.now + EMPTY_WITHIN * stage.options.ttl + GRACE
    while not reached():
        if stage.now > deadline:
            return (f"the drained server: {what} was not reached; {stage.state()}",)
        await asyncio.sleep(POLL)
    return ()
