"""A bot's conversation with rota, from auth to leave: it says what is, hears what should be, and sees to it.

One task runs it; everything that happens elsewhere (work that ends, a token that died, a signal) rings the
bell, and the next heartbeat tells it. Work begins only in answer to a heartbeat that was just sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Literal

from rota.errors import (
    InvalidKeyError,
    InvalidRequestError,
    ProblemError,
    ServerNotAllowedError,
    SettingsError,
    SlotContestedError,
    SupersededError,
    UnknownBotError,
)
from rota.protocol import Assignment, Ended, HeartbeatReply, HeartbeatRequest, Instruction, LeaveRequest
from rota.sdk.claim import Claim
from rota.sdk.job import Desk
from rota.sdk.lease import Lease, end_process, now
from rota.sdk.outbox import Outbox
from rota.sdk.pace import (
    LONGEST_RESTART,
    Restarts,
    beat_delay,
    longest_wait,
    pause_after,
    restart_delay,
    retry_cap,
    retry_delay,
    spread,
)
from rota.sdk.push import Outboxes, Pushing
from rota.sdk.session import Session
from rota.sdk.shift import FLUSH_SECONDS, Shift, Work
from rota.sdk.waiting import Bell

log = logging.getLogger("rota.bot")

LEAVE_SECONDS = 5.0
"""How long a bot tries to say that it goes."""
CANCEL_SECONDS = 5.0
"""How long cancelled work may take to end when the bot goes."""


class Duty:
    """One bot on duty; made on the loop that `serve` runs on."""

    def __init__(self, session: Session, work: Work, *, grace: float, last_resort: bool, push: Pushing) -> None:
        self._session = session
        self._work = work
        self._grace = grace
        self._last_resort = last_resort
        self._bell = Bell()
        self._outboxes = Outboxes(session, self._bell, push, superseded=self._on_superseded)
        self._shift: Shift | None = None
        self._ended: Ended | None = None
        """What idle beats name until rota has heard it."""
        self._restarts = Restarts()
        self._leaving = False
        self._grace_over = False
        self._news = False
        """Something has changed since the last heartbeat was written."""
        self._may_hurry = True
        """News need not wait: rota answered the last call."""
        self._failures = 0
        self._interval = 0.0
        self._entered_at: float | None = None
        """When this bot entered the roster, as long as it has not left it by itself."""
        self._evictions = 0
        self._auth_at = 0.0

    async def serve(self) -> None:
        """Is on duty until `leave` is called or rota says `exit`.

        Raises:
            InvalidKeyError: the enrolment key is unknown, expired or revoked.
            ServerNotAllowedError: the hostname is not on the list.
            SettingsError: rota does not take this bot's instance, labels or version.
            SpoolError: the spool on disk cannot be used.
        """
        grace = 0.0
        try:
            await self._outboxes.begin(lambda: self._leaving)
            while not self._is_done():
                await self._pause(await self._exchange())
                await self._see_to_shift()
        except (InvalidKeyError, ServerNotAllowedError, SettingsError):
            grace = self._grace
            raise
        finally:
            # In a task of its own: before Python 3.11.4 no timeout works in a task that is being cancelled.
            await asyncio.create_task(self._end(grace))

    def leave(self) -> None:
        """Goes after the grace; called again, at once. From any thread."""
        self._bell.call(self._leave_or_hurry)

    def check_lease(self) -> None:
        """Heeds the lease in this moment, before anything else: for a process that was just continued."""
        if self._shift is not None:
            self._shift.check_lease()

    # ---- the beat

    async def _exchange(self) -> float:
        """Enters the roster if need be, and beats once; the seconds until the next time."""
        self._may_hurry = True
        try:
            if self._session.token is None:
                if delay := self._auth_in():
                    self._may_hurry = False
                    return delay
                await self._auth()
                if self._session.token is None:
                    return 0.0
            delay = await self._beat()
        except (InvalidKeyError, ServerNotAllowedError):
            raise
        except UnknownBotError:
            self._session.forget(self._session.token)
            return 0.0
        except ProblemError as error:
            return self._on_failure(error)
        if self._failures:
            log.info("rota answers again")
        self._failures = 0
        return delay

    async def _auth(self) -> None:
        shift, claim = self._shift_at_work(), self._outboxes.claim
        working = shift.leased_working if shift else claim.as_working if claim else None
        try:
            reply, sent_at = await self._session.auth(working)
        except InvalidRequestError as error:
            if shift is not None:
                raise
            wrong = "; ".join(f"{field.field}: {field.message}" for field in error.fields) or error.detail
            raise SettingsError(f"rota does not take this bot's description: {wrong}") from None
        self._entered_at = now()
        self._interval = reply.interval
        self._bell.ring()
        log.info("on the roster as %s", reply.bot)
        if shift is None:
            await self._come_back(claim, reply.assignment)
        elif reply.assignment is not None and shift.is_for(reply.assignment):
            shift.renew(Lease(sent_at, reply.ttl))
            shift.keep_lease(reply.assignment)
            self._outboxes.renew(shift.leased_working)
        else:
            shift.revoke("rota has not given its assignment back")

    async def _come_back(self, claim: Claim | None, given: Assignment | None) -> None:
        """Sees to what was left behind, by an earlier process perhaps, of an assignment that nobody works on now."""
        if claim is None:
            return
        self._ended = claim.as_ended
        restored = claim.is_for(given)
        if restored and not claim.crash:
            return  # the next heartbeat says that nobody works on it, and is told to start it
        # Before somebody else gets it, and the last records come too late. A push, too, is a sign of life.
        patience = min(FLUSH_SECONDS, (self._session.ttl or FLUSH_SECONDS) / 3)
        await self._bell.until(lambda: self._leaving or self._outboxes.claim_is_settled(), patience)
        if restored:
            log.error("profile %s: %s", claim.profile, claim.crash)
            await self._leave("crash", claim.crash)
            await self._bell.until(lambda: self._leaving, self._restarts.crashed(0))
        else:
            self._outboxes.let_go()

    async def _beat(self) -> float:
        in_a_hurry, self._news = self._news or self._leaving or self._failures > 0, False
        shift = self._shift_at_work()
        may_wait = not in_a_hurry and self._may_wait()
        request = HeartbeatRequest(
            working=shift.working if shift else None,
            ended=self._ended,
            status=shift.status if shift else "",
            accepting=not self._leaving,
            wait=longest_wait(self._interval, self._session.ttl, at_work=shift is not None) if may_wait else 0,
        )
        answer = await self._heard(request)
        if answer is None:
            return 0.0
        reply, sent_at = answer
        self._interval = reply.interval
        self._obey(reply, Lease(sent_at, reply.ttl), shift)
        if in_a_hurry and self._may_wait():
            return 0.0  # what was urgent is told, and the next beat may wait for an order
        if not request.wait:
            return beat_delay(reply.interval, reply.ttl)
        return pause_after(reply.interval, reply.ttl, held=now() - sent_at)

    def _may_wait(self) -> bool:
        """Whether nothing is to be told or done that a held beat would delay."""
        return not self._leaving and self._ended is None and not self._restarts.next_in()

    async def _heard(self, request: HeartbeatRequest) -> tuple[HeartbeatReply, float] | None:
        """What rota answers and when it was asked, or None where there is something to say before it has answered."""
        if not request.wait:
            return await self._session.heartbeat(request)
        call = asyncio.create_task(self._session.heartbeat(request))
        call.add_done_callback(lambda _: self._bell.ring())
        try:
            await self._bell.until(lambda: call.done() or self._must_speak())
            return await call if call.done() else None
        finally:
            call.cancel()
            await asyncio.wait([call])

    def _obey(self, reply: HeartbeatReply, lease: Lease, shift: Shift | None) -> None:
        """Does what rota says; `shift` is what this beat reported."""
        if reply.instruction is Instruction.EXIT:
            log.warning("rota says exit: an operator drains this bot or its server")
            self._leaving = True
        if shift is None:
            self._ended = None
            if reply.assignment is None:
                self._outboxes.let_go()
            if reply.instruction is Instruction.START:
                self._start(reply.assignment, lease)
            elif reply.instruction is Instruction.STOP and reply.assignment is not None:
                # Given by an answer that never came: rota waits to hear that nobody works on it.
                self._ended = Ended(profile=reply.assignment.profile, epoch=reply.assignment.epoch)
                self._news = True
            return
        match reply.instruction:
            case Instruction.CONTINUE:
                shift.renew(lease)
            case Instruction.RECONFIGURE:
                shift.renew(lease)
                self._reconfigure(reply.assignment, shift)
            case Instruction.STOP if shift.is_for(reply.assignment):
                shift.renew(lease)
                shift.stop("rota says so")
            case _:
                shift.revoke(f"rota says {reply.instruction} and knows nothing of it")

    def _start(self, assignment: Assignment | None, lease: Lease) -> None:
        if self._leaving or assignment is None or self._restarts.left(assignment.profile):
            return
        if self._shift is not None:
            return  # it was over only when this beat had begun, and has to be seen to first
        if now() >= lease.stop_at:
            self._news = True  # this process was held up for so long that the answer is stale: ask again
            return
        outbox = self._outboxes.open(assignment)
        desk = Desk(assignment, outbox, self._bell)
        self._shift = Shift(self._work, desk, lease, grace=self._grace, last_resort=self._last_resort)
        log.info("profile %s: start, epoch %d", assignment.profile, assignment.epoch)
        self._shift.begin()
        self._news = True

    def _reconfigure(self, assignment: Assignment | None, shift: Shift) -> None:
        if assignment is not None and assignment.config is not None and shift.is_for(assignment):
            log.info("profile %s: revision %d", assignment.profile, assignment.revision)
            shift.reconfigure(assignment)
            self._outboxes.renew(shift.leased_working)
            self._news = True

    # ---- what goes wrong

    def _auth_in(self) -> float:
        """Seconds until this bot may enter the roster again; more each time that it is evicted soon after."""
        if self._entered_at is not None:
            soon = now() - self._entered_at < 2 * self._interval
            self._evictions = self._evictions + 1 if soon else 1
            self._entered_at = None
            if self._evictions > 1:
                log.warning("rota has forgotten this bot again: killed, or another process in its slot (instance)?")
                longest = retry_cap(self._session.ttl) if self._shift_at_work() else LONGEST_RESTART
                self._auth_at = now() + min(longest, restart_delay(self._evictions - 1))
        return max(0.0, self._auth_at - now())

    def _on_failure(self, error: ProblemError) -> float:
        log.warning("rota does not answer as it should (%s): %s", error.code, error.detail)
        self._may_hurry = False
        self._failures += 1
        if isinstance(error, SupersededError) and self._shift is not None:
            self._shift.revoke("rota has ended its assignment")
        if isinstance(error, SlotContestedError):
            if self._shift is not None:
                self._shift.revoke("another process holds its slot")
            return spread(error.retry_after or 0.0) + retry_delay(self._failures, None, self._session.ttl)
        return retry_delay(self._failures, error.retry_after, self._session.ttl)

    def _on_superseded(self, outbox: Outbox) -> None:
        if self._shift is not None and self._shift.outbox is outbox:
            self._shift.revoke("rota has ended its assignment")

    # ---- what comes in between

    def _shift_at_work(self) -> Shift | None:
        return None if self._shift is None or self._shift.over else self._shift

    def _is_done(self) -> bool:
        return self._leaving and (self._grace_over or self._shift_at_work() is None)

    def _must_speak(self) -> bool:
        if self._is_done():
            return True
        shift_over = self._shift is not None and self._shift.over
        return self._may_hurry and (self._news or shift_over or self._session.token is None)

    async def _pause(self, seconds: float) -> None:
        held_back = self._restarts.next_in() if self._may_hurry else 0.0
        await self._bell.until(self._must_speak, min(seconds, held_back or seconds))

    async def _see_to_shift(self) -> None:
        """Puts a shift that is over away, and reports it if it crashed."""
        shift = self._shift
        if shift is None or not shift.over:
            return
        self._shift = None
        self._ended = Ended(profile=shift.job.profile, epoch=shift.job.epoch)
        self._outboxes.note_end(_told(shift.error) if shift.crashed else "")
        if shift.crashed:
            await self._report_crash(shift)
        elif shift.asked:
            self._restarts.ended()
        else:
            delay = self._restarts.returned(shift.job.profile, shift.lasted)
            log.info("profile %s: the work function came back; again in %.0f s", shift.job.profile, delay)

    async def _report_crash(self, shift: Shift) -> None:
        await self._leave("crash", _told(shift.error))
        delay = self._restarts.crashed(shift.lasted)
        await self._bell.until(lambda: self._leaving, delay)

    # ---- the end

    def _leave_or_hurry(self) -> None:
        if self._leaving:
            self._let_go()
            return
        self._leaving = self._news = True
        if self._shift is not None:
            self._shift.stop("the bot leaves")
            asyncio.get_running_loop().call_later(self._grace, self._let_go)
        self._bell.ring()

    def _let_go(self) -> None:
        self._grace_over = True
        self._bell.ring()

    async def _end(self, grace: float) -> None:
        stopped = await self._end_shift(grace)
        if stopped and self._shift is not None:
            self._outboxes.note_end()
        kept = await self._outboxes.end(FLUSH_SECONDS if stopped else 0, stopped=stopped)
        if stopped:
            # Where the next process has records to send, the assignment is kept for it, until rota finds it silent.
            if not kept:
                await self._leave("shutdown")
            await self._outboxes.close()
        await self._session.close()

    async def _end_shift(self, grace: float) -> bool:
        """Ends the work; whether it has really ended."""
        shift = self._shift_at_work()
        if shift is None:
            return True
        shift.stop("the bot leaves")
        await self._bell.until(lambda: shift.finished, grace)
        shift.cancel("the bot leaves")
        if await self._bell.until(lambda: shift.finished, CANCEL_SECONDS):
            return True
        reason = f"profile {shift.job.profile}: the work goes on although the bot leaves"
        if self._last_resort:
            end_process(shift.lease, reason)
        log.critical("%s, and the process may not be ended", reason)
        return False

    async def _leave(self, reason: Literal["shutdown", "crash"], detail: str = "") -> None:
        """Says that this bot has stopped and goes; not for long, because its silence will say so, too."""
        token, tries = self._session.token, 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                while self._session.token is not None:
                    try:
                        await self._session.leave(LeaveRequest(reason=reason, detail=detail))
                        self._outboxes.let_go()
                    except (UnknownBotError, InvalidRequestError):
                        break
                    except ProblemError as error:
                        tries += 1
                        await asyncio.sleep(retry_delay(tries, error.retry_after, self._session.ttl))
        self._session.forget(token)
        self._entered_at = None


def _told(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"
