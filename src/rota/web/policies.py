"""Each fleet's interval and ttl as this worker knows them, so that a heartbeat asks no ledger; and the worker's pulse.

Both are refreshed every second in the background. A ledger that is away leaves the last known policies in force.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from rota.errors import RotaError
from rota.ledger import fleets
from rota.ledger.connection import Ledger
from rota.live.liveness import Hearing
from rota.live.scripts import Live
from rota.protocol import deadline_after_ms

REFRESH = 1.0
"""Seconds between two looks at the ledger, and between two pulses."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Policy:
    """What bots of a fleet are granted, in seconds; the rest is worked out once for the hot path."""

    interval: float
    ttl: float
    deadline_ms: int
    json: str
    wait_reply: str
    continue_reply: str
    """Up to the profile of the assignment."""

    @classmethod
    def of(cls, interval: float, ttl: float) -> Policy:
        """The policy with its ready-made piece of JSON and the reply that has nothing to say."""
        json = f'"interval":{interval:g},"ttl":{ttl:g}'
        wait = f'{{"instruction":"wait",{json},"assignment":null}}'
        go_on = f'{{"instruction":"continue",{json},"assignment":{{"profile":"'
        return cls(interval, ttl, deadline_after_ms(ttl), json, wait, go_on)


class Policies:
    """Fleet → policy."""

    def __init__(self, ledger: Ledger, live: Live) -> None:
        self._ledger = ledger
        self._live = live
        self._known: dict[str, Policy] = {}
        self._hearing: dict[str, Hearing] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    async def of(self, fleet: str) -> Policy:
        """The fleet's policy; asks the ledger only for a fleet that this worker has not met.

        Raises:
            NotFoundError: there is no such fleet.
            UnavailableError: the ledger is away.
        """
        return self._known.get(fleet) or await self._learn(fleet)

    def known(self, fleet: str) -> Policy | None:
        """The fleet's policy if this worker has met it, without waiting."""
        return self._known.get(fleet)

    async def start(self) -> None:
        """Reads all policies and keeps them, and the pulse, fresh until `aclose`."""
        await self._refresh()
        self._tasks = [
            asyncio.create_task(self._every_second(self._refresh)),
            asyncio.create_task(self._every_second(self._pulse)),
        ]

    async def aclose(self) -> None:
        """Ends the background work."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _learn(self, fleet: str) -> Policy:
        async with self._ledger.begin() as tx:
            found = await fleets.get(tx, fleet)
        policy = self._known[fleet] = Policy.of(found.interval, found.ttl)
        return policy

    async def _refresh(self) -> None:
        async with self._ledger.begin() as tx:
            found = await fleets.all(tx)
        self._known = {fleet.name: Policy.of(fleet.interval, fleet.ttl) for fleet in found}

    async def _pulse(self) -> None:
        for fleet, policy in list(self._known.items()):
            hearing = self._hearing.get(fleet)
            if hearing is None:
                hearing = self._hearing[fleet] = Hearing(self._live, fleet)
            await hearing.pulse(policy.ttl)

    async def _every_second(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except RotaError as error:
                log.warning("background work failed", work=getattr(work, "__name__", ""), error=str(error))
            except Exception:
                log.exception("background work failed", work=getattr(work, "__name__", ""))
            # Before Python 3.12 `asyncio.wait_for`, which the drivers use, may lose a cancellation.
            if self._closing:
                return
            await asyncio.sleep(REFRESH)
