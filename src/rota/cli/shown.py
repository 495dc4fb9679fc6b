"""How answers look: tables for people, the same JSON as REST for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

PHASES = {
    "working": "green",
    "starting": "cyan",
    "stopping": "magenta",
    "waiting": "yellow",
    "held": "red",
    "idle": "dim",
    "stopped": "dim",
}
NUMBERS = frozenset({"expected_bots", "actual_bots", "bots_left", "priority", "revision", "epoch", "attempt"})
NUMBERS |= {"interval", "ttl", "beat_age"}
HEADS = {"beat_age": "beat age, s", "interval": "interval, s", "ttl": "ttl, s", "not_before": "next try"}
MOMENTS = frozenset({"at", "since", "not_before", "deadline", "drain_deadline", "gone_at"})
WIDTH_OF_A_PIPE = 200
"""Columns of a table that nobody looks at on a screen."""


def page(found: Mapping[str, Any], columns: Sequence[str], *, as_json: bool) -> None:
    """A page of a list, and how the next one is had."""
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify: Any = "right" if column in NUMBERS else "left"
        table.add_column(head(column), justify=justify, overflow="fold")
    for item in found["items"]:
        table.add_row(*(cell(column, item[column]) for column in columns))
    console().print(table)
    if not found["items"]:
        typer.echo("(none)", err=True)
    if found["next"] is not None:
        typer.echo(f"more: --after {found['next']}", err=True)


def one(item: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing, a line for each of its fields."""
    if as_json:
        typer.echo(json.dumps(item, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in item.items():
        table.add_row(head(name), cell(name, value))
    console().print(table)


def secret(made: Mapping[str, Any], what: str, *, as_json: bool) -> None:
    """A new key: the secret alone on standard output, so that a script can take it."""
    if as_json:
        typer.echo(json.dumps(made, ensure_ascii=False))
        return
    typer.echo(f"{what} {made['id']}; its secret is shown this once:", err=True)
    typer.echo(made["key"])


def done(what: str, *, as_json: bool, **facts: Any) -> None:
    """A deed that has no answer of its own."""
    typer.echo(json.dumps(facts, ensure_ascii=False) if as_json else what)


def note(text: str) -> None:
    """A word to whoever looks on, beside what the command prints."""
    typer.echo(text, err=True)


def head(name: str) -> str:
    """A field's name for people."""
    return HEADS.get(name, name.replace("_", " "))


def cell(name: str, value: Any) -> Text:
    """A value for people. `Text` also keeps brackets in names from being read as markup."""
    if value is None:
        return Text("-", style="dim")
    if name == "phase":
        return Text(value, style=PHASES.get(value, ""))
    if name.endswith("_at") or name in MOMENTS:
        return Text(moment(value))
    if name == "labels":
        return Text(" ".join(f"{label}={text}" for label, text in value.items()) or "-")
    return Text(_plain(value))


def moment(text: str) -> str:
    """A time to the second, in UTC."""
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%SZ")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def console() -> Console:
    """Standard output: as wide as the terminal, and wide enough for whole lines where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_A_PIPE)
