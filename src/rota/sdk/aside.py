"""Records that rota will not take: NDJSON files beside the spool, for people to look at and to take away.

Each line is one piece: profile, epoch, batch, reason, and the records as they were pushed. `batch` is the number
under which they were on their way, so that rota may have them after all, and null where they never were.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

_SUFFIX = ".ndjson"


@dataclass(frozen=True, slots=True)
class Note:
    """Whose the records of a line are, and why they are here."""

    profile: str
    epoch: int
    batch: int | None
    reason: str


def path_beside(spool: Path, note: Note, first: int) -> Path:
    """The file for records of this assignment of which `first` is the number of the first one."""
    return spool.with_name(f"{spool.stem}~{note.profile}~{note.epoch}~{first}{_SUFFIX}")


def firsts_beside(spool: Path, note: Note) -> dict[int, Path]:
    """All such files of this assignment, by the numbers of their first records."""
    found = spool.parent.glob(f"{spool.stem}~{note.profile}~{note.epoch}~*{_SUFFIX}")
    return {int(path.stem.rpartition("~")[2]): path for path in found}


def size_beside(spool: Path) -> int:
    """The bytes of all such files beside a spool."""
    return sum(path.stat().st_size for path in spool.parent.glob(f"{spool.stem}~*{_SUFFIX}"))


def write(path: Path, pieces: Iterable[tuple[Note, list[bytes]]]) -> Path:
    """Writes the whole file in one step, over an earlier try; it has reached the disk when this returns."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        for note, records in pieces:
            head = json.dumps(asdict(note))[:-1].encode()
            file.write(head + b', "records": [' + b",".join(records) + b"]}\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return path
