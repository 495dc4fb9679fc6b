"""What allowed an answer to begin, looked at again for as long as the answer goes on.

A key may be revoked, and a profile deleted, while records are still being sent to whoever held it. Called by what sends
for long: `follow` and `exports`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from rota.errors import UnavailableError

AGAIN = 3.0
"""Seconds for which a permit is believed."""


class Permit:
    """One caller's, from when it was proven."""

    def __init__(self, prove: Callable[[], Awaitable[None]] | None = None) -> None:
        """`prove` raises a ProblemError where it does not hold any more; without it the permit holds for ever."""
        self._prove = prove
        self._proven_at = time.monotonic()

    async def check(self) -> None:
        """Proves it again where the last time is too long ago.

        Raises:
            ProblemError: it is over.
        """
        if self._prove is None or time.monotonic() < self._proven_at + AGAIN:
            return
        try:
            await self._prove()
        except UnavailableError:
            # The records come from the same ledger, so that nothing is sent meanwhile.
            return
        self._proven_at = time.monotonic()
