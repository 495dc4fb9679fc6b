"""What every rota process does about its own end: signals, and a parent that is gone."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Final

PARENT_PIPE: Final = "ROTA_PARENT_PIPE"
"""Environment variable: file descriptor whose end of file means that the parent process is gone."""


def stop_event() -> asyncio.Event:
    """An event that SIGTERM, SIGINT or the parent's end sets; call it inside the running loop."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watch_parent(stop)
    return stop


def watch_parent(stop: asyncio.Event) -> None:
    """Sets `stop` when the parent that passed a pipe ends, also by kill -9; does nothing where none was passed."""
    descriptor = os.environ.get(PARENT_PIPE)
    if descriptor is None:
        return
    loop, pipe = asyncio.get_running_loop(), int(descriptor)

    def ended() -> None:
        loop.remove_reader(pipe)
        stop.set()

    loop.add_reader(pipe, ended)
