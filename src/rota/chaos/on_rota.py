"""What befalls rota's own processes: web workers and stewards."""

from __future__ import annotations

import asyncio

from rota.chaos.scenario import Injected
from rota.chaos.stage import Stage
from rota.simulator.faults import Fault

RESTARTED_AFTER = 1.0
"""Seconds after which a supervisor starts a killed process of rota again."""
DEAD_WITH_LEADER = 5
AWAY = 3.5
"""Times the ttl that all of rota is away: with a ttl of 90 s, five minutes."""


async def web_killed(stage: Stage) -> Injected:
    """One of two web workers."""
    (victim, *_) = stage.installation.web
    over = stage.now
    await victim.kill()
    await asyncio.sleep(RESTARTED_AFTER)
    await victim.start()
    return Injected(1, over)


async def all_web_killed(stage: Stage) -> Injected:
    """Nobody answers until they are started again."""
    for member in stage.installation.web:
        await member.kill()
    await asyncio.sleep(RESTARTED_AFTER)
    over = stage.now
    for member in stage.installation.web:
        await member.start()
    return Injected(len(stage.installation.web), over)


async def web_rolled(stage: Stage) -> Injected:
    """One after another, so that there is always one that answers: no bot may notice."""
    tally = stage.crowd.around.tally
    broken_off, refused = stage.broken_off, tally.refusals.copy()
    for member in stage.installation.web:
        await member.end()
        await member.start()
        await stage.installation.until_serving(member)
    over = stage.now
    failed = {code: number - refused.get(code, 0) for code, number in tally.refusals.items()}
    failed["broken off"] = stage.broken_off - broken_off
    unmet = tuple(f"{number} requests of bots failed: {why}" for why, number in failed.items() if number)
    return Injected(len(stage.installation.web), over, unmet)


async def rota_away(stage: Stage) -> Injected:
    """Web workers and stewards at once, for longer than any lease lasts."""
    there = stage.installation
    members = (*there.web, *there.stewards)
    await asyncio.gather(*(member.kill() for member in members))
    await asyncio.sleep(AWAY * stage.options.ttl)
    over = stage.now
    for member in members:
        await member.start()
    return Injected(len(members), over)


async def steward_killed(stage: Stage) -> Injected:
    """Bots die at the same moment, so that somebody must do the leader's duties."""
    leader = await stage.installation.leader()
    over = stage.now
    await leader.kill()
    dead = stage.strike(stage.some_working(DEAD_WITH_LEADER), Fault.CRASH)
    await asyncio.sleep(RESTARTED_AFTER)
    await leader.start()
    return Injected(1 + dead, over)


async def web_stopped(stage: Stage) -> Injected:
    """Afterwards it does what it was asked long ago."""
    (victim, *_) = stage.installation.web
    victim.freeze()
    await asyncio.sleep(3 * stage.options.ttl)
    victim.thaw()
    return Injected(1, stage.now)


async def everything_restarted(stage: Stage) -> Injected:
    """In order: web workers and stewards, then the stores; all begin anew while the bots call."""
    there = stage.installation
    members = (*there.web, *there.stewards)
    await asyncio.gather(*(member.end() for member in members))
    for name in ("valkey", "postgres"):
        await there.stores.stop(name)
    for name in ("postgres", "valkey"):
        await there.stores.begin(name)
    over = stage.now
    for member in members:
        await member.start()
    return Injected(len(members) + 2, over)
