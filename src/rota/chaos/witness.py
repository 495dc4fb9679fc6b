"""The neutral log of what every bot did when, and what it says about rota's promises.

A judge that also keeps who owned what, so that it can tell a move that was needed from one that was not, and every
batch that was acknowledged, so that the ledger can be compared with it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from rota.protocol import deadline_after_ms
from rota.simulator.judge import Judge, Worker

if TYPE_CHECKING:
    from collections.abc import Iterable

KEPT_TEXTS = 20
"""How many findings of one kind are kept as text; all are counted."""


class BatchName(NamedTuple):
    """What identifies a batch."""

    profile: str
    epoch: int
    batch: int


@dataclass(slots=True)
class Owner:
    """Who was last told to work on a profile; `hurt` when something befell that bot since."""

    worker: Worker
    epoch: int
    hurt: bool = False
    freed: bool = False
    """It said that it does not work on it any more."""
    killed_at: float = math.inf
    """When an operator had killed it: nothing that it says later counts."""
    lease_end: float = -math.inf
    spoke_at: float = -math.inf


@dataclass(frozen=True)
class Account:
    """What happened between two moments. `texts` tells the violations and the moves without need."""

    moved: int = 0
    moves: int = 0
    overlaps: int = 0
    stale: int = 0
    epochs: int = 0
    pause_min: float | None = None
    """The shortest time, in seconds, from the end of a lease that nobody had given up to the next owner's start."""
    pause_max: float | None = None
    """The longest time from rota's own deadline for such a bot to the next owner's start."""
    texts: tuple[str, ...] = ()


class Witness(Judge):
    """Sees everything that bots are told and do; `open_account` and `account` bound what is counted together."""

    def __init__(self, origin: float = 0.0, ttl: float = 5.0) -> None:
        """`origin` is the moment from which the texts count, `ttl` (seconds) the fleet's."""
        super().__init__(origin)
        self._deadline_after = deadline_after_ms(ttl) / 1000
        self.acknowledged_batches: set[BatchName] = set()
        self.contested: set[str] = set()
        """Bots in whose slots several processes are: what they own may move."""
        self.struck: set[str] = set()
        """Profiles whose bots something befell; rota may count it against them."""
        self.restless: set[str] = set()
        """Profiles that may move at any time, because something befalls whoever works on them."""
        self._owners: dict[str, Owner] = {}
        self._duties: dict[Worker, Owner] = {}
        self._spoke: dict[Worker, float] = {}
        self._pauses: tuple[float | None, float | None] = (None, None)
        self._counts: Counter[str] = Counter()
        self._texts: list[str] = []

    def open_account(self) -> None:
        """Begins to count anew."""
        self._counts.clear()
        self._texts.clear()
        self._pauses = (None, None)

    def account(self) -> Account:
        """What was counted since."""
        return Account(
            moved=self._counts["moved"],
            moves=self._counts["moves"],
            overlaps=self._counts["promise 1"],
            stale=self._counts["promise 2"],
            epochs=self._counts["epochs"],
            pause_min=self._pauses[0],
            pause_max=self._pauses[1],
            texts=tuple(self._texts),
        )

    def hurt(self, workers: Iterable[Worker]) -> None:
        """Something befalls these bots: what they own now may move, and only that."""
        victims = set(workers)
        for profile, owner in self._owners.items():
            if owner.worker in victims:
                owner.hurt = True
                self.struck.add(profile)

    def hurt_profiles(self, profiles: Iterable[str]) -> None:
        """These profiles may move once, whoever works on them."""
        for profile in profiles:
            if owner := self._owners.get(profile):
                owner.hurt = True
                self.struck.add(profile)

    def killed(self, workers: Iterable[Worker], at: float) -> None:
        """An operator has had these bots removed; what they own is to be held until their leases are over."""
        victims = set(workers)
        for owner in self._owners.values():
            if owner.worker in victims:
                owner.killed_at, owner.freed = at, False

    def bereft(self) -> list[str]:
        """Profiles that were never told to anybody else since something befell the bot that works on them."""
        return [profile for profile, owner in self._owners.items() if owner.hurt]

    def owner(self, profile: str) -> Worker | None:
        """Who was last told to work on a profile."""
        owner = self._owners.get(profile)
        return owner.worker if owner else None

    def told(self, profile: str, worker: Worker, epoch: int, at: float) -> None:
        """A worker heard `start`: if the profile was another's, or its own under another epoch, it has moved."""
        super().told(profile, worker, epoch, at)
        owner = self._owners.get(profile)
        if owner and (owner.worker, owner.epoch) == (worker, epoch):
            owner.freed = False
            return
        spoke_at = self._spoke.get(worker, at)
        self._owners[profile] = self._duties[worker] = Owner(worker, epoch, spoke_at=spoke_at)
        if owner is None:
            return
        self._counts["moves"] += 1
        self.struck.add(profile)
        self._measure_pause(profile, owner, worker, at)
        if not owner.hurt and owner.worker.bot not in self.contested and profile not in self.restless:
            text = f"{profile} moved from {owner.worker} ({owner.epoch}) to {worker} ({epoch})"
            self.note("moved", at, f"without need: {text}")

    def leased(self, profile: str, worker: Worker, until: float) -> None:
        """Its beat was answered: it may work until then."""
        owner = self._owners.get(profile)
        if owner and owner.worker == worker:
            owner.lease_end = max(owner.lease_end, until)

    def spoke(self, worker: Worker, sent: float) -> None:
        """It was heard: its deadline has moved."""
        self._spoke[worker] = max(sent, self._spoke.get(worker, sent))
        duty = self._duties.get(worker)
        if duty and sent <= duty.killed_at:
            duty.spoke_at = max(sent, duty.spoke_at)

    def freed(self, worker: Worker) -> None:
        """What it worked on may go to others at once, unless an operator has killed it."""
        if (duty := self._duties.get(worker)) and duty.killed_at == math.inf:
            duty.freed = True

    def _measure_pause(self, profile: str, owner: Owner, heir: Worker, at: float) -> None:
        """How long after the end of the former owner's lease, where only that sets the profile free."""
        if owner.freed or (owner.worker.bot == heir.bot and owner.killed_at == math.inf):
            return
        since_lease = at - owner.lease_end
        since_deadline = at - owner.spoke_at - self._deadline_after
        shortest, longest = self._pauses
        self._pauses = (
            since_lease if shortest is None else min(shortest, since_lease),
            since_deadline if longest is None else max(longest, since_deadline),
        )
        if since_lease < 0:
            self.note("early", at, f"{profile} went to {heir} {-since_lease:.3f} s before {owner.worker}'s lease ended")

    def began(self, profile: str, worker: Worker, epoch: int, at: float) -> None:
        """A worker begins to work. Who takes its own slot over may find the process before it still at work."""
        for stint in self.working(profile):
            if stint.worker.bot == worker.bot and stint.worker != worker:
                super().ended(profile, stint.worker, at)
        super().began(profile, worker, epoch, at)

    def acknowledged(self, profile: str, epoch: int, batch: int) -> None:
        """A batch was answered 200, be it as a duplicate: it must be in the ledger, once."""
        self.acknowledged_batches.add(BatchName(profile, epoch, batch))

    def _violation(self, at: float, text: str) -> None:
        super()._violation(at, text)
        self.note(text.partition(":")[0], at, text)

    def note(self, kind: str, at: float, text: str) -> None:
        """Counts a finding of a kind (`promise 1`, `promise 2`, `epochs` …) and keeps its text."""
        self._counts[kind] += 1
        if self._counts[kind] <= KEPT_TEXTS:
            self._texts.append(f"at {at - self._origin:.2f} s: {text}")


