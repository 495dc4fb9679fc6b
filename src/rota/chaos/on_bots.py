"""What befalls bots: silence, death, a second process in the slot, and an operator."""

from __future__ import annotations

import asyncio

from rota.chaos.incidents import Incidents
from rota.chaos.scenario import Injected
from rota.chaos.stage import Stage
from rota.simulator.bot import SimulatedBot
from rota.simulator.faults import Fault

CUT_OFF_BOTS = 15
CLONES = 5
KILLED = 20
DEAD_SERVERS = 3
"""Of six: more than half of the bots."""
PEACE = 0.6
"""Times the ttl for which one of two processes must have held its slot in the end."""


async def bots_cut_off(stage: Stage) -> Injected:
    """They work while their leases last, and push what they had when they are back."""
    silent = 2 * stage.options.ttl
    struck = stage.strike(stage.some_working(CUT_OFF_BOTS), Fault.CUT_OFF, silent)
    await asyncio.sleep(silent)
    return Injected(struck, stage.now)


async def bots_killed(stage: Stage) -> Injected:
    """All of three servers, which is one incident; supervisors start others 1 to 4 s later, in other slots."""
    servers = stage.largest_servers()[:DEAD_SERVERS]
    incidents = await Incidents.begin(stage)
    dead = stage.strike([bot for bot in stage.crowd.bots if bot.hostname in servers], Fault.CRASH)
    return Injected(dead, stage.now, afterwards=lambda: incidents.one_that_names("mass_silence", servers))


async def bots_killed_by_operator(stage: Stage) -> Injected:
    """They learn of it by their next heartbeat, and may work until then."""
    victims = stage.some_working(KILLED)
    over = stage.now
    await stage.kill(victims)
    return Injected(len(victims), over)


async def bots_restarted(stage: Stage) -> Injected:
    """Their supervisors start them again at once, in the same slots."""
    half = stage.rng.sample(stage.crowd.bots, len(stage.crowd.bots) // 2)
    return Injected(stage.strike(half, Fault.RESTART), stage.now)


async def bots_cloned(stage: Stage) -> Injected:
    """Both processes fight for the slot until one of them is let in no more; then the first is ended."""
    originals = stage.some_working(CLONES)
    stage.witness.contested |= {bot.worker.bot for bot in originals}
    incidents = await Incidents.begin(stage)
    pairs = [(bot, stage.crowd.clone(bot)) for bot in originals]
    await asyncio.sleep((2 - PEACE) * stage.options.ttl)
    before = [_holders(pair) for pair in pairs]
    await asyncio.sleep(PEACE * stage.options.ttl)
    unmet = [_fight(*case) for case in zip(pairs, before, strict=True)]
    unmet += await incidents.one_for_each("contested_slot", [bot.worker.bot for bot in originals])
    stage.witness.hurt(bot.worker for bot in originals)
    for bot in originals:
        stage.crowd.end(bot)
    return Injected(len(originals), stage.now, tuple(text for text in unmet if text))


def _holders(pair: tuple[SimulatedBot, SimulatedBot]) -> list[str | None]:
    """The tokens under which two processes of one slot work."""
    return [bot.token if bot.work else None for bot in pair]


def _fight(pair: tuple[SimulatedBot, SimulatedBot], before: list[str | None]) -> str:
    """What is wrong where not one process alone has held the slot since `before`."""
    now = _holders(pair)
    if now == before and now.count(None) == 1:
        return ""
    return f"two processes still fight for the slot {pair[0].worker.bot}"
