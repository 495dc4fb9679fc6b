"""Judges promises 1 and 2 of the protocol from outside: by what each bot was told and did, and when.

The bots report to it in the order of their process's monotonic clock. It does no I/O, asks nobody and knows
nothing of rota's own state: what it calls a violation is one, whatever rota believes.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from rota.simulator.histogram import Histogram

KEPT_VIOLATIONS = 100
"""How many violations are kept as text; all are counted."""
KEPT_EPOCHS = 8
"""How many told epochs of a profile are remembered; a push is never under way for as many grants."""


class Worker(NamedTuple):
    """One process in one slot: a restarted bot is another worker of the same bot."""

    bot: str
    process: int

    def __str__(self) -> str:
        """The bot's id, with the number of the process where it is not the slot's first."""
        return self.bot if self.process == 1 else f"{self.bot} (process {self.process})"


class Stint(NamedTuple):
    """A worker at work on a profile under an epoch, or what it was when it died."""

    worker: Worker
    epoch: int
    at: float


class Judge:
    """Collects deeds, finds violations and measures take-overs. Times are seconds of one monotonic clock."""

    def __init__(self, origin: float = 0.0) -> None:
        """`origin` is the moment from which the texts of violations count."""
        self.violations: list[str] = []
        self.violation_count = 0
        self.starts = 0
        self.takeovers = Histogram()
        """From a death to the next start by another bot."""
        self.restored = Histogram()
        """From a death to the next start by the same bot."""
        self.last_takeover: tuple[str, Worker, Worker, float] | None = None
        """Profile, who died, who took over, after how many seconds."""
        self._origin = origin
        self._working: dict[str, tuple[Stint, ...]] = {}
        self._told: dict[str, list[Stint]] = {}
        self._orphans: dict[str, Stint] = {}

    def told(self, profile: str, worker: Worker, epoch: int, at: float) -> None:
        """A worker heard `start`. Epochs of a profile must rise, and no two workers are told the same."""
        known = self._told.setdefault(profile, [])
        if known:
            last = known[-1]
            if epoch < last.epoch:
                self._violation(
                    at,
                    f"epochs: {worker} was told epoch {epoch} of {profile}, older than {last.epoch}, "
                    f"told {at - last.at:.3f} s before to {last.worker}",
                )
                return
            if epoch == last.epoch:
                if worker != last.worker:
                    both = f"{last.worker} and {worker}"
                    self._violation(at, f"epochs: {both} were told the same epoch {epoch} of {profile}")
                return
        known.append(Stint(worker, epoch, at))
        del known[:-KEPT_EPOCHS]

    def began(self, profile: str, worker: Worker, epoch: int, at: float) -> None:
        """A worker begins to work. Promise 1: nobody else works on that profile at this moment."""
        self.starts += 1
        others = tuple(stint for stint in self._working.get(profile, ()) if stint.worker != worker)
        for other in others:
            self._violation(
                at,
                f"promise 1: {worker} began to work on {profile} under epoch {epoch} while {other.worker} "
                f"had been working on it for {at - other.at:.3f} s under epoch {other.epoch}",
            )
        self._working[profile] = (*others, Stint(worker, epoch, at))
        self._count_takeover(profile, worker, at)

    def ended(self, profile: str, worker: Worker, at: float, *, died: bool = False) -> None:
        """A worker works no more: it stopped or, `died`, crashed or outlived its lease while cut off."""
        stints = self._working.get(profile, ())
        mine = next((stint for stint in stints if stint.worker == worker), None)
        if mine is None:
            return
        if remaining := tuple(stint for stint in stints if stint.worker != worker):
            self._working[profile] = remaining
        else:
            del self._working[profile]
        if died:
            self._orphans[profile] = Stint(worker, mine.epoch, at)
        else:
            self._orphans.pop(profile, None)

    def stored(self, profile: str, worker: Worker, epoch: int, sent: float, at: float) -> None:
        """New data pushed at `sent` was accepted. Promise 2: nobody had been told a newer epoch by then.

        Data that is answered as a duplicate was stored by an earlier call and is not reported here.
        """
        known = self._told.get(profile, [])
        newer = bisect_right(known, epoch, key=lambda stint: stint.epoch)
        if newer < len(known) and known[newer].at < sent:
            heir = known[newer]
            self._violation(
                at,
                f"promise 2: data of {worker} for {profile} under epoch {epoch} was accepted though sent "
                f"{sent - heir.at:.3f} s after {heir.worker} had been told epoch {heir.epoch}",
            )

    def acknowledged(self, profile: str, epoch: int, batch: int) -> None:
        """A batch was answered 200. Nothing to judge here: who reads the ledger afterwards keeps it."""

    def leased(self, profile: str, worker: Worker, until: float) -> None:
        """A worker's beat was answered: it may work on the profile until then. For who measures pauses."""

    def spoke(self, worker: Worker, sent: float) -> None:
        """A call that a worker sent then was answered with success. For who measures pauses."""

    def freed(self, worker: Worker) -> None:
        """A worker says just now that it works on nothing, or that it leaves. For who measures pauses."""

    def working(self, profile: str) -> tuple[Stint, ...]:
        """Who works on a profile now."""
        return self._working.get(profile, ())

    def _count_takeover(self, profile: str, worker: Worker, at: float) -> None:
        dead = self._orphans.pop(profile, None)
        if dead is None:
            return
        if dead.worker.bot == worker.bot:
            self.restored.add(at - dead.at)
            return
        self.takeovers.add(at - dead.at)
        self.last_takeover = (profile, dead.worker, worker, at - dead.at)

    def _violation(self, at: float, text: str) -> None:
        self.violation_count += 1
        if len(self.violations) < KEPT_VIOLATIONS:
            self.violations.append(f"at {at - self._origin:.3f} s: {text}")
