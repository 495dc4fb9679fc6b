"""One run of the work function under one assignment: begun, stopped, cancelled, its last records sent on.

`duty` makes one for every `start`. A shift keeps the lease rule by a watchdog of its own, and must never say
that the work has ended before it has.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

from rota.protocol import Assignment, LeasedWorking, Working
from rota.sdk.job import Desk, Job
from rota.sdk.lease import Lease, Watchdog, end_process, now
from rota.sdk.push import Outbox

log = logging.getLogger("rota.bot")

Work = Callable[[Job], Any]
"""A work function: async, or plain and then called in a thread of its own."""
FLUSH_SECONDS = 10.0
"""How long the last records may delay that rota is told of the end."""


class Shift:
    """A work function at work, from `begin` until it is `over`."""

    def __init__(self, work: Work, desk: Desk, lease: Lease, *, grace: float, last_resort: bool) -> None:
        self._watchdog = Watchdog(
            lease,
            stop=self._lease_ends_soon,
            cancel=self._lease_ends_now,
            over=self._lease_is_over,
            lethal=last_resort,
        )
        self.job = Job(desk, self._watchdog)
        self.finished = False
        """The work function has come back."""
        self.over = False
        """It has, and its last records are with rota, or will not be waited for any longer."""
        self.asked = False
        """It was told to stop; where not, it came back by itself."""
        self.error: BaseException | None = None
        """What it raised."""
        self.lasted = 0.0
        """Seconds it took."""
        self._work = work
        self._desk = desk
        self._grace = grace
        self._last_resort = last_resort
        self._cancel_sent = False
        self._revoked = False
        self._began = now()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Calls the work function."""
        self._watchdog.start()
        name = f"rota work {self.job.profile}"
        self._running: asyncio.Future[BaseException | None] = (
            asyncio.create_task(self._in_task(), name=name) if is_async(self._work) else self._in_thread(name)
        )
        self._end = asyncio.create_task(self._see_to_the_end(), name=f"{name}: end")

    @property
    def working(self) -> Working:
        """What a heartbeat reports."""
        return Working(profile=self.job.profile, epoch=self.job.epoch, revision=self.job.revision)

    @property
    def leased_working(self) -> LeasedWorking:
        """What an auth reports."""
        return LeasedWorking(**self.working.model_dump(), lease=self._desk.assignment.lease)

    @property
    def outbox(self) -> Outbox:
        """Where its records wait."""
        return self._desk.outbox

    @property
    def lease(self) -> Lease:
        """The lease that it works under."""
        return self._watchdog.lease

    @property
    def status(self) -> str:
        """The text for people."""
        return self._desk.status

    @property
    def crashed(self) -> bool:
        """Whether the work function raised something although nobody had told it to stop."""
        return self.error is not None and not self.asked

    def is_for(self, assignment: Assignment | None) -> bool:
        """Whether this is the work that rota means."""
        return assignment is not None and (assignment.profile, assignment.epoch) == (
            self.job.profile,
            self.job.epoch,
        )

    def renew(self, lease: Lease) -> None:
        """Gives the work more time, unless it was cancelled: what ignores that must not go on for ever."""
        if not self._desk.cancelled:
            self._watchdog.renew(lease)

    def check_lease(self) -> None:
        """Heeds the lease in this moment, in the caller's thread."""
        self._watchdog.check()

    def keep_lease(self, assignment: Assignment) -> None:
        """Takes the newest proof of the assignment over, if it comes with it."""
        if assignment.lease:
            self._desk.assignment = self._desk.assignment.model_copy(update={"lease": assignment.lease})

    def reconfigure(self, assignment: Assignment) -> None:
        """Hands the job its new configuration."""
        lease = assignment.lease or self._desk.assignment.lease
        self._desk.assignment = assignment.model_copy(update={"lease": lease})
        self.job.reconfigured.set()

    def stop(self, reason: str) -> None:
        """Asks the work to come to its end, and cancels it after the grace."""
        if self.finished or self._timer is not None:
            return
        log.info("profile %s: stopping, because %s", self.job.profile, reason)
        self.asked = True
        self.job.stopping.set()
        self._timer = asyncio.get_running_loop().call_later(self._grace, self.cancel, "its grace is over")

    def cancel(self, reason: str) -> None:
        """Ends async work by a cancellation, and plain work by the next thing that it asks of its job."""
        self.stop(reason)
        if self.finished or self._cancel_sent:
            return
        log.warning("profile %s: cancelled, because %s", self.job.profile, reason)
        self._cancel_sent = self._desk.cancelled = True
        self._desk.bell.ring()
        if isinstance(self._running, asyncio.Task):
            self._running.cancel()

    def revoke(self, reason: str) -> None:
        """Ends the work at once: rota has taken the profile away, and may have given it to another bot."""
        self._revoked = True
        self.cancel(reason)
        self._watchdog.renew(self._watchdog.lease.cut())

    async def _see_to_the_end(self) -> None:
        await asyncio.wait([self._running])
        self._watchdog.release()
        if self._timer is not None:
            self._timer.cancel()
        self.lasted = now() - self._began
        self.error = None if self._running.cancelled() else self._running.result()
        self.finished = True
        if self.error is not None and not (self.asked and isinstance(self.error, asyncio.CancelledError)):
            log.error("profile %s: the work function failed", self.job.profile, exc_info=self.error)
        # While rota believes that this bot still works, nobody else's data can come before its last records.
        outbox, mark = self._desk.outbox, self._desk.outbox.mark()
        await self._desk.bell.until(lambda: self._revoked or outbox.settled(mark), FLUSH_SECONDS)
        self.over = True
        self._desk.bell.ring()

    async def _in_task(self) -> BaseException | None:
        try:
            await self._work(self.job)
        except (Exception, asyncio.CancelledError, SystemExit) as error:  # noqa: BLE001 - told, too
            return error
        finally:
            self._watchdog.release()
        return None

    def _in_thread(self, name: str) -> asyncio.Future[BaseException | None]:
        # Not a pool's thread: Python waits for those when it ends, and a stuck one would keep it alive.
        returned: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        context = contextvars.copy_context()

        def run() -> None:
            error: BaseException | None = None
            try:
                if inspect.isawaitable(context.run(self._work, self.job)):
                    error = TypeError("a work function that gives an awaitable has to be an `async def`")
            except BaseException as raised:  # noqa: BLE001 - it is logged, and told to rota
                error = raised
            self._watchdog.release()
            self._desk.bell.call(lambda: returned.set_result(error))

        threading.Thread(target=run, name=name, daemon=True).start()
        return returned

    # The next three are called in the watchdog's thread, or in one that asked for something; what a plain function
    # looks at is set there, because the loop may be what is stuck.

    def _lease_ends_soon(self) -> None:
        self.asked = True
        self.job.stopping.set()
        self._desk.bell.call(lambda: self.stop("its lease ends soon and rota cannot be reached"))

    def _lease_ends_now(self) -> None:
        self._desk.cancelled = True
        self._desk.bell.ring()
        self._desk.bell.call(lambda: self.cancel("its lease ends"))

    def _lease_is_over(self) -> None:
        reason = f"profile {self.job.profile}: the work goes on although its lease is over"
        if self._last_resort:
            end_process(self._watchdog.lease, reason)
        log.critical("%s, and the process may not be ended: two bots may work for it now", reason)


def is_async(work: Work) -> bool:
    """Whether calling it gives a coroutine: an `async def`, a partial of one, or an async `__call__`."""
    return inspect.iscoroutinefunction(work) or inspect.iscoroutinefunction(type(work).__call__)
