"""How hard one web worker has to work, and by how much it stretches the intervals that it grants so that it keeps up.

Two things tell: how late the event loop runs what was due, and how long the store takes for heartbeats. Where either is
above its limit the stretch grows, from second to second, and comes back as slowly when both are well again. What a
stretch cannot help is refused by `live.beats`, idle bots first.
"""

from __future__ import annotations

import asyncio

import structlog

from rota.live.beats import Beats

LOOK_EVERY = 0.25
"""Seconds between two looks at how late the event loop is."""
LATE = 0.5
"""Seconds that the event loop may be late, and no more."""
SLOW = 0.5
"""Seconds that a script call for heartbeats may take, and no more."""
IN_A_ROW = 5
"""Seconds of too much work, one after the other, before anything is done about it."""
GROWS, SHRINKS = 1.25, 0.95
"""What the stretch is multiplied by with each second of too much work, or of none."""
MOST = 4.0

log = structlog.get_logger(__name__)


class Load:
    """One worker's."""

    def __init__(self, beats: Beats) -> None:
        """Nothing is looked at before `watch`."""
        self._beats = beats
        self._latest = 0.0
        self._in_a_row = 0
        self.stretch = 1.0
        """What intervals are multiplied by; 1 where the worker keeps up."""

    async def watch(self) -> None:
        """Looks, for ever, at how late the event loop is."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK_EVERY
            await asyncio.sleep(LOOK_EVERY)
            self._latest = max(self._latest, loop.time() - due)

    def judge(self) -> None:
        """Makes the stretch longer or shorter by what was seen since the last time; about once a second."""
        late, slow, before = self._latest, self._beats.take_slowest(), self.stretch
        self._latest = 0.0
        self._in_a_row = self._in_a_row + 1 if late > LATE or slow > SLOW else 0
        if self._in_a_row >= IN_A_ROW:
            self.stretch = min(MOST, before * GROWS)
        elif not self._in_a_row:
            self.stretch = max(1.0, before * SHRINKS)
        if before == 1.0 < self.stretch:
            log.warning("too much to do: intervals are stretched", loop_late_s=round(late, 2), store_s=round(slow, 2))
