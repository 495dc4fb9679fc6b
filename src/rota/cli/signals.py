"""Ctrl-C and SIGTERM for commands that run for long: the first ends them in order, the next at once."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

INTERRUPTED = 130
"""Exit code of a command that was ended at once: 128 + SIGINT, as shells have it."""


@contextlib.contextmanager
def ending_in_order(first: Callable[[], None], second: Callable[[], None]) -> Iterator[None]:
    """Within the block, the first signal calls `first` and every later one `second`."""
    loop = asyncio.get_running_loop()
    seen = 0

    def told() -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            first()
        else:
            second()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
