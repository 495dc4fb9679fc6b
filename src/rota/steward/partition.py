"""Duty `partition`: makes the partitions of `records` days ahead, so that pushes always have a place."""

from __future__ import annotations

import structlog

from rota.ledger import partitions
from rota.ledger.connection import Ledger

log = structlog.get_logger(__name__)


async def partition(ledger: Ledger) -> None:
    """Makes what is missing of today and the days to come; idempotent, and safe with several stewards.

    Raises:
        UnavailableError: the ledger is away.
    """
    async with ledger.begin() as tx:
        made = await partitions.ensure(tx)
    if made:
        log.info("partitions made", partitions=made)
