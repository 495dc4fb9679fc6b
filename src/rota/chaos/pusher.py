"""A process of simulated bots that push as fast as they are answered, and note every batch that was acknowledged.

`python -m rota.chaos.pusher NOTES HOSTNAME`, everything else in the environment. `pushers` starts it, kills it, and
compares its notes with the ledger.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from pathlib import Path
from random import Random

from rota.simulator.crowd import Crowd, Plan
from rota.simulator.judge import Judge
from rota.simulator.surroundings import Surroundings, Tally
from rota.simulator.wire import Wire

KIND = "pusher"
"""The label that these bots bear, and that the profiles for them require."""
RECORDS = 10
"""Records in a batch."""
PUSH_EVERY = 0.02
"""Seconds from the answer to one push to the next one."""
URL, KEY, BOTS, INTERVAL, TTL = (f"PUSHER_{name}" for name in ("URL", "KEY", "BOTS", "INTERVAL", "TTL"))
"""Environment variables: where rota is, the enrolment key, how many bots, and the fleet's policy in seconds."""
_PR_SET_PDEATHSIG = 1


class Notes(Judge):
    """A judge whose file has a line `profile epoch batch` for each batch that was answered 200.

    Each is written at once, so that it outlives the process: what is noted was acknowledged.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def acknowledged(self, profile: str, epoch: int, batch: int) -> None:
        """Notes it."""
        os.write(self._file, f"{profile} {epoch} {batch}\n".encode())


async def main(notes: str, hostname: str) -> None:
    """Works until it is killed."""
    # It must not outlive whoever started it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    bots, interval, ttl = int(os.environ[BOTS]), float(os.environ[INTERVAL]), float(os.environ[TTL])
    around = Surroundings(
        judge=Notes(Path(notes)),
        tally=Tally(),
        rng=Random(),  # noqa: S311 - chance, not secrets
        labels={"kind": KIND},
        push_every=PUSH_EVERY,
        push_records=RECORDS,
    )
    wires = [Wire(os.environ[URL], connections=bots, timeout=ttl / 4) for _ in range(2)]
    await Crowd(Plan({hostname: bots}, bots, os.environ[KEY], interval, ttl), around, *wires).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
