"""A bot as its author writes it with the SDK, that notes every stroke of its work.

`python -m rota.chaos.worker NOTES HOSTNAME KIND`; where rota is and which slot it has stands in the SDK's own
environment variables. `crew` starts it, and `strokes` reads its notes.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import NamedTuple

from rota.sdk import Bot, Job

PAUSE = 0.02
"""Seconds between two strokes."""
PUSH_EVERY = 0.5
KIND = "kind"
"""The label that these bots bear, and that the profiles for them require."""
KINDS = ("async", "plain", "async-lasting", "plain-lasting")
"""How the work function is written; `lasting`: its process may not be ended (`last_resort=False`)."""
LASTING = "-lasting"
GRACE = 0.5
_PR_SET_PDEATHSIG = 1


class Notes:
    """A file of lines `what profile epoch asked moment number`, each written at once, by the monotonic clock.

    `asked` is the moment before the call of the job that let the work go on up to here.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, job: Job, asked: float, number: int = 0) -> None:
        """Notes what is done for a job at this moment."""
        line = f"{what} {job.profile} {job.epoch} {asked:.6f} {time.monotonic():.6f} {number}\n"
        os.write(self._file, line.encode())


class Labour:
    """The made-up work: many small strokes, and a record now and then."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    async def in_task(self, job: Job) -> None:
        """On the bot's loop."""
        number, due = 0, time.monotonic()
        while not (asked := _asks(job)).stops:
            self._notes.write("stroke", job, asked.at)
            if time.monotonic() >= due:
                if number and await job.flush(PAUSE):
                    self._notes.write("stored", job, asked.at, number)
                number, due = number + 1, due + PUSH_EVERY
                await job.push({"number": number})
            await job.sleep(PAUSE)

    def in_thread(self, job: Job) -> None:
        """In a thread of its own, which knows nothing of loops."""
        number, due = 0, time.monotonic()
        while not (asked := _asks(job)).stops:
            self._notes.write("stroke", job, asked.at)
            if time.monotonic() >= due:
                if number and job.flush(PAUSE):
                    self._notes.write("stored", job, asked.at, number)
                number, due = number + 1, due + PUSH_EVERY
                job.push({"number": number})
            time.sleep(PAUSE)


class _Asked(NamedTuple):
    at: float
    stops: bool


def _asks(job: Job) -> _Asked:
    return _Asked(time.monotonic(), job.stopping.is_set())


def main(notes: str, hostname: str, kind: str) -> None:
    """Works until it is told to end."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    # Even while it is stopped it must not outlive whoever started it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    labour = Labour(Notes(Path(notes)))
    bot = Bot(hostname=hostname, labels={KIND: kind}, version="chaos", grace=GRACE, last_resort=LASTING not in kind)
    bot.work(labour.in_task if kind.startswith("async") else labour.in_thread)
    bot.run()


if __name__ == "__main__":
    main(*sys.argv[1:4])
