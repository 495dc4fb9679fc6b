"""What is measured: web workers, each a process of its own on a free port, and the CPU time that a process has used."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

READY_WITHIN = 30.0
ENDS_WITHIN = 20.0


@contextmanager
def worker(*module: str, ready: str, environment: dict[str, str] | None = None) -> Iterator[tuple[int, int]]:
    """Runs `python -m module… FD` and gives its port and process id; `ready` is a path that it answers."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    port = int(listener.getsockname()[1])
    command = [sys.executable, "-m", *module, str(listener.fileno())]
    with (
        listener,
        subprocess.Popen(
            command,
            pass_fds=[listener.fileno()],
            env={**os.environ, "ROTA_LOG_LEVEL": "error", **(environment or {})},
        ) as process,
    ):
        try:
            _wait(port, ready)
            yield port, process.pid
        finally:
            process.terminate()
            try:
                process.wait(ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                # Or leaving the block would wait for it without end.
                process.kill()


def cpu_seconds(pid: int) -> float:
    """User and system time that the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wait(port: int, path: str) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
