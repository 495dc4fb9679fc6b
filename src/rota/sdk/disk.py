"""Outboxes in a spool on disk, and the one thread that has its file: the event loop never waits for a disk.

What is put in lies in memory for the moment until the thread has committed it, together with all that came
meanwhile. The thread does everything in the order in which it was asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rota.errors import SpoolError
from rota.sdk import outbox as limits
from rota.sdk.claim import Claim
from rota.sdk.outbox import Batch, Entry, Outbox, Room, SetAside, check_size
from rota.sdk.spool import Box, Spool, SpoolHeldError
from rota.sdk.waiting import Bell

log = logging.getLogger("rota.bot")

MOST_RECORDS = 1_000_000
"""So many records may wait in a spool before `await job.push(…)` waits, too."""
HELD_SECONDS = 10.0
"""How long a process waits for its predecessor, which may be about to end, to let the spool go."""
HELD_PAUSE = 0.1
CLOSE_SECONDS = 5.0
"""How long the end of a bot waits for its disk."""
AGAIN_SECONDS = 1.0
"""Pause after which what could not be written is tried again."""
SYNC_SECONDS = 1.0
"""A power cut takes no more than what was pushed within these seconds."""
_AT_ONCE = 1_000
_AT_ONCE_BYTES = 2**20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SpoolAt:
    """A spool's file."""

    path: Path
    most: int
    """So many bytes of records may wait in it before `await job.push(…)` waits, too."""


