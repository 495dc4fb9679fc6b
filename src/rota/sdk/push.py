"""The way of pushed records to rota: `Outbox` keeps those of one assignment in order, `Outboxes` sends them.

A batch is sent, byte for byte the same, until rota has it: rota knows it by its number and stores it once.
Nothing here knows the lease; rota itself refuses data of an assignment that has a newer owner.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rota.errors import BodyTooLargeError, InvalidRequestError, ProblemError, SupersededError, UnknownBotError
from rota.protocol import MAX_BODY_BYTES, MAX_RECORDS
from rota.sdk.pace import retry_delay
from rota.sdk.session import Session
from rota.sdk.waiting import Bell

log = logging.getLogger("rota.bot")

MAX_WAITING_RECORDS = 10_000
"""So many records may wait for rota before `await job.push(…)` waits, too."""
MAX_WAITING_BYTES = 16 * MAX_BODY_BYTES
"""The same in bytes."""
LINGER = 60.0
"""Seconds for which records of an earlier assignment are still tried."""
MAX_RECORD_BYTES = MAX_BODY_BYTES - 256
"""Longest record, as JSON: what a batch of one leaves for it."""
_RECORD = re.compile(r"(?:^|\.)records\.(\d+)(?:\.|$)")
_TAIL = b"]}"


@dataclass(frozen=True, slots=True)
class Batch:
    """One `push_data` body and how many records are in it."""

    number: int
    count: int
    body: bytes


class Outbox:
    """The records of one assignment that rota does not have yet; any thread may put one in."""

    def __init__(self, profile: str, epoch: int) -> None:
        self.profile = profile
        self.epoch = epoch
        self.ending = False
        """Nobody puts anything in any more; what is left is still sent."""
        self.dropped = 0
        """Records that were given up."""
        self._put_in = 0
        self._number = 0
        self._max_bytes = MAX_BODY_BYTES
        self._records: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._current: Batch | None = None
        self._closed = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._records)

    @property
    def has_room(self) -> bool:
        """Whether the next record need not wait."""
        return len(self._records) < MAX_WAITING_RECORDS and self._bytes < MAX_WAITING_BYTES

    def put(self, record: bytes) -> None:
        """Takes one record, as JSON; once the outbox is closed it is dropped.

        Raises:
            ValueError: it is too large for any batch.
            BufferError: nobody waits for room, and twice as much is waiting as should.
        """
        if len(record) > MAX_RECORD_BYTES:
            raise ValueError(f"a record of {len(record)} bytes is over the limit of {MAX_RECORD_BYTES}")
        with self._lock:
            if len(self._records) >= 2 * MAX_WAITING_RECORDS or self._bytes >= 2 * MAX_WAITING_BYTES:
                raise BufferError("records are pushed faster than rota takes them: `await job.push(…)`")
            if self._closed:
                self.dropped += 1
                return
            self._records.append((self._put_in, record))
            self._put_in += 1
            self._bytes += len(record)

    def mark(self) -> int:
        """The place behind everything that was put in so far, for `settled`."""
        return self._put_in

    def settled(self, mark: int) -> bool:
        """Whether everything before the mark is committed or dropped."""
        with self._lock:
            return not self._records or self._records[0][0] >= mark

    def batch(self) -> Batch | None:
        """The next batch to send: the same one, whatever is put in, until it is settled, split or refused."""
        with self._lock:
            # rota may have a batch although its reply was lost: what its number stands for must never change.
            self._current = self._current or self._make_batch()
            return self._current

    def _make_batch(self) -> Batch | None:
        address = f'"profile":"{self.profile}","epoch":{self.epoch},"batch":{self._number}'
        head = f'{{{address},"records":['.encode()
        size = len(head) + len(_TAIL)
        records: list[bytes] = []
        for _, record in itertools.islice(self._records, MAX_RECORDS):
            size += len(record) + 1
            if records and size > self._max_bytes:
                break
            records.append(record)
        if not records:
            return None
        return Batch(self._number, len(records), head + b",".join(records) + _TAIL)

    def settle(self, batch: Batch) -> None:
        """Rota has the batch."""
        with self._lock:
            if self._current is batch:  # else the outbox was closed while the batch was on its way
                self._take(range(batch.count))
                self._number += 1

    def split(self, batch: Batch) -> None:
        """Rota finds the batch too large: from now on they are half as large."""
        with self._lock:
            self._max_bytes = len(batch.body) // 2
            self._current = None

    def refuse(self, batch: Batch, positions: Iterable[int]) -> int:
        """Drops the records at these positions of a batch that rota never takes, else all of it; how many."""
        with self._lock:
            if self._current is not batch:
                return 0
            named = {position for position in positions if position < batch.count}
            return self._drop(named or range(batch.count))

    def close(self) -> int:
        """Drops what is left and whatever comes later; says how many records were left."""
        with self._lock:
            self._closed = self.ending = True
            return self._drop(range(len(self._records)))

    def _drop(self, positions: Iterable[int]) -> int:
        count = self._take(positions)
        self.dropped += count
        return count

    def _take(self, positions: Iterable[int]) -> int:
        gone = set(positions)
        front = [self._records.popleft() for _ in range(max(gone, default=-1) + 1)]
        self._records.extendleft(reversed([item for at, item in enumerate(front) if at not in gone]))
        self._bytes -= sum(len(front[at][1]) for at in gone)
        self._current = None
        return len(gone)


class Outboxes:
    """Sends what is put in: the outbox of the current assignment, and what is left of earlier ones."""

    def __init__(self, session: Session, bell: Bell, *, superseded: Callable[[Outbox], None]) -> None:
        """`superseded` is told when rota says that the profile of an outbox has a newer owner."""
        self._session = session
        self._bell = bell
        self._superseded = superseded
        self._current: Outbox | None = None
        self._senders: dict[Outbox, asyncio.Task[None]] = {}

    def open(self, profile: str, epoch: int) -> Outbox:
        """The outbox of an assignment; a second run of the same one counts on from where the first ended."""
        current = self._current
        if current is not None:
            if (current.profile, current.epoch) == (profile, epoch):
                return current
            current.ending = True
            asyncio.get_running_loop().call_later(LINGER, self._give_up, current)
        self._current = outbox = Outbox(profile, epoch)
        sender = asyncio.create_task(self._send_all(outbox), name=f"rota push {profile}")
        self._senders[outbox] = sender
        sender.add_done_callback(lambda _: self._senders.pop(outbox, None))
        self._bell.ring()
        return outbox

    async def close(self, seconds: float) -> None:
        """Waits so long for everything to be committed; what is left then is dropped."""
        await self._bell.until(lambda: not any(map(len, self._senders)), seconds)
        senders = dict(self._senders)
        for outbox, sender in senders.items():
            self._give_up(outbox)
            sender.cancel()
        await asyncio.gather(*senders.values(), return_exceptions=True)

    def _give_up(self, outbox: Outbox) -> None:
        if left := outbox.close():
            log.error(
                "profile %s: %d record(s) of epoch %d never reached rota; dropped",
                outbox.profile,
                left,
                outbox.epoch,
            )
        self._bell.ring()

    async def _send_all(self, outbox: Outbox) -> None:
        failures = 0
        while True:
            await self._bell.until(lambda: len(outbox) > 0 or outbox.ending)
            await self._bell.until(lambda: self._session.token is not None or len(outbox) == 0)
            batch = outbox.batch()
            if batch is None:
                if outbox.ending:
                    return
                continue
            failure = await self._send(outbox, batch)
            self._bell.ring()
            failures = 0 if failure is None else failures + 1
            if failure is not None:
                log.warning("profile %s: batch %d waits: %s", outbox.profile, batch.number, failure)
                await asyncio.sleep(retry_delay(failures, failure.retry_after, self._session.ttl))

    async def _send(self, outbox: Outbox, batch: Batch) -> ProblemError | None:
        """Sends one batch once; says what failed where the same batch has to be sent again."""
        token = self._session.token
        try:
            await self._session.push_data(batch.body)
        except SupersededError:
            left = outbox.close()
            log.error("profile %s has a newer owner: %d record(s) dropped", outbox.profile, left)
            self._superseded(outbox)
        except BodyTooLargeError as error:
            if batch.count > 1:
                outbox.split(batch)
            else:
                outbox.refuse(batch, ())
                log.error("profile %s: a record of %d bytes dropped: %s", outbox.profile, len(batch.body), error)
        except InvalidRequestError as error:
            count = outbox.refuse(batch, _positions(error))
            log.error("profile %s: rota refuses %d record(s): %s; dropped", outbox.profile, count, _text(error))
        except UnknownBotError:
            self._session.forget(token)
        except ProblemError as error:
            return error
        else:
            outbox.settle(batch)
        return None


def _positions(error: InvalidRequestError) -> set[int]:
    found = (_RECORD.search(wrong.field) for wrong in error.fields)
    return {int(match[1]) for match in found if match}


def _text(error: InvalidRequestError) -> str:
    return "; ".join([error.detail, *(f"{wrong.field}: {wrong.message}" for wrong in error.fields[:5])])
