"""The records of one assignment on their way to rota: what an `Outbox` promises, and how it is kept in memory.

Any thread puts records in; the sender of `push` alone takes them out, batch by batch. A batch that was shown to
the sender keeps its number and its bytes until it is settled, split or refused: rota may have it although its
answer was lost. Nothing here speaks to rota or touches a file; the outbox on a disk is in `disk`.
"""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rota.errors import SpoolError
from rota.protocol import MAX_BODY_BYTES, MAX_RECORDS
from rota.sdk.claim import Claim

MAX_WAITING_RECORDS = 10_000
"""So many records of a bot may wait in memory before `await job.push(…)` waits, too."""
MAX_WAITING_BYTES = 16 * MAX_BODY_BYTES
"""The same in bytes."""
MAX_RECORD_BYTES = MAX_BODY_BYTES - 256
"""Longest record, as JSON: what a batch of one leaves for it."""
_TAIL = b"]}"


@dataclass(frozen=True, slots=True)
class Batch:
    """One `push_data` body and how many records are in it."""

    number: int
    count: int
    body: bytes


@dataclass(frozen=True, slots=True)
class SetAside:
    """Records that rota will not take any more: how many, and the file that they lie in now, if there is one."""

    count: int
    path: Path | None = None


@dataclass(slots=True)
class Entry:
    """One record that was put in."""

    seq: int
    data: bytes
    kept: bool = False
    """It is where the outbox keeps its records: nobody need wait for that any more."""
    awaited: bool = False
    error: SpoolError | None = None
    """It could not be kept, and is out again."""

    def is_decided(self) -> bool:
        """Whether it is kept, or cannot be; only who has asked is told so by an error."""
        self.awaited = True
        return self.kept or self.error is not None


def head_of(profile: str, epoch: int, number: int) -> bytes:
    """How the body of a batch begins."""
    return f'{{"profile":"{profile}","epoch":{epoch},"batch":{number},"records":['.encode()


def fitting(head: bytes, records: Iterable[bytes], most: int) -> list[bytes]:
    """The first of these records: as many as a batch of `most` bytes takes, but one at least."""
    size, chosen = len(head) + len(_TAIL), list[bytes]()
    for record in itertools.islice(records, MAX_RECORDS):
        size += len(record) + 1
        if chosen and size > most:
            break
        chosen.append(record)
    return chosen


def batch_of(number: int, head: bytes, records: list[bytes]) -> Batch:
    """The batch of just these records."""
    return Batch(number, len(records), head + b",".join(records) + _TAIL)


class Room:
    """How much waits in all outboxes of a bot together, and how much may; whoever changes it holds their lock."""

    def __init__(self, records: int, size: int) -> None:
        self.records = 0
        self.size = 0
        self._most_records = records
        self._most_size = size
        self._unawaited_records = 0
        self._unawaited_size = 0

    @property
    def is_left(self) -> bool:
        """Whether the next record need not wait."""
        return self.records < self._most_records and self.size < self._most_size

    @property
    def is_exceeded(self) -> bool:
        """Whether twice as much waits as should."""
        return self.records >= 2 * self._most_records or self.size >= 2 * self._most_size

    @property
    def is_overrun(self) -> bool:
        """Whether as much as may wait has come on top of that, and nobody waits for room for it."""
        return self._unawaited_records > self._most_records or self._unawaited_size >= self._most_size

    def add(self, count: int, size: int) -> None:
        """Counts what comes in; negative, what goes."""
        self.records += count
        self.size += size
        # Which records go is not known here: those that somebody waits for, as long as it can be.
        self._unawaited_records = max(0, min(self._unawaited_records, self.records - self._most_records + 1))
        self._unawaited_size = max(0, min(self._unawaited_size, self.size - self._most_size))

    def note_unawaited(self, size: int) -> None:
        """Nobody waits for room for a record that has come in; where there was some, nobody needs to."""
        if not self.is_left:
            self._unawaited_records += 1
            self._unawaited_size += size


class Outbox(ABC):
    """The records of one assignment that rota does not have yet."""

    def __init__(self, profile: str, epoch: int) -> None:
        self.profile = profile
        self.epoch = epoch
        self.ending = False
        """Nobody puts anything in any more; what is left is still sent."""
        self.superseded = False
        """Rota takes nothing of this assignment any more."""
        self.dropped = 0
        """Records that rota will not get from here."""

    @abstractmethod
    def __len__(self) -> int:
        """How many records wait."""

    @property
    @abstractmethod
    def has_room(self) -> bool:
        """Whether the next record need not wait."""

    @property
    @abstractmethod
    def is_overfull(self) -> bool:
        """Whether twice as much waits as should: even what is to be quick has to wait for room."""

    @abstractmethod
    def put(self, record: bytes, *, waits: bool) -> Entry:
        """Takes one record, as JSON; once the outbox is closed it is dropped.

        `waits`: the caller is held until there is room.

        Raises:
            ValueError: it is too large for any batch.
            BufferError: twice as much is waiting as should, because nobody waits for room.
        """

    @abstractmethod
    def note_unawaited(self, entry: Entry) -> None:
        """Nobody waits for room for this record."""

    @abstractmethod
    def mark(self) -> int:
        """The place behind everything that was put in so far, for `settled`."""

    @abstractmethod
    def settled(self, mark: int) -> bool:
        """Whether everything before the mark is committed or dropped."""

    @abstractmethod
    async def batch(self) -> Batch | None:
        """The next batch to send: the same one, whatever is put in, until it is settled, split or refused."""

    @abstractmethod
    async def settle(self, batch: Batch) -> None:
        """Rota has the batch."""

    @abstractmethod
    async def split(self, batch: Batch) -> None:
        """Rota finds the batch too large: from now on they are half as large."""

    @abstractmethod
    async def refuse(self, batch: Batch, positions: Iterable[int], reason: str) -> SetAside:
        """Takes the records at these positions of a batch that rota never takes out, else all of it."""

    @abstractmethod
    async def supersede(self) -> SetAside:
        """Takes out what is left: rota takes nothing of this assignment any more."""

    @abstractmethod
    def abandon(self) -> int:
        """Nobody sends anything from it any more; how many records are left in it."""

    @abstractmethod
    async def retire(self) -> None:
        """Closes it, empty and ending as it is."""


