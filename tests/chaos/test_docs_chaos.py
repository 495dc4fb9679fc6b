"""`docs/chaos.md` lists the scenarios that there are, in their order, and every number of an outcome."""

from __future__ import annotations

from dataclasses import fields

import typer

from rota.chaos.proof import Outcome
from rota.chaos.scenarios import SCENARIOS
from rota.cli.app import app
from rota.cli.chaos import COLUMNS
from tests.unit.test_docs_pages import codes, page, section, table

CHAOS = page("chaos.md")


def test_every_scenario_is_told_and_no_other() -> None:
    rows = table(CHAOS, "scenario", "what is injected", "what is expected")
    assert [codes(row[0])[0] for row in rows] == [scenario.name for scenario in SCENARIOS]
    assert all(cell for row in rows for cell in row)


def test_every_column_is_explained() -> None:
    rows = table(CHAOS, "column", "what is counted", "from what")
    assert [row[0] for row in rows] == list(COLUMNS[1:])


def test_every_further_number_of_the_json_is_explained() -> None:
    in_table = {"scenario", "faults", "moved_without_need", "overlaps", "stale", "acknowledged", "lost", "doubled"}
    further = {field.name for field in fields(Outcome)} - in_table - {"recovered_s"}
    assert further <= set(codes(section(CHAOS, "## What is measured")))


def test_every_option_is_told() -> None:
    command = typer.main.get_command(app).commands["chaos"]  # type: ignore[attr-defined]
    options = {word for option in command.params for word in option.opts if word.startswith("--")}
    told = {codes(row[0])[0].split()[0] for row in table(CHAOS, "option", "default", "meaning")}
    assert told == options - {"--help"}
