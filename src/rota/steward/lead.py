"""The steward's round: whoever holds the ledger's advisory lock does every duty for every fleet, twice a second.

Any number of stewards may run; the others stand by and take over within a round when the leader's connection ends.
Duties are idempotent, so that a leader that was cut off without knowing does no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from rota.errors import RotaError
from rota.ledger import fleets
from rota.ledger.connection import Leadership, Ledger
from rota.ledger.fleets import Fleet
from rota.live.scripts import Live
from rota.steward.apply import STEP as APPLY_STEP
from rota.steward.apply import apply
from rota.steward.deliver import Courier
from rota.steward.drain import drain
from rota.steward.observe import observe
from rota.steward.partition import partition
from rota.steward.promote import promote
from rota.steward.reap import reap
from rota.steward.rebuild import rebuild
from rota.steward.record import STEP as RECORD_STEP
from rota.steward.record import record
from rota.steward.retain import Retention
from rota.steward.rounds import Comparison, Every

ROUND = 0.5
"""Seconds between two rounds."""
DUTY_TIMEOUT = 30
"""Seconds after which a duty is given up until the next round."""
STEPS_A_ROUND = 40
ALL = "*"
"""In the log, for a duty that is not one fleet's."""
OBSERVE_EVERY = 2.0
"""Seconds between two looks for incidents."""
PARTITION_EVERY = 60.0
"""Seconds between two looks for missing partitions."""

log = structlog.get_logger(__name__)


class Steward:
    """Does the duties for as long as `run` runs."""

    def __init__(self, ledger: Ledger, live: Live, courier: Courier | None = None) -> None:
        """The courier goes beside the rounds, while this steward leads."""
        self._ledger = ledger
        self._live = live
        self._courier = courier
        self._leadership = Leadership(ledger)
        self._leading = False
        self._observing = Every(OBSERVE_EVERY)
        self._partitioning = Every(PARTITION_EVERY)
        self._retention = Retention(ledger)
        self._comparisons: dict[str, Comparison] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Rounds until `stop` is set; then gives the leadership up."""
        try:
            while not stop.is_set():
                await self._round()
                try:
                    await asyncio.wait_for(stop.wait(), ROUND)
                except TimeoutError:
                    continue
        finally:
            if self._courier is not None:
                await self._courier.stop()
            await self._leadership.release()

    async def _round(self) -> None:
        leading = await self._leads()
        if leading != self._leading:
            log.info("steward leads" if leading else "steward stands by")
            self._leading = leading
            self._comparisons.clear()
            if self._courier is not None:
                await self._courier.lead(leading)
        if not leading:
            return
        if self._partitioning.due():
            await self._duty("partition", ALL, lambda: partition(self._ledger))
        await self._duty("retain", ALL, self._retention.go_on)
        try:
            async with self._ledger.begin() as tx:
                all_fleets = await fleets.all(tx)
        except RotaError as error:
            log.warning("fleets cannot be read", error=str(error))
            return
        observing = self._observing.due()
        for fleet in all_fleets:
            await self._serve(fleet)
            if observing:
                await self._duty("observe", fleet.name, partial(observe, self._ledger, self._live, fleet))

    async def _leads(self) -> bool:
        try:
            return await self._leadership.held() or await self._leadership.try_acquire()
        except RotaError as error:
            log.warning("leadership unknown", error=str(error))
            return False

    async def _serve(self, fleet: Fleet) -> None:
        ledger, live, name = self._ledger, self._live, fleet.name
        await self._duty("rebuild", name, lambda: rebuild(ledger, live, fleet))
        await self._duty("reap", name, lambda: reap(live, name))
        await self._duty("promote", name, lambda: promote(live, name))
        await self._duty("apply", name, lambda: _until_less(lambda: apply(ledger, live, name), APPLY_STEP))
        await self._duty("record", name, lambda: _until_less(lambda: record(ledger, live, name), RECORD_STEP))
        await self._duty("drain", name, lambda: drain(ledger, live, name))
        comparison = self._comparisons.setdefault(name, Comparison(ledger, live, name))
        await self._duty("compare", name, comparison.go_on)

    async def _duty(self, duty: str, fleet: str, work: Callable[[], Awaitable[object]]) -> None:
        """One duty's failure must not keep the others from theirs."""
        try:
            async with asyncio.timeout(DUTY_TIMEOUT):
                await work()
        except (RotaError, TimeoutError) as error:
            log.warning("duty failed", duty=duty, fleet=fleet, error=str(error) or "timeout")
        except Exception:
            log.exception("duty failed", duty=duty, fleet=fleet)


async def _until_less(step: Callable[[], Awaitable[int]], full: int) -> None:
    for _ in range(STEPS_A_ROUND):
        if await step() < full:
            return
