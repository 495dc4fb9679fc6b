"""What a work function gets: whom it works for, with which configuration, and how to tell what it finds.

Every method may be called on the event loop and, by a plain function, in its own thread. What may take time
gives a `Later`: an async function awaits it, for a plain one the call itself waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from rota import storable
from rota.protocol import Assignment, Record
from rota.sdk.lease import Watchdog, now
from rota.sdk.outbox import Entry, Outbox
from rota.sdk.waiting import Bell, Flag, Later


@dataclass(slots=True)
class Desk:
    """What the bot and its job lay before each other: orders and the status text."""

    assignment: Assignment
    outbox: Outbox
    bell: Bell
    status: str = ""
    cancelled: bool = False


class Job:
    """One run of the work function for one profile.

    >>> from rota import Bot
    >>> bot = Bot("http://127.0.0.1:7682", "enrol_...")
    >>> @bot.work
    ... async def watch(job: Job) -> None:
    ...     while not job.stopping:
    ...         await job.push({"ok": True}, kind="check")
    ...         await job.sleep(job.config.get("every", 30))
    """

    def __init__(self, desk: Desk, watchdog: Watchdog) -> None:
        self._desk = desk
        self._watchdog = watchdog
        self._line = asyncio.Lock()
        self.stopping = Flag(desk.bell, before=watchdog.heed)
        """Set when the work has to come to its end: rota, the operator or the lease asks for it."""
        self.reconfigured = Flag(desk.bell, ends_with=self.stopping)
        """Set when `config` has changed; who heeds it clears it. A stop, too, ends the waiting for it."""

    def __repr__(self) -> str:
        return f"<Job {self.name!r} {self.profile} epoch {self.epoch} revision {self.revision}>"

    @property
    def profile(self) -> str:
        """The profile's id."""
        return self._desk.assignment.profile

    @property
    def name(self) -> str:
        """The profile's name, for people."""
        return self._desk.assignment.name

    @property
    def epoch(self) -> int:
        """The fencing token of this assignment: higher than that of any earlier one of the profile."""
        return self._desk.assignment.epoch

    @property
    def revision(self) -> int:
        """The version of `config`."""
        return self._desk.assignment.revision

    @property
    def config(self) -> dict[str, Any]:
        """The newest configuration. A change replaces it by another dict and sets `reconfigured`."""
        return self._desk.assignment.config or {}

    @property
    def lease_left(self) -> float:
        """Seconds until all work must have stopped: longer than that nothing may take that cannot be called back."""
        return max(0.0, self._watchdog.lease.ends_at - now())

    def push(self, data: Any, *, kind: str = "record", at: datetime | None = None) -> Later:
        """Takes one record for rota at once; waiting for it is waiting while too many are on their way.

        `data` is what JSON can say, `at` when it happened (else now). rota stores it once, in the order of
        the calls. With a spool on disk, who waits also waits until the record is in it.

        Raises:
            ValueError: `data` is not JSON that rota can keep (the text says where and why), `kind` is not of
                `A-Za-z0-9._:/-`, or the record is over 1 MiB.
            BufferError: on the event loop, that twice as many records are on their way as should, because nobody
                waited for those that were pushed; this one was not taken.
            SpoolError: from waiting: the spool cannot be written, and the record was not taken.
        """
        self._heed_cancellation()
        desk, outbox = self._desk, self._desk.outbox
        entry = outbox.put(_record(data, kind, at or datetime.now(UTC)), waits=not desk.bell.on_loop())
        desk.bell.ring()
        if entry.kept and outbox.has_room and not desk.cancelled:
            return Later(outcome=True)

        if desk.cancelled:
            outbox.note_unawaited(entry)  # whoever awaits it will not wait

        def may_go_on() -> bool:
            has_room = not outbox.is_overfull if self.stopping.was_set() else outbox.has_room
            return desk.cancelled or (entry.is_decided() and (has_room or entry.error is not None))

        def answer() -> bool:
            return _is_kept(entry) and outbox.has_room

        if not desk.bell.on_loop():
            return self._until(may_go_on, None, answer)
        return Later(
            wait=lambda: self._on_loop(self._in_line(may_go_on, answer)),
            unawaited=lambda: outbox.note_unawaited(entry),
        )

    def flush(self, timeout: float | None = None) -> Later:
        """Waits until all that was pushed is committed.

        False: `timeout` seconds were not enough, or rota refused some of it.
        """
        outbox, mark = self._desk.outbox, self._desk.outbox.mark()
        dropped = outbox.dropped
        return self._until(
            lambda: outbox.settled(mark) or self._desk.cancelled,
            timeout,
            lambda: outbox.settled(mark) and outbox.dropped == dropped,
        )

    def status(self, text: str) -> None:
        """Sets the text that people see beside this bot; 64 characters, sent with the next heartbeat."""
        self._heed_cancellation()
        self._desk.status = str(text)

    def sleep(self, seconds: float) -> Later:
        """Waits, but not beyond the moment when the job is stopping; False: it is stopping."""
        return self._until(self.stopping.was_set, seconds, lambda: not self.stopping.is_set())

    async def _in_line(self, reached: Callable[[], bool], answer: Callable[[], bool]) -> bool:
        """Waits without a timeout. Many may: only the first of the line is woken by what happens, and then the next."""
        if not reached():
            async with self._line:
                await self._desk.bell.until(reached)
        return answer()

    def _until(self, reached: Callable[[], bool], timeout: float | None, answer: Callable[[], bool]) -> Later:
        self._heed_cancellation()
        bell = self._desk.bell
        if bell.on_loop():
            return Later(wait=lambda: self._on_loop(bell.until(reached, timeout, answer)))
        later = bell.until(reached, timeout, answer)
        self._heed_cancellation()
        return later

    async def _on_loop(self, later: Awaitable[bool]) -> bool:
        outcome = await later
        self._heed_cancellation()
        if self._desk.cancelled:
            await asyncio.sleep(0)  # where the cancellation is on its way, it arrives here, before the work goes on
        return outcome

    def _heed_cancellation(self) -> None:
        """Looks at the lease, and ends a plain function as a cancellation ends an async one: by what it asks next."""
        self._watchdog.heed()
        if self._desk.cancelled and not self._desk.bell.on_loop():
            raise asyncio.CancelledError("this job was told to stop and has not")


def _record(data: Any, kind: str, at: datetime) -> bytes:
    text = storable.encoded(data, "data")
    try:
        head = Record(kind=kind, at=at).model_dump_json(exclude={"data"})
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise ValueError(f"{wrong['loc'][0]}: {wrong['msg']}") from None
    return b'%b,"data":%b}' % (head[:-1].encode(), text)


def _is_kept(entry: Entry) -> bool:
    if entry.error is not None:
        raise entry.error
    return entry.kept
