"""A timer of the kernel that kills this process at a given moment, whatever the process does or cannot do by then.

The watchdog of `lease` is a thread: it does not run while the process is stopped (SIGSTOP, a frozen container), while
the machine sleeps, or while somebody holds the interpreter's lock. When such a process goes on, the work's thread may
be the first to run. The kernel is nobody's thread: it ends a stopped process while it is stopped.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

log = logging.getLogger("rota.bot")

_NANO = 1_000_000_000
_SIGEV_SIGNAL = 0
_TIMER_ABSTIME = 1


class _SigEvent(ctypes.Structure):
    """`struct sigevent` of Linux: 64 bytes, of which these three fields count."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("padding", ctypes.c_char * (56 - ctypes.sizeof(ctypes.c_void_p))),
    )


class _TimerSpec(ctypes.Structure):
    """`struct itimerspec`: interval and first moment, each in seconds and nanoseconds."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns"))


class Fuse:
    """Kills this process (SIGKILL) at the moment that was set last, unless it is put out before."""

    def __init__(self, clock: int) -> None:
        """`clock` is the number of the clock by which moments are told (`time.CLOCK_BOOTTIME`).

        Raises:
            OSError: there is no such timer here.
        """
        self._timer = ctypes.c_void_p()
        event = _SigEvent(None, signal.SIGKILL, _SIGEV_SIGNAL)
        _succeed(_function("timer_create")(clock, ctypes.byref(event), ctypes.byref(self._timer)))

    def set(self, at: float) -> None:
        """Moves the end to this moment; one that has passed is at once.

        Raises:
            OSError: the kernel does not do it.
        """
        seconds, nanoseconds = divmod(max(1, round(at * _NANO)), _NANO)
        spec = _TimerSpec(0, 0, seconds, nanoseconds)
        _succeed(_function("timer_settime")(self._timer, _TIMER_ABSTIME, ctypes.byref(spec), None))

    def put_out(self) -> None:
        """The process may go on."""
        _function("timer_delete")(self._timer)


def fuse(clock: int | None) -> Fuse | None:
    """A fuse, or None where this system has none: then the watchdog alone has to do."""
    if sys.platform != "linux" or clock is None:
        return None
    try:
        return Fuse(clock)
    except OSError as error:
        log.warning("the kernel gives no timer (%s): the lease rule is kept by a thread alone", error)
        return None


@cache
def _function(name: str) -> Callable[..., int]:
    # In glibc before 2.34 they are in a library of their own.
    for library in (None, "librt.so.1"):
        try:
            found: Any = getattr(ctypes.CDLL(library, use_errno=True), name)
        except (OSError, AttributeError):
            continue
        return found  # type: ignore[no-any-return]
    raise OSError(f"no {name} in the C library")


def _succeed(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
