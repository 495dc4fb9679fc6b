"""The lease rule: all work has stopped `ttl` seconds after the last successful heartbeat was SENT.

A bot that is stopped, blocked or cut off must keep it, too, so the watchdog is a thread that needs neither
the event loop nor the network. Each running work function has its own, and beside it a `fuse` for the case that
no thread of this process runs when the lease ends.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rota.sdk.fuse import Fuse, fuse

log = logging.getLogger("rota.bot")

EXIT_LEASE_OVER = 75
"""Exit code of a process that ended itself because its work did not (EX_TEMPFAIL of sysexits.h)."""

STOP_SHARE, STOP_MAX = 0.20, 20.0
CANCEL_SHARE, CANCEL_MAX = 0.10, 10.0
EXIT_SHARE, EXIT_MAX = 0.05, 0.5
_LONGEST_NAP = 1.0


def _clock_id() -> int | None:
    # Linux's monotonic clock stands still while the machine sleeps, and rota's does not: BOOTTIME goes on.
    # macOS has no BOOTTIME; there CLOCK_MONOTONIC goes on, and time.monotonic() is a clock that does not.
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):
        if hasattr(time, name):
            return int(getattr(time, name))
    return None


_CLOCK = _clock_id()


def now() -> float:
    """Seconds by a clock that nobody sets, and that goes on while the machine or the process is suspended."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class Lease:
    """From when and for how long work is allowed; every property is a time of `now()`.

    >>> lease = Lease(sent_at=100.0, ttl=90.0)
    >>> lease.stop_at, lease.cancel_at, lease.exit_at, lease.ends_at
    (172.0, 181.0, 189.5, 190.0)
    """

    sent_at: float
    ttl: float

    @property
    def ends_at(self) -> float:
        """When all work must have stopped."""
        return self.sent_at + self.ttl

    @property
    def stop_at(self) -> float:
        """When the work is asked to stop: a fifth of the ttl before the end, 20 seconds at most."""
        return self.ends_at - min(STOP_SHARE * self.ttl, STOP_MAX)

    @property
    def cancel_at(self) -> float:
        """When work that goes on is cancelled: a tenth of the ttl before the end, 10 seconds at most."""
        return self.ends_at - min(CANCEL_SHARE * self.ttl, CANCEL_MAX)

    @property
    def exit_at(self) -> float:
        """When the process ends itself if the work still runs; its last words take the rest of the lease."""
        return self.ends_at - min(EXIT_SHARE * self.ttl, EXIT_MAX)

    def cut(self) -> Lease:
        """What is left when rota has taken the assignment away: the time of a cancelled work to end."""
        allowance = min(CANCEL_SHARE * self.ttl, CANCEL_MAX)
        return Lease(min(self.sent_at, now() + allowance - self.ttl), self.ttl)


class Watchdog:
    """Stops, then cancels, then ends what runs under a lease; a thread of its own until `release`."""

    def __init__(
        self,
        lease: Lease,
        *,
        stop: Callable[[], None],
        cancel: Callable[[], None],
        over: Callable[[], None],
        lethal: bool = False,
    ) -> None:
        """The three are called in the watchdog's thread or a caller's, each once at most, and must wait for nobody.

        `lethal`: what comes too late for all of them is ended by the kernel, and the process with it.
        """
        self._lease = lease
        self._changed = threading.Condition()
        self._released = False
        self._over = over
        self._steps = [("stop_at", stop), ("cancel_at", cancel), ("exit_at", over)]
        self._due_at = lease.stop_at
        self._lethal = lethal
        self._fuse: Fuse | None = None
        self._thread = threading.Thread(target=self._watch, name="rota lease", daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self._fuse = fuse(_CLOCK) if self._lethal else None
        if self._fuse is not None:
            self._fuse.set(self._lease.ends_at)
        self._thread.start()

    @property
    def lease(self) -> Lease:
        """The lease that counts now."""
        return self._lease

    def renew(self, lease: Lease) -> None:
        """Moves the deadlines; what was done under the old ones stays done."""
        with self._changed:
            self._lease = lease
            if self._fuse is not None:
                self._fuse.set(lease.ends_at)
            self._due_at = self._next_at()
            self._changed.notify()

    def release(self) -> None:
        """The work has stopped: nothing is left to watch."""
        with self._changed:
            self._released = True
            if self._fuse is not None:
                self._fuse.put_out()
                self._fuse = None
            self._due_at = self._next_at()
            self._changed.notify()

    def heed(self) -> None:
        """Does what is due at this moment, in the caller's thread: before the work is let go on."""
        if now() >= self._due_at:
            with self._changed:
                self._do_what_is_due()

    def check(self) -> None:
        """The same for a signal handler: it waits for no lock, and the work's thread may not go on meanwhile."""
        if not self._changed.acquire(blocking=False):
            # The watchdog is at it; a signal handler that waited could hold what the watchdog needs. Where the
            # lease is over, this thread must not go on all the same: it may be the one that works.
            if not self._released and now() >= self._lease.exit_at:
                self._over()
            return
        try:
            self._do_what_is_due()
        finally:
            self._changed.release()

    def _do_what_is_due(self) -> None:
        if now() >= self._lease.ends_at:
            # The end first: whatever writes or rings before it may let the work's thread run.
            self._steps = self._steps[-1:] + self._steps[:-1]
        while now() >= self._next_at():
            self._step()

    def _watch(self) -> None:
        with self._changed:
            while (at := self._next_at()) < math.inf:
                if (left := at - now()) > 0:
                    # Short naps: the clock behind `wait` stands still while the machine sleeps.
                    self._changed.wait(min(left, _LONGEST_NAP))
                else:
                    self._do_what_is_due()

    def _step(self) -> None:
        # Under the lock: a renewal that comes later than this moment is too late.
        steps, self._steps = self._steps[:1], self._steps[1:]
        for _, step in steps:
            step()
        # Afterwards: until it is done, whoever asks has to wait for it.
        self._due_at = self._next_at()

    def _next_at(self) -> float:
        """When the next step is due; never where none is left. A signal handler may take steps at any point of this."""
        for name, _ in self._steps[:1]:
            if not self._released:
                return float(getattr(self._lease, name))
        return math.inf


def end_process(lease: Lease, reason: str) -> None:
    """Ends this process with `EXIT_LEASE_OVER`: neither a thread nor a task that ignores it can be killed."""
    # A process that finds itself beyond its lease has no time for words: the work would go on meanwhile.
    if (left := lease.ends_at - now()) <= 0:
        os._exit(EXIT_LEASE_OVER)
    # The log may be what is stuck (a full pipe, a lock that is held for ever); then it ends untold.
    teller = threading.Thread(target=log.critical, args=("%s; this process ends now", reason), daemon=True)
    teller.start()
    teller.join(min(left, EXIT_SHARE * lease.ttl, EXIT_MAX) / 2)
    os._exit(EXIT_LEASE_OVER)
