"""What is to happen when: one heap for all bots of a crowd instead of a task or a timer each."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rota.simulator.bot import SimulatedBot


class Agenda:
    """Bots to wake and things to do, in the order of their times (seconds of the monotonic clock).

    A bot that wants to be woken earlier than planned gets a second entry; the later one is passed over when
    its time comes, because it is not what the bot's `planned` says.
    """

    def __init__(self) -> None:
        """Begins empty."""
        self._entries: list[tuple[float, int, SimulatedBot | Callable[[float], None]]] = []
        self._order = count()

    def __len__(self) -> int:
        """Entries, outdated ones included."""
        return len(self._entries)

    def plan_bot(self, bot: SimulatedBot) -> None:
        """Sees to it that the bot is woken when it wants to be."""
        at = bot.next_wake()
        if at != bot.planned:
            bot.planned = at
            if at != float("inf"):
                heapq.heappush(self._entries, (at, next(self._order), bot))

    def plan(self, at: float, action: Callable[[float], None]) -> None:
        """Has `action(now)` called at `at` or soon after."""
        heapq.heappush(self._entries, (at, next(self._order), action))

    def next_at(self) -> float:
        """When the next entry is due; infinity without any."""
        return self._entries[0][0] if self._entries else float("inf")

    def due(self, now: float) -> Iterator[SimulatedBot | Callable[[float], None]]:
        """Takes out what is due, in order; entries planned meanwhile are taken too where they are due."""
        while self._entries and self._entries[0][0] <= now:
            at, _, item = heapq.heappop(self._entries)
            if callable(item):
                yield item
            elif item.planned == at:
                item.planned = float("inf")
                yield item


class Ticker:
    """Sees to it that what is due on an agenda is done, by one timer of the event loop."""

    def __init__(self, agenda: Agenda, do_due: Callable[[float], None], late: Callable[[float], None]) -> None:
        """`do_due(now)` does it; `late` hears by how many seconds the loop was late. Begins with the first `tick`."""
        self._agenda = agenda
        self._do_due = do_due
        self._late = late
        self._timer: asyncio.TimerHandle | None = None

    def tick(self) -> None:
        """Does what is due now; to be called after anything that may have planned something."""
        loop = asyncio.get_running_loop()
        if self._timer:
            self._timer.cancel()
            if (lag := loop.time() - self._timer.when()) > 0:
                self._late(lag)
        self._do_due(loop.time())
        at = self._agenda.next_at()
        self._timer = loop.call_at(at, self.tick) if at < float("inf") else None

    def stop(self) -> None:
        """Nothing is done any more."""
        if self._timer:
            self._timer.cancel()
