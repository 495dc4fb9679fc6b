"""`make bench` as a command: what it prints, and what becomes of the others when a part fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from bench import load, processes
from bench.__main__ import bench as measure
from bench.parts import PARTS
from bench.row import Row, at_most

DEAF = """
import http.server, signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler, bind_and_activate=False)
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.serve_forever()
"""


def sound(_: object) -> Iterable[Row]:
    yield Row("a beat", 1.5, "µs", at_most(2))


def broken(_: object) -> Iterable[Row]:
    yield Row("half of it", 7, "ms")
    raise RuntimeError("12 of 40 requests [/bot/heartbeat] were refused")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tuple(PARTS):
        monkeypatch.delitem(PARTS, name)
    monkeypatch.setitem(PARTS, "first", sound)
    monkeypatch.setitem(PARTS, "second", broken)
    monkeypatch.setitem(PARTS, "third", sound)


async def _hears_the_end(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True


def bench(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(measure)
    return CliRunner().invoke(app, arguments)


@pytest.mark.usefixtures("parts")
def test_a_part_that_fails_is_told_in_the_json_and_the_others_are_measured() -> None:
    ended = bench("--json")
    assert ended.exit_code == 1
    found = json.loads(ended.stdout)
    assert [(row["part"], row["value"]) for row in found["rows"]] == [("first", 1.5), ("second", 7), ("third", 1.5)]
    assert found["failed"] == {"second": "RuntimeError: 12 of 40 requests [/bot/heartbeat] were refused"}


@pytest.mark.usefixtures("parts")
def test_a_part_that_fails_has_its_row_in_the_table() -> None:
    ended = bench()
    assert ended.exit_code == 1
    first, half, wrong, third = ended.stdout.splitlines()[1:]
    assert "first" in first
    assert "held" in first
    assert "second" in half
    assert "12 of 40 requests [/bot/heartbeat] were refused" in wrong
    assert "failed" in wrong
    assert "third" in third
    assert "Traceback" in ended.stderr


@pytest.mark.usefixtures("parts")
def test_where_nothing_fails_the_exit_code_is_0() -> None:
    ended = bench("first", "third", "--json")
    assert (ended.exit_code, json.loads(ended.stdout)["failed"]) == (0, {})


def test_fewer_bots_than_one_call_of_each_host_needs_are_refused() -> None:
    ended = bench("heartbeats", "--bots", "1000")
    assert ended.exit_code == 2
    assert "2000 bots" in " ".join(ended.stderr.split())


async def test_a_load_of_too_few_requests_is_refused_and_one_that_breaks_off_leaves_no_connection() -> None:
    with pytest.raises(ValueError, match="2 requests"):
        await load.run(1, [b"x"] * 2, connections=4, seconds=1)
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            if await reader.readexactly(1) == b"b":
                # Which has no length, and so is no answer.
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            elif await _hears_the_end(reader):
                ended.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ValueError, match="not found"):
            await load.run(port, [b"a", b"b"], connections=2, seconds=60)
        await asyncio.wait_for(ended.wait(), 10)


def test_a_worker_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "ENDS_WITHIN", 0.2)
    (tmp_path / "deaf.py").write_text(DEAF)
    with processes.worker("deaf", ready="/", environment={"PYTHONPATH": str(tmp_path)}) as (_, pid):
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_way_to_write_a_part_is_told_where_it_is_unknown() -> None:
    assert bench("nonsense").exit_code == 2
