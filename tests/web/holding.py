"""Heartbeats that wait, for the tests of the long poll."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.conformance.fleet import Fleet
from tests.conformance.site import Json

WAIT = 20


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await true():  # noqa: ASYNC110 - rota says it by no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def held(
    bots: Fleet, *names: str, working: Json | None = None, **body: Any
) -> AsyncIterator[list[asyncio.Task[Json]]]:
    """Heartbeats that wait, once rota holds them all."""
    before = bots.site.state.waiting.number
    tasks = [asyncio.create_task(bots.beat(name, working, wait=WAIT, **body)) for name in names]

    async def all_held() -> bool:
        return bots.site.state.waiting.number == before + len(names) or any(task.done() for task in tasks)

    try:
        await until(all_held)
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def soon(task: asyncio.Task[Json]) -> Json:
    return await asyncio.wait_for(asyncio.shield(task), 5)


async def follows(fleet: Any, position: str = "") -> bool:
    """Whether the events behind this position were heeded."""
    return fleet.position not in ("", position) and (fleet.matching is None or fleet.matching.done())
