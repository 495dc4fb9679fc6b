"""What befalls the two stores and the ways to them, the store's clock, and the way from the bots to rota."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rota.chaos.front import Unruly
from rota.chaos.links import NONE, Direction, Link
from rota.chaos.scenario import Injected
from rota.chaos.stage import FLEET, Stage
from rota.simulator.faults import Fault

SLOW = 0.5
UNRULY_SHARE = 0.05
REWOUND_RESTARTS, REWOUND_CRASHES = 20, 10
REWOUND = 1.0
"""Seconds of writes that are lost."""
AFTER_JUMP = 2.0
"""Seconds from a jump of the clock to the first deaths."""
DEAD_AFTER_JUMP = 8


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
    await stage.installation.stores.tell_valkey("FLUSHALL")
    return Injected(1, stage.now)


async def valkey_rewound(stage: Stage) -> Injected:
    """What was granted after the copy is forgotten, but bots work under it."""
    stores = stage.installation.stores
    await stores.copy()
    hurt = stage.strike(stage.some_working(REWOUND_RESTARTS), Fault.RESTART)
    hurt += stage.strike(stage.some_working(REWOUND_CRASHES), Fault.CRASH)
    await asyncio.sleep(REWOUND)
    await stores.kill("valkey")
    await stores.rewind()
    await stores.begin("valkey")
    return Injected(1 + hurt, stage.now)


async def postgres_killed(stage: Stage) -> Injected:
    """It recovers from its log."""
    await stage.installation.stores.kill("postgres")
    await stage.installation.stores.begin("postgres")
    return Injected(1, stage.now)


async def network_unruly(stage: Stage) -> Injected:
    """Between bots and rota, for 3 ttl."""
    front = stage.installation.front
    front.done.clear()
    front.unruly = Unruly(UNRULY_SHARE, 0.7 * stage.options.ttl)
    await asyncio.sleep(3 * stage.options.ttl)
    front.unruly = None
    return Injected(front.done.total(), stage.now)


def jump(seconds: int) -> Callable[[Stage], Awaitable[Injected]]:
    """The clock by which live state tells the time is set; a moment later some bots die, and that must be noticed."""

    async def inject(stage: Stage) -> Injected:
        stores = stage.installation.stores
        await stores.tell_valkey("HINCRBY", f"{{{FLEET}}}:pulse", "offset", str(seconds * 1000))
        await asyncio.sleep(AFTER_JUMP)
        over = stage.now
        return Injected(1 + stage.strike(stage.some_working(DEAD_AFTER_JUMP), Fault.CRASH), over)

    return inject


def slow(link: Callable[[Stage], Link]) -> Callable[[Stage], Awaitable[Injected]]:
    """Every answer of a store takes longer, for 1.5 ttl."""

    async def inject(stage: Stage) -> Injected:
        link(stage).delay = SLOW
        await asyncio.sleep(1.5 * stage.options.ttl)
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
