"""What the steward does not do in every round: now and then, or in steps over many rounds."""

from __future__ import annotations

import time

from rota.ledger import incidents
from rota.ledger.connection import Ledger
from rota.ledger.incidents import Changed
from rota.live import audit
from rota.live.scripts import Live
from rota.steward.compare import LIVE_DIFFERS, compare
from rota.steward.observe import tell

COMPARE_EVERY = 300.0
"""Seconds from the end of one comparison of ledger and live state to the beginning of the next."""
COMPARE_FIRST = 20.0
"""Seconds after a steward began to lead."""
SHARE_OF_A_ROUND = 0.2
"""Seconds of one round that a comparison may take; a step more may be under way."""


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
        self._began = 0.0
        self._sound = True
        """The pass that is under way found nothing, and skipped nothing."""
        self._lost = False
        """Live state was empty or quiet in the round before."""

    async def go_on(self) -> None:
        """Steps for a fifth of a second, if one is under way or due.

        One is due every five minutes, and when live state is whole again after a loss: who has not come back by then
        works no more, and history must not say so any longer.

        Raises:
            UnavailableError: a store is away; the next call goes on from there.
        """
        state = await audit.pulse(self._live, self._fleet)
        lost_before, self._lost = self._lost, state.quiet or not state.built
        if lost_before and not self._lost:
            self._after = None
            self._pause.expire()
        if self._after is None:
            if not self._pause.due():
                return
            self._after, self._began, self._sound = "", time.monotonic(), True
        until = time.monotonic() + SHARE_OF_A_ROUND
        while self._after is not None and time.monotonic() < until:
            step = await compare(self._ledger, self._live, self._fleet, self._after)
            self._after = step.next
            self._sound = self._sound and not step.differences and step.skipped is None
        if self._after is None:
            self._pause.restart()
            if self._sound:
                await self._close()

    async def _close(self) -> None:
        """What was found before this pass is over."""
        async with self._ledger.begin() as tx:
            over = await incidents.close_unseen(tx, self._fleet, LIVE_DIFFERS, time.monotonic() - self._began)
        tell(LIVE_DIFFERS, self._fleet, Changed([], over))
