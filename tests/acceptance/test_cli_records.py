"""`rota records` as a subprocess: lists, counts, files that are whole, and a tail that outlives web workers."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as pq
import pytest

from tests.acceptance.conftest import RotaServer, temporary_data_dir
from tests.acceptance.test_serve import RawBot, working_bot

WITHIN = 60.0


@dataclass
class Records:
    """A rota with a profile that a bot pushes for."""

    server: RotaServer
    bot: RawBot

    @property
    def profile(self) -> str:
        assert self.bot.work
        return str(self.bot.work["profile"])

    def push(self, batch: int, *numbers: int) -> None:
        """One batch, sent until it is taken."""
        body = {
            "batch": batch,
            "records": [{"kind": f"k{n % 2}", "data": {"n": n, "text": 'a\nb, "c"'}} for n in numbers],
        }
        for _ in range(100):
            try:
                answer = self.bot.call("push_data", body)
            except httpx2.TransportError:
                continue
            if answer.status_code != 503:
                answer.raise_for_status()
                return
        raise AssertionError("not taken")

    def run(self, *words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """`rota records …`."""
        done = subprocess.run(
            [sys.executable, "-m", "rota", "records", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=self.environment | environment,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "ROTA_DATA_DIR": str(self.server.data_dir), "NO_COLOR": "1"}

    @contextmanager
    def tail(self, *words: str) -> Iterator[queue.Queue[str]]:
        """Its lines as they come; ended by Ctrl-C."""
        command = [sys.executable, "-m", "rota", "records", "tail", self.profile, *words]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=self.environment
        )
        lines: queue.Queue[str] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield lines
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            reader.join(20)
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture(scope="module")
def records() -> Iterator[Records]:
    with temporary_data_dir() as folder:
        server = RotaServer(folder)
        try:
            server.start()
            made = Records(server, working_bot(server))
            made.push(1, *range(6))
            yield made
        finally:
            if server.process is not None and server.process.poll() is None:
                server.stop()


def numbers(lines: Any) -> list[int]:
    return [json.loads(line)["data"]["n"] for line in lines]


def test_records_are_listed_counted_and_their_rate_told(records: Records) -> None:
    found = json.loads(records.run("list", "acme", "--newest", "--limit", "3", "--json").stdout)
    assert [item["data"]["n"] for item in found["items"]] == [5, 4, 3]
    rest = json.loads(records.run("list", "acme", "--newest", "--after", found["next"], "--json").stdout)
    assert [item["data"]["n"] for item in rest["items"]] == [2, 1, 0]
    assert "k1" in records.run("list", "acme", "--kind", "k1").stdout
    found = json.loads(records.run("list", "acme", "--where", "$.n > 3", "--from", "2026-01-01", "--json").stdout)
    assert [item["data"]["n"] for item in found["items"]] == [4, 5]
    assert records.run("count", "acme", "--kind", "k0").stdout == "3\n"
    assert json.loads(records.run("count", "--account", "operator", "--json").stdout) == {"count": 6}
    assert json.loads(records.run("rate", "acme", "--minutes", "1440", "--json").stdout)["count"] == 6
    assert "character 6" in records.run("list", "acme", "--where", "$.n >> 3", code=2).stderr
    assert "give a profile, or --account" in records.run("count", code=2).stderr


def test_an_export_is_a_whole_file_in_each_format(records: Records, tmp_path: Path) -> None:
    for name in ("a.ndjson", "a.csv", "a.parquet"):
        records.run("export", "acme", "-o", str(tmp_path / name))
    assert numbers((tmp_path / "a.ndjson").read_text().splitlines()) == list(range(6))
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [json.loads(row["data"])["n"] for row in csv.DictReader(file)] == list(range(6))
    table = pq.read_table(tmp_path / "a.parquet")
    assert [json.loads(text)["n"] for text in table["data"].to_pylist()] == list(range(6))
    assert "--force" in records.run("export", "acme", "-o", str(tmp_path / "a.csv"), code=2).stderr
    done = records.run("export", "acme", "--kind", "k0", "-o", str(tmp_path / "a.csv"), "--force", "--json")
    assert json.loads(done.stdout) == {
        "file": str(tmp_path / "a.csv"),
        "format": "csv",
        "records": 3,
        "bytes": (tmp_path / "a.csv").stat().st_size,
    }
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 4
    assert numbers(records.run("export", "--account", "operator").stdout.splitlines()) == list(range(6))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.ndjson", "a.parquet"]


def test_an_export_that_is_refused_leaves_no_file(records: Records, tmp_path: Path) -> None:
    assert "JSONPath" in records.run("export", "acme", "--where", "(", "-o", str(tmp_path / "a.csv"), code=2).stderr
    assert "cannot write" in records.run("export", "acme", "-o", str(tmp_path / "no" / "a.csv"), code=2).stderr
    assert list(tmp_path.iterdir()) == []


def test_two_exports_never_write_one_file_at_once(records: Records, tmp_path: Path) -> None:
    output, part = tmp_path / "a.ndjson", tmp_path / "a.ndjson.part"
    with part.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("half of another's")
        other.flush()
        refused = records.run("export", "acme", "-o", str(output), code=2).stderr
        assert (
            refused == f"rota: cannot write {output}: another export writes it; wait for it, or choose another file\n"
        )
        assert part.read_text() == "half of another's"
    records.run("export", "acme", "-o", str(output))
    assert numbers(output.read_text().splitlines())[:6] == list(range(6)), "what a killed one has left is written anew"
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_a_tail_neither_skips_nor_repeats_while_web_workers_are_killed(records: Records) -> None:
    with records.tail("--from-start", "--json") as lines:
        found = numbers(lines.get(timeout=WITHIN) for _ in range(6))
        for batch in range(2, 8):
            records.push(batch, *range(batch * 10, batch * 10 + 10))
            if batch % 2:
                os.kill(web_worker(records.server), signal.SIGKILL)
        found += numbers(lines.get(timeout=WITHIN) for _ in range(60))
        records.push(8, 1000)
        found += numbers([lines.get(timeout=WITHIN)])
    assert found == [*range(6), *range(20, 80), 1000]


def test_a_tail_for_people_begins_with_the_last_ones(records: Records) -> None:
    with records.tail("--last", "1") as lines:
        assert '{"n":' in lines.get(timeout=WITHIN)


def test_a_tail_of_what_is_not_there_is_refused(records: Records) -> None:
    assert "no profile named 'nobody'" in records.run("tail", "nobody", code=2).stderr
    assert "character" in records.run("tail", "acme", "--where", "$.n >> 3", code=2).stderr


def web_worker(server: RotaServer) -> int:
    """The process that answers."""
    assert server.process is not None
    children = subprocess.run(
        ["ps", "--ppid", str(server.process.pid), "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return next(int(line.split()[0]) for line in children if "rota.web" in line)
