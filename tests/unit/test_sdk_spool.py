"""The spool's file, one thing at a time: what it keeps, who may have it, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rota.errors import SpoolError
from rota.protocol import Assignment, PushRequest
from rota.sdk import aside
from rota.sdk.claim import Claim, first_claim
from rota.sdk.spool import Spool, SpoolHeldError
from tests.unit.sdk_peer import PROFILE

MOST_ASIDE = 2**30


class KilledError(BaseException):
    """The process ends here."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "below" / "farm~1.spool"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    opened = Spool(path, most_aside=MOST_ASIDE)
    yield opened
    opened.close()


def put(spool: Spool, *data: str) -> None:
    first = spool.next_seq()
    spool.put(PROFILE, 7, [(first + at, json.dumps({"data": text}).encode()) for at, text in enumerate(data)])


def claim(**more: Any) -> Claim:
    assignment = Assignment(profile=PROFILE, epoch=7, revision=1, lease="lease-7")
    return first_claim(assignment).model_copy(update=more)


def test_a_batch_is_the_same_in_the_next_process_whatever_was_put_in_meanwhile(path: Path, spool: Spool) -> None:
    put(spool, "a", "b")
    batch = spool.batch(PROFILE, 7)
    put(spool, "c")
    spool.close()
    following = Spool(path, most_aside=MOST_ASIDE)
    assert following.batch(PROFILE, 7) == batch
    assert following.settle(PROFILE, 7, 0) > 0
    assert following.settle(PROFILE, 7, 0) == 0
    rest = following.batch(PROFILE, 7)
    assert rest is not None
    assert (rest.number, rest.count) == (1, 1)
    following.close()


def test_only_one_process_has_a_spool(path: Path, spool: Spool) -> None:
    with pytest.raises(SpoolHeldError, match="in use"):
        Spool(path, most_aside=MOST_ASIDE)
    script = (
        "import sys\nfrom pathlib import Path\nfrom rota.sdk.spool import Spool\nSpool(Path(sys.argv[1]), most_aside=1)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    other = subprocess.run(
        [sys.executable, "-c", script, path], env=environment, capture_output=True, text=True, check=False
    )
    assert "SpoolHeldError" in other.stderr


def test_a_killed_process_lets_the_spool_go_and_leaves_all_that_it_had_committed(path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom rota.sdk.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), most_aside=1)\n"
        "for n in range(1, 10**9):\n"
        f"    spool.put({PROFILE!r}, 7, [(n, b'%d' % n)])\n"
        "    print(n, flush=True)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", script, path], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) >= 200:
                break
        process.send_signal(signal.SIGKILL)
        told = [int(line), *map(int, process.stdout.read().split())][-1]
    spool = Spool(path, most_aside=MOST_ASIDE)
    (box,) = spool.boxes()
    assert told <= box.count <= told + 1
    spool.close()


def test_a_full_disk_says_so_and_loses_nothing(spool: Spool) -> None:
    put(spool, "a")
    (pages,) = spool._db.execute("PRAGMA page_count").fetchone()
    spool._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SpoolError, match="the disk is full: make room"):
        put(spool, "x" * 100_000)
    spool._db.execute("PRAGMA max_page_count = 1000000")
    put(spool, "b")
    batch = spool.batch(PROFILE, 7)
    assert batch is not None
    assert [record.data for record in PushRequest.model_validate_json(batch.body).records] == ["a", "b"]


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_broken_file_says_what_to_do_and_stays_as_it_is(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(SpoolError, match="move it"):
        Spool(path, most_aside=MOST_ASIDE)
    assert path.read_bytes() == content


def test_a_file_of_something_else_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(SpoolError, match="not a spool"):
        Spool(path, most_aside=MOST_ASIDE)


def test_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="folder"):
        Spool(tmp_path / "file" / "x.spool", most_aside=MOST_ASIDE)


def test_what_rota_refuses_is_set_aside_as_it_was_pushed(path: Path, spool: Spool) -> None:
    put(spool, "a", "b", "c")
    spool.batch(PROFILE, 7)
    gone, _ = spool.refuse(PROFILE, 7, {1}, "records.1.data: no")
    assert gone.count == 1
    assert gone.path is not None
    assert gone.path.parent == path.parent
    assert json.loads(gone.path.read_text()) == {
        "profile": PROFILE,
        "epoch": 7,
        "batch": 0,
        "reason": "records.1.data: no",
        "records": [{"data": "b"}],
    }
    left = spool.batch(PROFILE, 7)
    assert left is not None
    assert (left.number, left.count) == (0, 2)


