"""What befalls simulated bots, how often, and where a crashed one's supervisor starts the next process."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

_SECONDS = {"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}
_RATE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(?:/\s*(s|sec|min|h))?\s*$")


class Fault(StrEnum):
    """The kinds of faults."""

    CRASH = "crash"
    """The process vanishes; seconds later its supervisor starts a new one in another slot."""
    RESTART = "restart"
    """The process vanishes and is started again at once in the same slot."""
    CUT_OFF = "cut off"
    """The bot hears and says nothing for longer than the ttl, works until its lease ends, and comes back."""


@dataclass(frozen=True)
class Rate:
    """So many faults in so many seconds."""

    per_second: float

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Reads `5/min`, `2/s`, `30/h`; a bare number is per minute.

        Raises:
            ValueError: the text is none of these.
        """
        match = _RATE.match(text)
        if not match or not float(match[1]):
            msg = f"{text!r} is not a rate: write for example 5/min, 1/s or 30/h"
            raise ValueError(msg)
        return cls(float(match[1]) / _SECONDS[match[2] or "min"])

    def pause(self, rng: Random) -> float:
        """Seconds until the next one: the mean gap, give or take half of it."""
        return rng.uniform(0.5, 1.5) / self.per_second


def draw_fault(rng: Random) -> Fault:
    """One kind, each as likely as the others."""
    return rng.choice(tuple(Fault))


def restart_delay(rng: Random) -> float:
    """Seconds that a supervisor takes to start a process in another slot."""
    return rng.uniform(1.0, 4.0)


def exit_delay(ttl: float, rng: Random) -> float:
    """Seconds after which a process that was told to exit is started again, perhaps to be told the same."""
    return ttl * rng.uniform(0.5, 1.0)


def silence(ttl: float, rng: Random) -> float:
    """Seconds that a bot is cut off: longer than rota waits before it declares a bot dead."""
    return ttl * rng.uniform(1.3, 2.0) + 1.5


class Slots:
    """The slots of one server: hands out instance names, and none again before it has rested."""

    def __init__(self, hostname: str) -> None:
        """Begins with slot 1."""
        self.hostname = hostname
        self._next = 1
        self._rested: deque[tuple[float, str]] = deque()
        self._processes: dict[str, int] = {}

    def take(self, now: float) -> tuple[str, int]:
        """The name of a free slot and the number of the process in it, 1 for the first."""
        if self._rested and self._rested[0][0] <= now:
            return self.again(self._rested.popleft()[1])
        instance = str(self._next)
        self._next += 1
        return instance, 1

    def again(self, instance: str) -> tuple[str, int]:
        """The same slot for one more process."""
        number = self._processes.get(instance, 1) + 1
        self._processes[instance] = number
        return instance, number

    def free(self, instance: str, rested_at: float) -> None:
        """A process is gone; its slot may be taken again from `rested_at` on."""
        self._rested.append((rested_at, instance))
