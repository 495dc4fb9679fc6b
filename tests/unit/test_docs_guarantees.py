"""`docs/guarantees.md` speaks of every promise of the protocol, and whatever it names as a proof is there."""

from __future__ import annotations

import re
from pathlib import Path

from rota.chaos.scenarios import SCENARIOS
from tests.unit.test_docs_pages import codes, page, section

ROOT = Path(__file__).parents[2]
GUARANTEES = page("guarantees.md")
PROOFS = re.findall(r"^- (tests/\S+\.py)::(\w+)$", GUARANTEES, re.MULTILINE)


def test_every_promise_of_the_protocol_has_its_section() -> None:
    promises = re.findall(r"^(\d)\. ", section(page("protocol.md"), "## What rota promises"), re.MULTILINE)
    assert re.findall(r"^## (\d)\. ", GUARANTEES, re.MULTILINE) == promises


def test_every_promise_names_what_keeps_and_what_shows_it() -> None:
    for title in re.findall(r"^## \d\. .*$", GUARANTEES, re.MULTILINE):
        text = section(GUARANTEES, title)
        assert "Kept by:" in text, title
        assert "Shown by" in text, title
        assert "- tests/" in text, title


def test_every_test_that_is_named_is_there() -> None:
    assert len(PROOFS) > 10
    for path, name in PROOFS:
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{path}::{name}"


def test_every_scenario_that_is_named_is_there() -> None:
    known = {scenario.name for scenario in SCENARIOS}
    named = {word for word in codes(GUARANTEES) if re.fullmatch(r"[a-z]+(-[a-z]+)+", word)}
    assert named <= known
    assert len(named) > 20
