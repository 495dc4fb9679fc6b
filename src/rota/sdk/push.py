"""The way of pushed records to rota: `Outboxes` sends what is in the outboxes of one bot, each in its order.

A batch is sent, byte for byte the same, until rota has it: rota knows it by its number and stores it once.
Nothing here knows the lease; rota itself refuses data of an assignment that has a newer owner.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rota.errors import (
    BodyTooLargeError,
    InvalidRequestError,
    ProblemError,
    SpoolError,
    SupersededError,
    UnknownBotError,
)
from rota.protocol import Assignment, LeasedWorking
from rota.sdk.claim import Claim, first_claim
from rota.sdk.disk import Disk, SpoolAt
from rota.sdk.outbox import Batch, Memory, Outbox, SetAside
from rota.sdk.pace import retry_delay
from rota.sdk.session import Session
from rota.sdk.waiting import Bell

log = logging.getLogger("rota.bot")

_MOST_TOLD = 5
"""Places of a refusal that the log names."""
_RECORD = re.compile(r"(?:^|\.)records\.(\d+)(?:\.|$)")


@dataclass(frozen=True, slots=True)
class Superseded:
    """Records that rota does not take, because their profile has a newer owner."""

    profile: str
    epoch: int
    count: int
    path: Path | None
    """The file that they lie in now; None: they are lost."""


@dataclass(frozen=True, slots=True)
class Pushing:
    """How a bot wants its records to be kept."""

    spool: SpoolAt | None = None
    """On disk; None: in memory."""
    on_superseded: Callable[[Superseded], object] | None = None


class Outboxes:
    """Sends what is put in: the outbox of the current assignment, and what is left of earlier ones."""

    def __init__(self, session: Session, bell: Bell, push: Pushing, *, superseded: Callable[[Outbox], None]) -> None:
        """`superseded` is told when rota says that the profile of an outbox has a newer owner."""
        self._session = session
        self._bell = bell
        self._on_superseded = push.on_superseded
        self._place = Disk(push.spool, bell) if push.spool else Memory()
        self._superseded = superseded
        self._senders: dict[Outbox, asyncio.Task[None]] = {}

    async def begin(self, given_up: Callable[[], bool]) -> None:
        """Sends what an earlier process has left on disk, as soon as this bot is on the roster.

        Raises:
            SpoolError: the spool cannot be used.
        """
        for outbox in await self._place.begin(given_up):
            outbox.ending = not self._is_claimed(outbox)
            self._send_from(outbox)
            if len(outbox):
                log.info("profile %s: %d record(s) of epoch %d wait in %s", *_whose(outbox), self._place.path)

    def open(self, assignment: Assignment) -> Outbox:
        """The outbox of an assignment whose work begins; a second run of the same one counts on."""
        claim = self._place.claim
        self._place.hold(claim.begun(assignment) if claim else first_claim(assignment))
        found = None
        for outbox in self._senders:
            outbox.ending = not self._is_claimed(outbox)
            found = found if outbox.ending else outbox
        if found is None:
            found = self._place.open(assignment.profile, assignment.epoch)
            self._send_from(found)
        self._bell.ring()
        return found

    async def end(self, seconds: float, *, stopped: bool) -> bool:
        """Waits so long for everything to be committed; what is left then stays on disk, or is dropped.

        `stopped`: nobody pushes any more. True: on disk is something that needs the current assignment.
        """
        for outbox in self._senders:
            outbox.ending = outbox.ending or stopped
        self._bell.ring()
        await self._bell.until(lambda: not any(map(len, self._senders)), seconds)
        senders = dict(self._senders)
        for outbox, sender in senders.items():
            self._leave_behind(outbox)
            sender.cancel()
        kept = self._place.path is not None and not self.claim_is_settled()
        await asyncio.gather(*senders.values(), return_exceptions=True)
        self._bell.ring()
        return kept

    async def close(self) -> None:
        """Lets the spool go; nobody may push any more."""
        await self._place.close()

    # ---- the claim

    @property
    def claim(self) -> Claim | None:
        """The assignment that this bot, or the process before it, was last given and may still be bound to."""
        return self._place.claim

    def renew(self, working: LeasedWorking) -> None:
        """Keeps the newest revision and lease of the claim."""
        if self.claim is not None and self.claim.is_for(working):
            self._place.hold(self.claim.renewed(working))

    def note_end(self, crash: str = "") -> None:
        """The work has ended; `crash` is what rota has to be told of it."""
        if self.claim is not None:
            self._place.hold(self.claim.ended(crash))

    def let_go(self) -> None:
        """Rota has said that this bot is bound to nothing."""
        if self.claim is not None:
            self._place.hold(None)
            for outbox in self._senders:
                outbox.ending = True
            self._bell.ring()

    def claim_is_settled(self) -> bool:
        """Whether rota has all records of the claimed assignment, or will not take them."""
        return not any(len(outbox) for outbox in self._senders if self._is_claimed(outbox) and not outbox.superseded)

    def _is_claimed(self, outbox: Outbox) -> bool:
        claim = self._place.claim
        return claim is not None and (claim.profile, claim.epoch) == (outbox.profile, outbox.epoch)

    # ---- sending

    def _send_from(self, outbox: Outbox) -> None:
        sender = asyncio.create_task(self._send_all(outbox), name=f"rota push {outbox.profile}")
        self._senders[outbox] = sender
        sender.add_done_callback(lambda _: self._senders.pop(outbox, None))

    async def _send_all(self, outbox: Outbox) -> None:
        failures = 0
        while True:
            # What is pushed after the end of its assignment goes into one file, when the work has ended, too.
            await self._bell.until(lambda: outbox.ending or (len(outbox) > 0 and not outbox.superseded))
            await self._bell.until(lambda: self._may_go_on(outbox))
            failure = await self._try(outbox)
            self._bell.ring()
            if failure is None:
                failures = 0
                if outbox.ending and len(outbox) == 0:
                    return
            else:
                failures += 1
                log.warning("profile %s: %d record(s) of epoch %d wait: %s", *_whose(outbox), failure)
                wait = getattr(failure, "retry_after", None)
                await asyncio.sleep(retry_delay(failures, wait, self._session.ttl))

    def _may_go_on(self, outbox: Outbox) -> bool:
        return self._session.token is not None or outbox.superseded or len(outbox) == 0

    async def _try(self, outbox: Outbox) -> ProblemError | SpoolError | None:
        """Sends one batch once, or sees to the outbox's end; says what failed where that has to be tried again."""
        try:
            if outbox.superseded and len(outbox):
                await self._set_aside(outbox)
            elif batch := await outbox.batch():
                return await self._send(outbox, batch)
            elif outbox.ending:
                await outbox.retire()
        except SpoolError as error:
            return error
        return None

    async def _send(self, outbox: Outbox, batch: Batch) -> ProblemError | None:
        token = self._session.token
        try:
            await self._session.push_data(batch.body)
        except SupersededError:
            outbox.superseded = True
            self._superseded(outbox)
            await self._set_aside(outbox)
        except BodyTooLargeError as error:
            if batch.count > 1:
                await outbox.split(batch)
            else:
                gone = await outbox.refuse(batch, (), error.detail)
                size = len(batch.body)
                log.error("profile %s: a record of %d bytes %s: %s", outbox.profile, size, _whereto(gone), error)
        except InvalidRequestError as error:
            gone = await outbox.refuse(batch, _positions(error), _text(error))
            whereto = _whereto(gone)
            log.error(
                "profile %s: rota refuses %d record(s): %s; %s", outbox.profile, gone.count, _text(error), whereto
            )
        except UnknownBotError:
            self._session.forget(token)
        except ProblemError as error:
            return error
        else:
            await outbox.settle(batch)
        return None

    # ---- what rota does not get

    async def _set_aside(self, outbox: Outbox) -> None:
        gone = await outbox.supersede()
        if not gone.count:
            return
        text = "profile %s: rota has ended the assignment of epoch %d and takes nothing of it any more: %d record(s) %s"
        log.error(text, outbox.profile, outbox.epoch, gone.count, _whereto(gone))
        if self._on_superseded is not None:
            try:
                self._on_superseded(Superseded(outbox.profile, outbox.epoch, gone.count, gone.path))
            except Exception:
                log.exception("the function that is told of superseded records failed")

    def _leave_behind(self, outbox: Outbox) -> None:
        whose = _whose(outbox)
        if not outbox.abandon():
            return
        if self._place.path is None:
            log.error("profile %s: %d record(s) of epoch %d never reached rota; dropped", *whose)
        else:
            log.warning("profile %s: %d record(s) of epoch %d stay in %s", *whose, self._place.path)


def _whose(outbox: Outbox) -> tuple[str, int, int]:
    return outbox.profile, len(outbox), outbox.epoch


def _whereto(gone: SetAside) -> str:
    return f"set aside in {gone.path}" if gone.path else "dropped"


def _positions(error: InvalidRequestError) -> set[int]:
    found = (_RECORD.search(wrong.field) for wrong in error.fields)
    return {int(match[1]) for match in found if match}


def _text(error: InvalidRequestError) -> str:
    wrong = [f"{wrong.field}: {wrong.message}" for wrong in error.fields]
    more = [f"and {len(wrong) - _MOST_TOLD} more"] if len(wrong) > _MOST_TOLD else []
    # The detail of most refusals is their first field.
    detail = [] if error.detail in wrong else [error.detail]
    return "; ".join([*detail, *wrong[:_MOST_TOLD], *more])
