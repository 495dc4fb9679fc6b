"""rota's own processes: web workers that share one listening socket, and stewards. Each is ended by its pid alone."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

ENDS_WITHIN = 10.0
KEPT_LINES = 15
"""How many of a log's last lines are shown when a process has failed."""


class Member:
    """One process of rota, which can be killed, stopped, continued and started again."""

    def __init__(
        self,
        name: str,
        command: tuple[str, ...],
        environment: Mapping[str, str],
        descriptors: tuple[int, ...],
        log: Path,
    ) -> None:
        """Nothing happens before `start`; `descriptors` are open files that the process inherits."""
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment
        self._descriptors = descriptors
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether it is there, be it stopped."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its process's; 0 before the first."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Starts it; its log begins anew."""
        with self.log.open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *self._command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=dict(self._environment),
                pass_fds=self._descriptors,
                start_new_session=True,
            )

    async def kill(self) -> None:
        """Has it die at once, even while it is stopped."""
        if self._process and self.running:
            self._process.kill()
            await self._process.wait()

    async def end(self) -> None:
        """SIGTERM, and by force what takes too long."""
        if self._process is None or not self.running:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), ENDS_WITHIN)
        except TimeoutError:
            await self.kill()

    def freeze(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def said(self) -> str:
        """Its log."""
        with contextlib.suppress(OSError):
            return self.log.read_text("utf-8", "replace")
        return ""

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.said().splitlines()[-KEPT_LINES:])

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self.running:
            self._process.send_signal(number)


def leads(steward: Member) -> bool:
    """Whether a steward says that it leads."""
    said = steward.said()
    return steward.running and said.rfind("steward leads") > said.rfind("steward stands by")


def listen() -> socket.socket:
    """The socket from which all web workers accept, on a free port of the loopback."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    listener.set_inheritable(True)
    return listener