def test_a_process_that_dies_while_it_sets_aside_leaves_it_to_the_next_one(
    path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(spool, "a", "b")

    def die(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", die)
        with pytest.raises(KilledError):
            spool.supersede(PROFILE, 7)
    spool.close()
    following = Spool(path, most_aside=MOST_ASIDE)
    (box,) = following.boxes()
    assert (box.count, box.superseded) == (2, 1)
    gone, _ = following.supersede(PROFILE, 7)
    assert gone.count == 2
    assert [file.name for file in path.parent.iterdir() if "~1~" in file.name] == [f"farm~1~{PROFILE}~7~1.ndjson"]
    following.close()


def test_what_was_about_to_be_refused_when_its_process_died_is_not_set_aside_twice(
    path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(spool, "a", "b")
    spool.batch(PROFILE, 7)

    def die(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(Spool, "_remove_unfinished", die)
        with pytest.raises(KilledError):
            spool.refuse(PROFILE, 7, {1}, "no")
    spool.close()
    following = Spool(path, most_aside=MOST_ASIDE)
    following.supersede(PROFILE, 7)
    following.close()
    (file,) = path.parent.glob("*.ndjson")
    assert json.loads(file.read_text())["records"] == [{"data": "a"}, {"data": "b"}]


def test_no_number_of_a_record_comes_twice_and_so_no_file_is_written_over(path: Path, spool: Spool) -> None:
    put(spool, "a")
    first, _ = spool.supersede(PROFILE, 7)
    spool.close()
    following = Spool(path, most_aside=MOST_ASIDE)
    put(following, "b")
    second, _ = following.supersede(PROFILE, 7)
    following.close()
    assert None not in {first.path, second.path}
    assert first.path != second.path


def test_what_is_set_aside_does_not_fill_the_disk(path: Path) -> None:
    spool = Spool(path, most_aside=10)
    put(spool, "a")
    first, _ = spool.supersede(PROFILE, 7)
    put(spool, "b")
    second, _ = spool.supersede(PROFILE, 7)
    assert first.path is not None
    assert (second.count, second.path) == (1, None)
    spool.close()


def test_a_claim_and_the_next_number_of_its_batches_outlive_the_process(path: Path, spool: Spool) -> None:
    spool.hold(claim(began=None))
    put(spool, "a")
    spool.batch(PROFILE, 7)
    spool.settle(PROFILE, 7, 0)
    spool.close()
    following = Spool(path, most_aside=MOST_ASIDE)
    assert following.claim() == claim(began=None)
    put(following, "b")
    batch = following.batch(PROFILE, 7)
    assert batch is not None
    assert batch.number == 1
    following.close()


def test_deaths_in_the_middle_of_the_work_are_counted_from_process_to_process(path: Path) -> None:
    def die(held: Claim) -> Claim:
        spool = Spool(path, most_aside=MOST_ASIDE)
        spool.hold(held)
        spool.close()
        following = Spool(path, most_aside=MOST_ASIDE)
        found = following.claim()
        following.close()
        assert found is not None
        return found

    again = Assignment(profile=PROFILE, epoch=8, revision=1, lease="lease-8")
    first = die(claim())
    assert (first.deaths, first.crash, first.began) == (1, "", None)
    second = die(first.begun(again))
    assert second.deaths == 2
    assert "2 processes in a row" in second.crash
    assert die(first.begun(again).ended()).crash == "", "the work had come back"
    late = first.begun(again)
    assert die(late.model_copy(update={"began": (late.began or 0) - 61})).deaths == 0, "it had lasted"
    other = Assignment(profile="prf_other", epoch=9, revision=1, lease="lease-9")
    assert die(first.begun(other)).deaths == 1, "each profile has its own count"


def test_the_name_of_a_file_set_aside_tells_whose_it_is() -> None:
    spool = Path("/spools/bot-farm-1~3.spool")
    note = aside.Note(PROFILE, 7, None, "superseded")
    assert aside.path_beside(spool, note, 12) == Path(f"/spools/bot-farm-1~3~{PROFILE}~7~12.ndjson")
