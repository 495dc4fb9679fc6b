"""Reading records beside the bots: a few transactions at once, so that searches never take all connections.

Whoever lists, counts, exports or follows records asks for a transaction here; the hot path never does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rota.errors import UnavailableError
from rota.ledger.connection import Ledger, Transaction

MOST = 4
"""Transactions that read records at once, of the connections that one worker has."""
PATIENCE = 10.0
"""Seconds that one waits for its turn: a search lasts three or a little more."""


class Readers:
    """One worker's."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._turns = asyncio.Semaphore(MOST)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        """A transaction for one page, or one count.

        Raises:
            UnavailableError: too many others search at the moment, or the ledger is away.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                await self._turns.acquire()
        except TimeoutError:
            raise UnavailableError("Too many searches at the moment: try again.") from None
        try:
            async with self._ledger.begin() as tx:
                yield tx
        finally:
            self._turns.release()
