"""One store as a child process: started with a log file, ended in order, and never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rota.embedded.place import Place
from rota.errors import StoreError

MOST_LOG_BYTES = 10_000_000
POLL = 0.02
_PR_SET_PDEATHSIG = 1


class Child:
    """A process that is to run until `stop`; `ending` is the signal that ends it in order."""

    def __init__(self, name: str, place: Place, *, folder: Path, log: Path, ending: signal.Signals) -> None:
        self.name = name
        self._place = place
        self._folder = folder
        self._log = log
        self._ending = ending
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self, command: Sequence[str], ready: Callable[[], bool], timeout: float) -> None:
        """Starts it and waits until `ready` says so.

        Raises:
            StoreError: it ended, or is not ready in time; the log's last line is named.
        """
        if self._log.exists() and self._log.stat().st_size > MOST_LOG_BYTES:
            self._log.unlink()
        with self._log.open("ab") as output:
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
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running or time.monotonic() > deadline:
                self.stop(2)
                raise StoreError(f"{self.name} does not start: {self._last_words()} (log: {self._log})")
            time.sleep(POLL)

    def stop(self, timeout: float) -> None:
        """Ends it in order, and by force when it takes longer than `timeout` seconds."""
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
        """Why it is gone although nobody stopped it; None while it runs or was never started."""
        if self._process is None or self.running:
            return None
        return f"{self.name} ended by itself ({self._process.returncode}): {self._last_words()}"

    def kill(self) -> None:
        """Ends it at once, as a crash would; for tests of what happens then."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if lines:
                return lines[-1][:300]
        return "it said nothing"


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
