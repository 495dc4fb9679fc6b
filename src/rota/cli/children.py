"""Child processes of a command: started, listened to, ended in order, and never outliving the command.

The kernel sends them SIGTERM when this process is gone, however it went (PR_SET_PDEATHSIG, Linux). Each has a
session of its own, so that Ctrl-C in the terminal reaches the command alone, which then ends them in its own
order.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

PR_SET_PDEATHSIG = 1
KEPT_LINES = 20
"""How many of a log's last lines are shown when a child has failed."""


class Child:
    """One child process, whose standard error goes to a log file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        """Made by `start`."""
        self.name = name
        self.log = log
        self._process = process
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        name: str,
        *command: str,
        log: Path,
        heard: Callable[[str], None] = lambda _line: None,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Starts `command`; `heard` gets every line that it prints."""
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
            )
        child = cls(name, process, log)
        child._listening = asyncio.create_task(child._listen(heard))
        return child

    @property
    def code(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.returncode

    async def ended(self) -> int:
        """Waits for its end."""
        return await self._process.wait()

    async def end(self, within: float) -> None:
        """Asks it to end, and sees to it that it has after `within` seconds."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), within)
            except TimeoutError:
                self.kill()
                await self._process.wait()
        if self._listening:
            await self._listening

    def kill(self) -> None:
        """Ends it, and whatever shares its session, at once."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def last_words(self) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-KEPT_LINES:])
        return ""

    async def _listen(self, heard: Callable[[str], None]) -> None:
        if self._process.stdout is None:
            return
        async for line in self._process.stdout:
            heard(line.decode("utf-8", "replace").rstrip())


def _die_with(parent: int) -> Callable[[], None] | None:
    """What the child does between fork and exec. The C library is looked up before: no lock is safe there."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl

    def die_with_parent() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return die_with_parent