@dataclass(frozen=True)
class LedgerAccount:
    """Acknowledged batches against the ledger's rows."""

    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    stale: int = 0
    disordered: int = 0
    """Records that lie behind one of a later batch, or of a later place in theirs, of the same epoch."""
    incomplete: int = 0
    """Batches of which not every record is there."""
    rows: int = 0
    texts: tuple[str, ...] = ()

    def plus(self, other: LedgerAccount) -> LedgerAccount:
        """Both together."""
        return replace(
            self,
            acknowledged=self.acknowledged + other.acknowledged,
            lost=self.lost + other.lost,
            doubled=self.doubled + other.doubled,
            stale=self.stale + other.stale,
            disordered=self.disordered + other.disordered,
            incomplete=self.incomplete + other.incomplete,
            rows=self.rows + other.rows,
            texts=(*self.texts, *other.texts)[:KEPT_TEXTS],
        )


class Row(NamedTuple):
    """One record as the ledger holds it."""

    epoch: int
    batch: int
    position: int


def audit(
    profile: str, acknowledged: Iterable[BatchName], rows: Iterable[Row], *, size: int | None = None
) -> LedgerAccount:
    """Compares what bots were answered with one profile's rows in the order of their arrival.

    A row that arrived after one of a later epoch was taken although it was stale. With a `size` every batch has so many
    records.
    """
    seen: Counter[Row] = Counter()
    newest, stale, texts = 0, 0, []
    disordered: list[Row] = []
    last = Row(0, 0, 0)
    for row in rows:
        seen[row] += 1
        if row.epoch == last.epoch and row < last:
            disordered.append(row)
        last = row
        if row.epoch < newest:
            stale += 1
            texts.append(f"stale: {profile} took batch {row.batch} of epoch {row.epoch} after one of {newest}")
        newest = max(newest, row.epoch)
    held = Counter((row.epoch, row.batch) for row in seen)
    incomplete = [name for name, number in held.items() if size is not None and number != size]
    names = set(acknowledged)
    lost = [name for name in names if (name.epoch, name.batch) not in held]
    doubled = [row for row, times in seen.items() if times > 1]
    texts += [f"lost: {profile} misses batch {name.batch} of epoch {name.epoch}" for name in lost]
    texts += [f"doubled: {profile} has batch {row.batch} of epoch {row.epoch} {seen[row]} times" for row in doubled]
    texts += [f"out of order: {profile} has batch {row.batch} of epoch {row.epoch} too late" for row in disordered]
    texts += [f"incomplete: {profile} has only parts of batch {batch} of epoch {epoch}" for epoch, batch in incomplete]
    return LedgerAccount(
        acknowledged=len(names),
        lost=len(lost),
        doubled=len(doubled),
        stale=stale,
        disordered=len(disordered),
        incomplete=len(incomplete),
        rows=seen.total(),
        texts=tuple(texts[:KEPT_TEXTS]),
    )
