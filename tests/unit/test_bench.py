"""`make bench` as a command: what it prints, and what becomes of the others when a part fails."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
import typer
from typer.testing import CliRunner, Result

from bench.__main__ import bench as measure
from bench.parts import PARTS
from bench.row import Row, at_most


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


def test_the_way_to_write_a_part_is_told_where_it_is_unknown() -> None:
    assert bench("nonsense").exit_code == 2
