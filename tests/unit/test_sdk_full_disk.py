"""A spool on a disk of its own that is full: what it has is delivered all the same, once and in order."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rota.errors import SpoolError
from rota.protocol import Assignment
from rota.sdk.claim import first_claim
from rota.sdk.spool import Spool
from tests.unit.sdk_peer import PROFILE

MOST_ASIDE = 2**30
DISK = 32


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 32 MB, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("only root may make a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def put_until_full(spool: Spool) -> int:
    """Puts records of all sizes in until there is no room; how many are in."""
    seq = spool.next_seq()
    for size in (200_000, 20_000, 500):
        while True:
            records = [(seq + n, json.dumps({"data": [seq + n, "x" * size]}).encode()) for n in range(4)]
            try:
                spool.put(PROFILE, 7, records)
            except SpoolError:
                break
            seq += len(records)
    return seq - 1


def fill(folder: Path) -> None:
    """Takes the rest of the disk, as a log of somebody else would."""
    with (folder / "other.log").open("ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def tried(spool: Spool, what: str, *arguments: object) -> object:
    """What a sender does: it tries again."""
    for _ in range(5):
        try:
            return getattr(spool, what)(PROFILE, 7, *arguments)
        except SpoolError:
            continue
    raise AssertionError(f"{what} never works")


def delivered(folder: Path, spool: Spool) -> list[int]:
    """The numbers of all records, as rota gets them; whatever room there is meanwhile is taken by somebody else."""
    found: list[int] = []
    while batch := tried(spool, "batch"):
        found += [record["data"][0] for record in json.loads(batch.body)["records"]]  # type: ignore[attr-defined]
        assert tried(spool, "settle", batch.number)  # type: ignore[attr-defined]
        fill(folder)
    return found


def test_a_spool_that_has_filled_its_disk_is_delivered_and_takes_more_afterwards(disk: Path) -> None:
    spool = Spool(disk / "a.spool", most_aside=MOST_ASIDE)
    last = put_until_full(spool)
    with pytest.raises(SpoolError, match="the disk is full: make room"):
        spool.put(PROFILE, 7, [(last + 1, b"x" * 200_000)])
    fill(disk)
    assert delivered(disk, spool) == list(range(1, last + 1))
    for _ in range(3):
        first, last = last + 1, put_until_full(spool)
        assert last > first, "the file has room, although the disk has none"
        assert delivered(disk, spool) == list(range(first, last + 1))
    spool.close()


def test_a_successor_of_a_killed_process_starts_on_a_full_disk(disk: Path) -> None:
    path = disk / "a.spool"
    child = os.fork()
    if child == 0:
        spool = Spool(path, most_aside=MOST_ASIDE)
        spool.hold(first_claim(Assignment(profile=PROFILE, epoch=7, revision=1, lease="x")))
        put_until_full(spool)
        os._exit(0)
    os.waitpid(child, 0)
    fill(disk)
    spool = Spool(path, most_aside=MOST_ASIDE)
    claim = spool.claim()
    assert claim is not None
    assert claim.deaths == 1, "it is noted that the process before ended in its work"
    last = spool.next_seq() - 1
    assert last > 100
    assert delivered(disk, spool) == list(range(1, last + 1))
    spool.close()


def test_room_that_is_made_is_used(disk: Path) -> None:
    spool = Spool(disk / "a.spool", most_aside=MOST_ASIDE)
    (disk / "other.log").write_bytes(bytes(12 * 2**20))
    put_until_full(spool)
    fill(disk)
    delivered(disk, spool)
    (disk / "other.log").unlink()
    put_until_full(spool)
    assert (disk / "a.spool-reserve").stat().st_blocks * 512 >= 8 * 2**20, "the reserve is there again"
    spool.close()
