"""What the steward does not do in every round: now and then, or in steps over many rounds."""

from __future__ import annotations

import time

import structlog

from rota.ledger import incidents
from rota.ledger.connection import Ledger
from rota.ledger.incidents import Sighting
from rota.live.scripts import Live
from rota.steward.compare import Difference, compare
from rota.steward.observe import tell

COMPARE_EVERY = 300.0
"""Seconds from the end of one comparison of ledger and live state to the beginning of the next."""
COMPARE_FIRST = 20.0
"""Seconds after a steward began to lead."""
SHARE_OF_A_ROUND = 0.2
"""Seconds of one round that a comparison may take; a step more may be under way."""
DIFFERENCES_KEPT = 50

log = structlog.get_logger(__name__)


class Every:
    """Tells whether the time has come again."""

    def __init__(self, seconds: float, first: float = 0.0) -> None:
        """`first` is the number of seconds until the first time."""
        self._seconds = seconds
        self._next = time.monotonic() + first

    def due(self) -> bool:
        """Whether it has, counted from now on anew if so."""
        if time.monotonic() < self._next:
            return False
        self.restart()
        return True

    def expire(self) -> None:
        """It has come now."""
        self._next = time.monotonic()

    def restart(self) -> None:
        """Counts from now on."""
        self._next = time.monotonic() + self._seconds


class Comparison:
    """The comparison of one fleet's ledger and live state, a few steps a round, over and over."""

    def __init__(self, ledger: Ledger, live: Live, fleet: str) -> None:
        """Nothing happens before `go_on`."""
        self._ledger = ledger
        self._live = live
        self._fleet = fleet
        self._pause = Every(COMPARE_EVERY, COMPARE_FIRST)
        self._after: str | None = None
        self._found: list[Difference] = []
        self._number = 0

    async def go_on(self) -> None:
        """Steps for a fifth of a second, if one is under way or due; reports at its end.

        Raises:
            UnavailableError: a store is away; the next call goes on from there.
        """
        if self._after is None:
            if not self._pause.due():
                return
            self._after, self._found, self._number = "", [], 0
        until = time.monotonic() + SHARE_OF_A_ROUND
        while self._after is not None and time.monotonic() < until:
            step = await compare(self._ledger, self._live, self._fleet, self._after)
            self._after = step.next
            self._number += len(step.differences)
            self._found += step.differences[: DIFFERENCES_KEPT - len(self._found)]
            for difference in step.differences:
                log.warning("live state mended", fleet=self._fleet, difference=difference.message)
        if self._after is None:
            await self._report()

    async def _report(self) -> None:
        self._pause.restart()
        seen = []
        if self._number:
            message = (
                f"{self._number} times ledger and live state or history differed, and were mended; first: "
                f"{self._found[0].message}"
            )
            texts = [difference.message for difference in self._found]
            seen = [Sighting(self._fleet, message, {"number": self._number, "differences": texts})]
        async with self._ledger.begin() as tx:
            changed = await incidents.observe(tx, self._fleet, "live_differs", seen)
        tell("live_differs", self._fleet, changed)