class DiskOutbox(Outbox):
    """The records of one assignment in the spool, and those that its thread has not written yet."""

    def __init__(self, disk: Disk, box: Box) -> None:
        super().__init__(box.profile, box.epoch)
        self.arriving: deque[Entry] = deque()
        """Not written yet; below, what is. All of it under the disk's lock."""
        self.count = box.count
        self.first = box.first
        self.closed = False
        self.superseded = bool(box.superseded)
        self._disk = disk

    def __len__(self) -> int:
        return self.count + len(self.arriving)

    @property
    def has_room(self) -> bool:
        """Whether the next record need not wait, on the disk and on its way there."""
        return self._disk.room.is_left and self._disk.arriving.is_left

    @property
    def is_overfull(self) -> bool:
        """Whether twice as much waits as should, on the disk or on its way there."""
        return self._disk.room.is_exceeded or self._disk.arriving.is_exceeded

    def put(self, record: bytes, *, waits: bool) -> Entry:
        """Takes one record, and has the thread write it."""
        check_size(record)
        return self._disk.put(self, record, waits=waits)

    def note_unawaited(self, entry: Entry) -> None:
        """Counts it among those that may become too many, on the disk or on the way there."""
        with self._disk.lock:
            self._disk.room.note_unawaited(len(entry.data))
            if not entry.kept:
                self._disk.arriving.note_unawaited(len(entry.data))

    def mark(self) -> int:
        """The number that the next record gets."""
        return self._disk.next_seq

    def settled(self, mark: int) -> bool:
        """Whether the first that waits was put in after the mark."""
        with self._disk.lock:
            arriving = self.arriving[0].seq if self.arriving else None
            return all(first is None or first >= mark for first in (self.first, arriving))

    async def batch(self) -> Batch | None:
        """The batch that is on its way, else a new one of what the file has."""
        batch = await self._ask(lambda spool: spool.batch(self.profile, self.epoch))
        if batch is None and self.arriving:
            self._disk.check()
        return batch

    async def settle(self, batch: Batch) -> None:
        """Takes it out of the file."""

        def settle(spool: Spool) -> None:
            if size := spool.settle(self.profile, self.epoch, batch.number):
                self._gone(spool, batch.count, size)

        await self._ask(settle)

    async def split(self, batch: Batch) -> None:
        """Has the next one made anew, of half the size."""
        await self._ask(lambda spool: spool.split(self.profile, self.epoch, len(batch.body) // 2))

    async def refuse(self, batch: Batch, positions: Iterable[int], reason: str) -> SetAside:
        """Sets them aside, into a file."""
        del batch  # the file knows which one is on its way
        return await self._ask(
            lambda spool: self._dropped(spool, *spool.refuse(self.profile, self.epoch, positions, reason))
        )

    async def supersede(self) -> SetAside:
        """Sets what is left aside, into a file."""
        return await self._ask(lambda spool: self._dropped(spool, *spool.supersede(self.profile, self.epoch)))

    def abandon(self) -> int:
        """Leaves it to the next process."""
        return len(self)

    async def retire(self) -> None:
        """Takes nothing any more, unless something has just come."""
        self._disk.part_with(self)

    async def _ask(self, task: Callable[[Spool], T]) -> T:
        return await self._disk.ask(task)

    def _dropped(self, spool: Spool, what: SetAside, size: int) -> SetAside:
        self.dropped += what.count
        self._gone(spool, what.count, size)
        return what

    def _gone(self, spool: Spool, count: int, size: int) -> None:
        first = spool.first(self.profile, self.epoch)
        with self._disk.lock:
            self.count, self.first = self.count - count, first
            self._disk.room.add(-count, -size)


class Disk:
    """The thread that has the spool's file, from `begin` to `close`."""

    def __init__(self, spool: SpoolAt, bell: Bell) -> None:
        self.path = spool.path
        self.claim: Claim | None = None
        self.next_seq = 0
        self.lock = threading.RLock()
        self.room = Room(MOST_RECORDS, spool.most)
        self.arriving = Room(limits.MAX_WAITING_RECORDS, limits.MAX_WAITING_BYTES)
        self._most = spool.most
        self._bell = bell
        self._changed = threading.Condition(self.lock)
        self._outboxes: dict[tuple[str, int], DiskOutbox] = {}
        self._tasks: deque[tuple[Callable[[Spool], Any], Future[Any]]] = deque()
        self._written_claim: Claim | None = None
        self._thread: threading.Thread | None = None
        self._closing = False
        self._closed = False
        self._failure: SpoolError | None = None
        self._again_at = 0.0
        self._sync_at: float | None = None

    # ---- from the loop and from working threads

    async def begin(self, given_up: Callable[[], bool]) -> list[Outbox]:
        """Opens the spool and finds what an earlier process has left; waits for one that is about to end.

        Raises:
            SpoolError: it cannot be used, or another process keeps it.
        """
        deadline = time.monotonic() + HELD_SECONDS
        told = False
        while True:
            try:
                return [self._found(box) for box in await self._opened()]
            except SpoolHeldError:
                if given_up():
                    return []
                if time.monotonic() >= deadline:
                    raise
            if not told:
                log.warning("the spool %s is still in use: waiting for it", self.path)
                told = True
            await self._bell.until(given_up, HELD_PAUSE)

    async def _opened(self) -> list[Box]:
        opened: Future[list[Box]] = Future()
        name = f"rota spool {self.path.name}"
        self._closed = False
        self._thread = threading.Thread(target=self._run, args=(opened,), name=name, daemon=True)
        self._thread.start()
        return await asyncio.shield(asyncio.wrap_future(opened))

    def _found(self, box: Box) -> Outbox:
        outbox = DiskOutbox(self, box)
        with self.lock:
            self._outboxes[box.profile, box.epoch] = outbox
            self.room.add(box.count, box.size)
        return outbox

    def open(self, profile: str, epoch: int) -> Outbox:
        """A new outbox."""
        return self._found(Box(profile, epoch, 0, 0, None, 0))

    def hold(self, claim: Claim | None) -> None:
        """Keeps the claim, or none, before anything that is put in after this."""
        with self._changed:
            self.claim = claim
            self._changed.notify()

    def part_with(self, outbox: DiskOutbox) -> None:
        """Closes an outbox that is empty."""
        with self.lock:
            if len(outbox) == 0:
                outbox.closed = True
                self._outboxes.pop((outbox.profile, outbox.epoch), None)

    def check(self) -> None:
        """Whether what arrives can be written.

        Raises:
            SpoolError: it could not, when that was last tried.
        """
        if self._failure is not None:
            raise self._failure

    def put(self, outbox: DiskOutbox, record: bytes, *, waits: bool) -> Entry:
        """Takes one record for an outbox; a closed one drops it."""
        with self._changed:
            if outbox.closed or self._closing:
                outbox.dropped += 1
                return Entry(self.next_seq, record, kept=True)
            if not waits and self.arriving.is_overrun and self._failure is not None:
                raise BufferError(f"records cannot be kept: {self._failure}")
            if not waits and (self.room.is_overrun or self.arriving.is_overrun):
                where = "the disk" if self.arriving.is_overrun else "rota"
                raise BufferError(f"records are pushed faster than {where} takes them: `await job.push(…)`")
            entry = Entry(self.next_seq, record)
            self.next_seq += 1
            outbox.arriving.append(entry)
            self.arriving.add(1, len(record))
            self._changed.notify()
            return entry

    async def ask(self, task: Callable[[Spool], T]) -> T:
        """What the thread makes of it, once everything before it is written.

        Raises:
            SpoolError: the file cannot be read or written.
        """
        asked: Future[T] = Future()
        with self._changed:
            self._tasks.append((task, asked))
            self._changed.notify()
        # A caller that is cancelled does not take back what it has asked for.
        return await asyncio.shield(asyncio.wrap_future(asked))

    async def close(self) -> None:
        """Writes what is left and lets the file go; not for ever, because a disk may hang."""
        if self._thread is None:
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        await self._bell.until(lambda: self._closed, CLOSE_SECONDS)
        if lost := sum(len(outbox.arriving) for outbox in self._outboxes.values()):
            log.error("%d record(s) were not written to the spool: %s", lost, self._failure or "its disk hangs")

    # ---- the thread

    def _run(self, opened: Future[list[Box]]) -> None:
        try:
            with contextlib.closing(Spool(self.path, most_aside=self._most)) as spool:
                self.claim = self._written_claim = spool.claim()
                self.next_seq = spool.next_seq()
                opened.set_result(spool.boxes())
                while self._turn(spool):
                    pass
        except BaseException as error:
            if opened.done():
                raise  # a fault in this module: the process should be noisy about it
            opened.set_exception(error)
        finally:
            self._closed = True
            self._bell.ring()

    def _turn(self, spool: Spool) -> bool:
        with self._changed:
            self._changed.wait_for(self._is_due, self._nap())
            task = self._tasks.popleft() if self._tasks else None
            last = self._closing and task is None
        if last or time.monotonic() >= self._again_at:
            self._write(spool)
        if task is not None:
            self._do(spool, *task)
        elif self._sync_at is not None and (last or time.monotonic() >= self._sync_at):
            self._sync(spool)
        return not last

    def _is_due(self) -> bool:
        waits = any(outbox.arriving for outbox in self._outboxes.values()) or self.claim != self._written_claim
        return bool(self._tasks) or self._closing or (waits and time.monotonic() >= self._again_at)

    def _nap(self) -> float | None:
        moments = [at for at in (self._again_at, self._sync_at) if at]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _do(self, spool: Spool, task: Callable[[Spool], Any], asked: Future[Any]) -> None:
        try:
            asked.set_result(task(spool))
        except BaseException as error:  # noqa: BLE001 - whoever waits for it is told
            asked.set_exception(error)
        self._sync_at = self._sync_at or time.monotonic() + SYNC_SECONDS

    def _write(self, spool: Spool) -> None:
        """Commits the claim and all that arrives; what cannot be written is tried again in a while."""
        self._again_at, wrote = 0.0, False
        try:
            if (claim := self.claim) != self._written_claim:
                spool.hold(claim)
                self._written_claim, wrote = claim, True
            for outbox in list(self._outboxes.values()):
                while chunk := self._next_of(outbox):
                    spool.put(outbox.profile, outbox.epoch, [(entry.seq, entry.data) for entry in chunk])
                    self._written(outbox, chunk)
                    wrote = True
        except SpoolError as error:
            self._failed(error)
            return
        if wrote and self._failure is not None:
            log.info("the spool %s can be written again", self.path)
            self._failure = None

    def _next_of(self, outbox: DiskOutbox) -> list[Entry]:
        chunk, size = list[Entry](), 0
        with self.lock:
            if self.claim != self._written_claim:
                return []  # the claim first: without it the next process could not deliver them
            for entry in outbox.arriving:
                size += len(entry.data)
                if chunk and (len(chunk) == _AT_ONCE or size > _AT_ONCE_BYTES):
                    break
                chunk.append(entry)
        return chunk

    def _written(self, outbox: DiskOutbox, chunk: list[Entry]) -> None:
        size = sum(len(entry.data) for entry in chunk)
        with self.lock:
            for entry in chunk:
                outbox.arriving.popleft()
                entry.kept = True
            outbox.count += len(chunk)
            outbox.first = chunk[0].seq if outbox.first is None else outbox.first
            self.arriving.add(-len(chunk), -size)
            self.room.add(len(chunk), size)
        self._sync_at = self._sync_at or time.monotonic() + SYNC_SECONDS
        self._bell.ring()

    def _failed(self, error: SpoolError) -> None:
        if str(error) != str(self._failure):
            log.error("%s", error)
        with self.lock:
            self._failure = error
            self._again_at = time.monotonic() + AGAIN_SECONDS
            for outbox in self._outboxes.values():
                # Whoever waits is told, and has the record back; what nobody waits for is still in our hands.
                told = [entry for entry in outbox.arriving if entry.awaited]
                for entry in told:
                    entry.error = error
                outbox.arriving = deque(entry for entry in outbox.arriving if entry.error is None)
                self.arriving.add(-len(told), -sum(len(entry.data) for entry in told))
        self._bell.ring()

    def _sync(self, spool: Spool) -> None:
        self._sync_at = None
        try:
            spool.sync()
        except SpoolError as error:
            self._failed(error)
