"""Duty `retain`: takes away records that are kept no longer, and batches that nobody needs to recognise any more.

One pass after the other, each in small steps over many rounds; a pass that is cut off begins anew.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from rota.errors import UnavailableError
from rota.ledger import retention
from rota.ledger.connection import Ledger, Transaction
from rota.ledger.partitions import Partition
from rota.ledger.retention import Step
from rota.steward.rounds import SHARE_OF_A_ROUND, Every

RETAIN_EVERY = 600.0
"""Seconds from the end of one pass to the beginning of the next."""
RETAIN_FIRST = 30.0
"""Seconds after a steward began to lead."""

log = structlog.get_logger(__name__)


class Retention:
    """Goes through everything that may be over, again and again."""

    def __init__(self, ledger: Ledger) -> None:
        """Nothing happens before `go_on`."""
        self._ledger = ledger
        self._pause = Every(RETAIN_EVERY, RETAIN_FIRST)
        self._pass: AsyncIterator[None] | None = None

    async def go_on(self) -> None:
        """Steps for a fifth of a second, if a pass is under way or due.

        Raises:
            UnavailableError: the ledger is away; the next pass begins at once when it is back.
        """
        if self._pass is None:
            if not self._pause.due():
                return
            self._pass = retain(self._ledger)
        until = time.monotonic() + SHARE_OF_A_ROUND
        try:
            while time.monotonic() < until:
                await anext(self._pass)
        except StopAsyncIteration:
            self._pass = None
            self._pause.restart()
        except BaseException:
            self._pass = None
            self._pause.expire()
            raise


async def retain(ledger: Ledger) -> AsyncIterator[None]:
    """One whole pass, step by step.

    Raises:
        UnavailableError: the ledger is away.
    """
    dropped: list[str] = []
    records = batches = 0
    async with ledger.begin() as tx:
        ending = await retention.ending(tx)
    for partition in ending:
        if await _drop(ledger, partition):
            dropped.append(partition.name)
            continue
        deleted = 0
        while deleted % retention.STEP == 0:
            async with ledger.begin() as tx:
                gone = await retention.delete_by_days(tx, partition)
            deleted += gone
            yield
            if not gone:
                break
        records += deleted
    async for gone in _through(ledger, retention.delete_by_number):
        records += gone
        yield
    async for gone in _through(ledger, retention.forget_batches):
        batches += gone
        yield
    if dropped or records or batches:
        log.info("taken away", partitions=dropped, records=records, batches=batches)


async def _drop(ledger: Ledger, partition: Partition) -> bool:
    try:
        async with ledger.begin() as tx:
            return await retention.drop_if_over(tx, partition)
    except UnavailableError:
        log.info("partition is being read, it is dropped another time", partition=partition.name)
        return False


async def _through(ledger: Ledger, step: Callable[[Transaction, str], Awaitable[Step]]) -> AsyncIterator[int]:
    """Steps from profile to profile until the end; how many rows each has taken away."""
    after: str | None = ""
    while after is not None:
        async with ledger.begin() as tx:
            done = await step(tx, after)
        after = done.next
        yield done.gone
