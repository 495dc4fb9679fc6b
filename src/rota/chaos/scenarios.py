"""The scenarios: what is broken, and what must come of it. `docs/chaos.md` lists the same; a test compares the two.

Each injects its faults, waits until they act no more, and returns how many there were and when that was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rota.chaos.front import Unruly
from rota.chaos.links import BOTH, NONE, Direction, Link
from rota.chaos.stage import Stage
from rota.simulator.faults import Fault

RESTARTED_AFTER = 1.0
"""Seconds after which a supervisor starts a killed process of rota again."""
SLOW = 0.5
UNRULY_SHARE = 0.05
DEAD_WITH_LEADER = 5
CUT_OFF_BOTS = 20
CLONES = 5
REWOUND_RESTARTS, REWOUND_CRASHES = 20, 10


@dataclass(frozen=True)
class Injected:
    """How many faults there were, and when they acted no more (the loop's clock)."""

    faults: int
    over: float


@dataclass(frozen=True)
class Scenario:
    """`spoils`: what it breaks stays lost, and the next scenario gets an installation of its own."""

    name: str
    summary: str
    inject: Callable[[Stage], Awaitable[Injected]]
    spoils: bool = False


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


async def bots_cut_off(stage: Stage) -> Injected:
    """They work while their leases last, and push what they had when they are back."""
    silent = 2 * stage.options.ttl
    struck = stage.strike(stage.some_working(CUT_OFF_BOTS), Fault.CUT_OFF, silent)
    await asyncio.sleep(silent)
    return Injected(struck, stage.now)


async def bots_killed(stage: Stage) -> Injected:
    """Their supervisors start others 1 to 4 s later, in other slots."""
    half = stage.rng.sample(stage.crowd.bots, len(stage.crowd.bots) // 2)
    return Injected(stage.strike(half, Fault.CRASH), stage.now)


async def bots_restarted(stage: Stage) -> Injected:
    """Their supervisors start them again at once, in the same slots."""
    half = stage.rng.sample(stage.crowd.bots, len(stage.crowd.bots) // 2)
    return Injected(stage.strike(half, Fault.RESTART), stage.now)


async def bots_cloned(stage: Stage) -> Injected:
    """Both processes fight for the slot until the first is ended."""
    originals = stage.some_working(CLONES)
    stage.witness.contested |= {bot.worker.bot for bot in originals}
    for bot in originals:
        stage.crowd.clone(bot)
    await asyncio.sleep(2 * stage.options.ttl)
    stage.witness.hurt(bot.worker for bot in originals)
    for bot in originals:
        stage.crowd.end(bot)
    return Injected(len(originals), stage.now)


async def valkey_killed(stage: Stage) -> Injected:
    """It has written down everything that it answered."""
    await stage.installation.stores.kill("valkey")
    await stage.installation.stores.begin("valkey")
    return Injected(1, stage.now)


async def valkey_lost(stage: Stage) -> Injected:
    """A new, empty one comes up."""
    stores = stage.installation.stores
    await stores.kill("valkey")
    await stores.forget()
    await stores.begin("valkey")
    return Injected(1, stage.now)


async def valkey_flushed(stage: Stage) -> Injected:
    """Under the very connections that rota uses."""
    await stage.installation.stores.flush()
    return Injected(1, stage.now)


async def valkey_rewound(stage: Stage) -> Injected:
    """What was granted after the copy is forgotten, but bots work under it."""
    stores = stage.installation.stores
    await stores.copy()
    hurt = stage.strike(stage.some_working(REWOUND_RESTARTS), Fault.RESTART)
    hurt += stage.strike(stage.some_working(REWOUND_CRASHES), Fault.CRASH)
    await asyncio.sleep(RESTARTED_AFTER)
    await stores.kill("valkey")
    await stores.rewind()
    await stores.begin("valkey")
    return Injected(1 + hurt, stage.now)


async def postgres_killed(stage: Stage) -> Injected:
    """It recovers from its log."""
    await stage.installation.stores.kill("postgres")
    await stage.installation.stores.begin("postgres")
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


async def network_unruly(stage: Stage) -> Injected:
    """Between bots and rota, for 3 ttl."""
    front = stage.installation.front
    front.done.clear()
    front.unruly = Unruly(UNRULY_SHARE, 0.7 * stage.options.ttl)
    await asyncio.sleep(3 * stage.options.ttl)
    front.unruly = None
    return Injected(front.done.total(), stage.now)


def slow(link: Callable[[Stage], Link]) -> Callable[[Stage], Awaitable[Injected]]:
    """Every answer of a store takes longer, for 2 ttl."""

    async def inject(stage: Stage) -> Injected:
        link(stage).delay = SLOW
        await asyncio.sleep(2 * stage.options.ttl)
        link(stage).delay = 0.0
        return Injected(1, stage.now)

    return inject


def cut(link: Callable[[Stage], Link], direction: Direction) -> Callable[[Stage], Awaitable[Injected]]:
    """Nothing passes to or from a store, for 1.5 ttl; what was on its way arrives then."""

    async def inject(stage: Stage) -> Injected:
        link(stage).cut(direction)
        await asyncio.sleep(1.5 * stage.options.ttl)
        link(stage).cut(NONE)
        return Injected(1, stage.now)

    return inject


def valkey(stage: Stage) -> Link:
    """The way to the live store."""
    return stage.installation.stores.valkey


def postgres(stage: Stage) -> Link:
    """The way to the ledger."""
    return stage.installation.stores.postgres


SCENARIOS = (
    Scenario("web-killed", "kill -9 of one of two web workers", web_killed),
    Scenario("all-web-killed", "kill -9 of all web workers", all_web_killed),
    Scenario("steward-killed", "kill -9 of the leading steward while 5 bots die", steward_killed),
    Scenario("web-stopped", "SIGSTOP of one web worker for 3 ttl, then SIGCONT", web_stopped),
    Scenario("bots-cut-off", "20 bots hear and say nothing for 2 ttl, then are back", bots_cut_off),
    Scenario("bots-killed", "half of the bots die at once; others start in other slots", bots_killed),
    Scenario("bots-restarted", "half of the bots die at once and start again in their slots", bots_restarted),
    Scenario("bots-cloned", "5 bots get a second process in their slots for 2 ttl", bots_cloned),
    Scenario("valkey-killed", "kill -9 of Valkey with its append-only file", valkey_killed),
    Scenario("postgres-killed", "kill -9 of PostgreSQL", postgres_killed),
    Scenario("everything-restarted", "web workers, stewards and stores are restarted in order", everything_restarted),
    Scenario("valkey-slow", "every answer of Valkey takes 500 ms longer, for 2 ttl", slow(valkey)),
    Scenario("postgres-slow", "every answer of PostgreSQL takes 500 ms longer, for 2 ttl", slow(postgres)),
    Scenario("valkey-cut", "no byte to or from Valkey for 1.5 ttl", cut(valkey, BOTH)),
    Scenario("postgres-cut", "no byte to or from PostgreSQL for 1.5 ttl", cut(postgres, BOTH)),
    Scenario("valkey-mute", "no byte from Valkey for 1.5 ttl; it hears", cut(valkey, Direction.BACK)),
    Scenario("postgres-mute", "no byte from PostgreSQL for 1.5 ttl; it hears", cut(postgres, Direction.BACK)),
    Scenario("network-unruly", "5 % each of all requests delayed, doubled, reordered, unanswered", network_unruly),
    Scenario("valkey-flushed", "FLUSHALL", valkey_flushed, spoils=True),
    Scenario("valkey-lost", "kill -9 of Valkey, and its append-only file is gone", valkey_lost, spoils=True),
    Scenario("valkey-rewound", "Valkey loses its last second while grants are made", valkey_rewound, spoils=True),
)
"""In the order in which they are run."""