class MemoryOutbox(Outbox):
    """In memory: what is taken out by `supersede` and `refuse` is lost, and so is all of it with the process."""

    def __init__(self, profile: str, epoch: int, room: Room, lock: threading.RLock) -> None:
        super().__init__(profile, epoch)
        self._room = room
        self._lock = lock
        self._put_in = 0
        self._number = 0
        self._max_bytes = MAX_BODY_BYTES
        self._entries: deque[Entry] = deque()
        self._current: Batch | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def has_room(self) -> bool:
        """Whether the next record need not wait."""
        return self._room.is_left

    @property
    def is_overfull(self) -> bool:
        """Whether twice as much waits as should."""
        return self._room.is_exceeded

    def put(self, record: bytes, *, waits: bool) -> Entry:
        """Takes one record into memory, where it is kept at once."""
        check_size(record)
        with self._lock:
            entry = Entry(self._put_in, record, kept=True)
            if self._closed:
                self.dropped += 1
                return entry
            if self._room.is_overrun and not waits:
                raise BufferError("records are pushed faster than rota takes them: `await job.push(…)`")
            self._entries.append(entry)
            self._put_in += 1
            self._room.add(1, len(record))
            return entry

    def note_unawaited(self, entry: Entry) -> None:
        """Counts it among those that may become too many."""
        with self._lock:
            self._room.note_unawaited(len(entry.data))

    def mark(self) -> int:
        """The number of records that were put in."""
        return self._put_in

    def settled(self, mark: int) -> bool:
        """Whether the first that waits was put in after the mark."""
        with self._lock:
            return not self._entries or self._entries[0].seq >= mark

    async def batch(self) -> Batch | None:
        """The batch that is on its way, else a new one of what waits."""
        with self._lock:
            if self._current is None and self._entries:
                head = head_of(self.profile, self.epoch, self._number)
                records = fitting(head, (entry.data for entry in self._entries), self._max_bytes)
                self._current = batch_of(self._number, head, records)
            return self._current

    async def settle(self, batch: Batch) -> None:
        """Takes its records out, and counts on."""
        with self._lock:
            if self._current is batch:  # else the outbox was closed while the batch was on its way
                self._take(range(batch.count))
                self._number += 1

    async def split(self, batch: Batch) -> None:
        """Makes it anew, of half the size."""
        with self._lock:
            self._max_bytes = len(batch.body) // 2
            self._current = None

    async def refuse(self, batch: Batch, positions: Iterable[int], reason: str) -> SetAside:  # noqa: ARG002 - in its log
        """Drops them; the number was not used up."""
        with self._lock:
            if self._current is not batch:
                return SetAside(0)
            named = {position for position in positions if position < batch.count}
            return SetAside(self._drop(named or range(batch.count)))

    async def supersede(self) -> SetAside:
        """Drops what is left, and whatever comes later."""
        return SetAside(self.abandon())

    async def retire(self) -> None:
        """Takes nothing any more."""
        self.abandon()

    def abandon(self) -> int:
        """Drops what is left, and whatever comes later."""
        with self._lock:
            self._closed = True
            return self._drop(range(len(self._entries)))

    def _drop(self, positions: Iterable[int]) -> int:
        count = self._take(positions)
        self.dropped += count
        return count

    def _take(self, positions: Iterable[int]) -> int:
        gone = set(positions)
        front = [self._entries.popleft() for _ in range(max(gone, default=-1) + 1)]
        self._entries.extendleft(reversed([entry for at, entry in enumerate(front) if at not in gone]))
        self._room.add(-len(gone), -sum(len(front[at].data) for at in gone))
        self._current = None
        return len(gone)


class Memory:
    """Where the outboxes of a bot are that has no spool on disk; what `disk.Disk` is to one that has."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.claim: Claim | None = None
        self._room = Room(MAX_WAITING_RECORDS, MAX_WAITING_BYTES)
        # Reentrant: what nobody awaits may be noted while garbage is collected, whoever holds the lock then.
        self._lock = threading.RLock()

    async def begin(self, given_up: Callable[[], bool]) -> list[Outbox]:  # noqa: ARG002 - there is nobody to wait for
        """Finds nothing of an earlier process."""
        return []

    def open(self, profile: str, epoch: int) -> Outbox:
        """A new outbox."""
        return MemoryOutbox(profile, epoch, self._room, self._lock)

    def hold(self, claim: Claim | None) -> None:
        """Keeps the claim, or none."""
        self.claim = claim

    async def close(self) -> None:
        """There is nothing to close."""


def check_size(record: bytes) -> None:
    """Refuses what fits into no batch.

    Raises:
        ValueError: it is too large.
    """
    if len(record) > MAX_RECORD_BYTES:
        raise ValueError(f"a record of {len(record)} bytes is over the limit of {MAX_RECORD_BYTES}")
