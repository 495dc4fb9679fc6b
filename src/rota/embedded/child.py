"""One store as a child process: started with a log file, ended in order, and never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rota.embedded.place import Place
from rota.errors import StoreError

MOST_LOG_BYTES = 10_000_000
START_WITHIN = 30.0
"""Seconds that a store may take to start where nobody says how long."""
POLL = 0.02
SLOWEST_POLL = 0.5
"""Seconds between two looks at a store that takes long: asking PostgreSQL starts a program."""
TAIL_BYTES = 65_536
FULL_BELOW = 32_000_000
"""Free bytes below which a disk is named as full: a store on it cannot write its log either."""
NO_ROOM = "No space left on device"
_PR_SET_PDEATHSIG = 1
_FULL_OR_PANIC = (re.compile(NO_ROOM), re.compile("PANIC: "))
_NO_START = (
    # What PostgreSQL says to its clients meanwhile stands there as FATAL, too.
    re.compile("FATAL: (?! the database system is | terminating | sorry)"),
    re.compile(r"\d # .*(?i:fatal|error|can't|cannot|failed|corrupt)"),
)
_TO_A_CLIENT = re.compile("(?:FATAL|ERROR|DETAIL|HINT|CONTEXT|STATEMENT): ")
"""Lines of a log that tell why a store has ended, and why it did not even start, the most telling first; and
PostgreSQL's that only tell what a client was told."""
_LAST_LINES = 100


class Child:
    """A process that is to run until `stop`; `ending` is the signal that ends it in order."""

    def __init__(self, name: str, place: Place, *, folder: Path, log: Path, ending: signal.Signals) -> None:
        self.name = name
        self._place = place
        self._folder = folder
        self._log = log
        self._ending = ending
        self._process: subprocess.Popen[bytes] | None = None
        self._said_before = 0
        self._was_ready = False
        self._failed_start: str | None = None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self, command: Sequence[str], ready: Callable[[], bool], go_on: Callable[[], bool]) -> None:
        """Starts it and waits until `ready` says so, as long as it lives and `go_on` is true.

        Raises:
            StoreError: it ended, or was ended because there was no more waiting; its own reason is named.
        """
        if self._log.exists() and self._log.stat().st_size > MOST_LOG_BYTES:
            self._log.unlink()
        with self._log.open("ab") as output:
            self._said_before = output.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C in the terminal is for the parent, which ends its children in order.
                start_new_session=True,
                preexec_fn=_die_with_parent(self._ending),  # noqa: PLW1509 - the parent has one thread here
                **{**self._place.as_user(), "cwd": self._folder},
            )
        self._was_ready = False
        pause = POLL
        while not ready():
            if not self.running or not go_on():
                self.stop(2)
                msg = f"{self.name} does not start: {self._last_words()} (log: {self._log})"
                self._failed_start = msg
                raise StoreError(msg)
            time.sleep(pause)
            pause = min(pause * 1.2, SLOWEST_POLL)
        self._was_ready = True

    def stop(self, timeout: float) -> None:
        """Ends it in order, and by force when it takes longer than `timeout` seconds."""
        self._failed_start = None
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(self._ending)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process = None

    def failed(self) -> str | None:
        """Why it is gone although nobody stopped it; None while it runs, was never started or was stopped."""
        if self._process is None:
            return self._failed_start
        if self.running:
            return None
        return f"{self.name} ended by itself ({self._process.returncode}): {self._last_words()}"

    def out_of_room(self) -> bool:
        """Whether it ended with its disk full, by its own words or by what is free there now."""
        return NO_ROOM in (self._telling_line() or "") or self._free() < FULL_BELOW

    def kill(self) -> None:
        """Ends it at once, as a crash would; for tests of what happens then."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        """Why it has ended, by its log since its start; and that its disk is full, where it is."""
        said = self._telling_line() or "it said nothing"
        if (free := self._free()) < FULL_BELOW:
            return f"{said} ({free / 1e6:.0f} MB are free on the disk of {self._folder})"
        return said

    def _free(self) -> float:
        try:
            return shutil.disk_usage(self._folder).free
        except OSError:
            return math.inf

    def _telling_line(self) -> str | None:
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(max(self._said_before, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
            for pattern in _FULL_OR_PANIC if self._was_ready else (*_FULL_OR_PANIC, *_NO_START):
                if telling := [line for line in lines[-_LAST_LINES:] if pattern.search(line)]:
                    return telling[-1][:300]
            if self._was_ready:
                lines = [line for line in lines if not _TO_A_CLIENT.search(line)]
            return lines[-1][:300] if lines else None
        return None


def within(seconds: float) -> Callable[[], bool]:
    """True for so many seconds from now."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() < until


def end_orphan(pid: int, folder: Path, ending: signal.Signals, timeout: float = 10) -> None:
    """Ends a process that an earlier parent left behind, if `pid` really is one that works in `folder`."""
    if not _works_in(pid, folder):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, ending)
        deadline = time.monotonic() + timeout
        while _works_in(pid, folder):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                deadline += timeout
            time.sleep(POLL)


def read_pid(path: Path) -> int | None:
    """The number in the first line of a pid file."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(path.read_text(encoding="utf-8").splitlines()[0])
    return None


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").resolve(strict=True) == folder.resolve()
    except OSError:
        return False


def _die_with_parent(ending: signal.Signals) -> Callable[[], None] | None:
    """What the child does before it becomes the store: it asks Linux for a signal at its parent's death."""
    if sys.platform != "linux":
        return None
    libc, parent = ctypes.CDLL(None, use_errno=True), os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(ending))
        if os.getppid() != parent:
            os._exit(1)

    return ask
