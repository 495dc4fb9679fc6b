"""A bot as its author writes it with the SDK, that notes every stroke of its work.

`python -m rota.chaos.worker NOTES HOSTNAME async|plain`; where rota is and which slot it has stands in the SDK's own
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

from rota.sdk import Bot, Job

PAUSE = 0.02
"""Seconds between two strokes."""
PUSH_EVERY = 0.5
KIND = "sdk"
"""The label that these bots bear, and that the profiles for them require."""
GRACE = 0.5
_PR_SET_PDEATHSIG = 1


class Notes:
    """A file of lines `what profile epoch moment number`, each written at once; the moment is the monotonic clock's."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, job: Job, number: int = 0) -> None:
        """Notes what is done for a job at this moment."""
        os.write(self._file, f"{what} {job.profile} {job.epoch} {time.monotonic():.6f} {number}\n".encode())


class Labour:
    """The made-up work: many small strokes, and a record now and then."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    async def in_task(self, job: Job) -> None:
        """On the bot's loop."""
        number, due = 0, time.monotonic()
        while not job.stopping:
            self._notes.write("stroke", job)
            if time.monotonic() >= due:
                if number and await job.flush(PAUSE):
                    self._notes.write("stored", job, number)
                number, due = number + 1, due + PUSH_EVERY
                await job.push({"number": number})
            await job.sleep(PAUSE)

    def in_thread(self, job: Job) -> None:
        """In a thread of its own, which knows nothing of loops."""
        number, due = 0, time.monotonic()
        while not job.stopping:
            self._notes.write("stroke", job)
            if time.monotonic() >= due:
                if number and job.flush(PAUSE):
                    self._notes.write("stored", job, number)
                number, due = number + 1, due + PUSH_EVERY
                job.push({"number": number})
            time.sleep(PAUSE)


def main(notes: str, hostname: str, kind: str) -> None:
    """Works until it is told to end."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    # Even while it is stopped it must not outlive whoever started it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    labour = Labour(Notes(Path(notes)))
    bot = Bot(hostname=hostname, labels={"kind": KIND}, version="chaos", grace=GRACE)
    bot.work(labour.in_task if kind == "async" else labour.in_thread)
    bot.run()


if __name__ == "__main__":
    main(*sys.argv[1:4])
