"""Every vector of tests/conformance holds here, and every row of every table of docs/protocol.md has one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from rota.embedded import EmbeddedValkey
from tests.conformance.matching import Known, MismatchError
from tests.conformance.run import Run
from tests.conformance.site import Site, speaker
from tests.conformance.vector import FOLDER, Call, Then, vectors

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
VECTORS = vectors()
FRAGILE = [name for name, vector in VECTORS.items() if "store_away" in vector.faults]

KEY_CELLS = {"recorded": 2}
"""How many cells name a row, by the head of a table's first column; 1 in all others."""
NOT_PROVEN = {"word"}
"""Tables that say nothing of a request or a reply."""


@pytest.mark.parametrize("name", [name for name in VECTORS if name not in FRAGILE])
async def test_the_vector_holds(name: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await Run(site, monkeypatch).run(VECTORS[name])


@pytest.mark.parametrize("name", [name for name in VECTORS if VECTORS[name].section == "POST /bot/heartbeat"])
async def test_the_vector_holds_for_heartbeats_that_are_not_plain(
    name: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with speaker(site.app) as through_asgi:
        monkeypatch.setattr(site, "wire", through_asgi)
        await Run(site, monkeypatch).run(VECTORS[name])


@pytest.mark.parametrize("name", FRAGILE)
async def test_the_vector_holds_when_the_store_goes_away(
    name: str, fragile: Site, own_valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Run(fragile, monkeypatch, own_valkey).run(VECTORS[name])


def test_every_row_of_every_table_has_a_vector() -> None:
    proven = {row for vector in VECTORS.values() for row in vector.rows}
    assert rows_of_the_document() <= proven, "write a vector for each of these rows"


def test_every_vector_names_rows_and_sections_that_there_are() -> None:
    named = {row for vector in VECTORS.values() for row in vector.rows}
    assert named <= rows_of_the_document(), "these rows are not in docs/protocol.md"
    sections = set(re.findall(r"^## (.+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))
    assert {vector.section for vector in VECTORS.values()} <= sections


def test_every_code_of_a_refusal_is_proven_with_its_status() -> None:
    seen = {
        (step.expect.body["code"], step.expect.status)
        for vector in VECTORS.values()
        for step in vector.steps
        if isinstance(step, Call) and step.expect.status >= 400
    }
    listed = {
        (cells[0].strip("`"), int(status))
        for _, head, cells in table_rows()
        if head == "code"
        for status in cells[1].split("/")
    }
    assert listed <= seen


def test_every_refusal_and_instruction_says_what_a_bot_does_then() -> None:
    for name, vector in VECTORS.items():
        for step in vector.steps:
            if isinstance(step, Call) and (step.expect.status >= 400 or _reports_work_or_beats(step)):
                assert step.then, f"{name}: {step.call} has no `then`"


def test_the_readme_explains_every_word_of_then() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [word for word in get_args(Then) if f"`{word}`" not in text] == []


def test_titles_are_unique() -> None:
    titles = [vector.title for vector in VECTORS.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ({"a": 1}, {}),
        ({"a": "$absent"}, {"a": None}),
        ({"a": None}, {}),
        ({"a": "$any"}, {"a": None}),
        ({"a": True}, {"a": 1}),
        ([1], [1, 2]),
        ({"a": "$epoch:1"}, {"a": None}),
        (["$epoch:1", "$epoch:1"], [1, 2]),
        (["$epoch:1", "$epoch:2"], [2, 1]),
        (["$epoch:1", "$epoch:2"], [1, 1]),
        ("$number", "1"),
    ],
)
def test_the_comparison_notices_what_is_wrong(expected: object, found: object) -> None:
    with pytest.raises(MismatchError):
        Known().match(expected, found)


def _reports_work_or_beats(step: Call) -> bool:
    return step.call == "/bot/heartbeat" or (step.call == "/bot/auth" and bool(step.body.get("working")))


def table_rows() -> Iterator[tuple[str, str, list[str]]]:
    """Every row of every table: its section, the head of the table's first column, its cells."""
    for section in re.split(r"^## ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        for table in re.findall(r"(?:^\|.*\n?)+", section, re.MULTILINE):
            head, _, *rows = ([cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines())
            yield from ((section.partition("\n")[0], head[0], cells) for cells in rows)


def rows_of_the_document() -> set[str]:
    """`Errors, code: superseded`, `POST /bot/heartbeat, recorded: unbound | any work`, and so on."""
    return {
        f"{section}, {head}: {' | '.join(cells[: KEY_CELLS.get(head, 1)])}".replace("`", "")
        for section, head, cells in table_rows()
        if head not in NOT_PROVEN
    }
