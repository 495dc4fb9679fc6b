"""`make bench`: measures, and prints a table, or JSON with `--json`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.heartbeat import measure

COLUMNS = {
    "what": "what",
    "cpu_us": "worker CPU, µs",
    "ratio": "× empty",
    "per_second": "a second",
    "per_core_second": "a core second",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "store_us": "store, µs",
}


def bench(
    *,
    bots: Annotated[int, typer.Option(min=64, help="Registered bots, all at work.")] = 10_000,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of one measurement.")] = 5.0,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each; the median counts.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Measure the heartbeat against an empty request through the same server, alternating, in one run."""
    console = Console(stderr=True)
    with console.status("starting") as status:
        rows = measure(bots, seconds, rounds, status.update)
    if as_json:
        typer.echo(json.dumps({"bots": bots, "rows": rows}, ensure_ascii=False))
        return
    table = Table(title=f"{bots} registered bots, 64 connections", box=None)
    for column, title in COLUMNS.items():
        table.add_column(title, justify="left" if column == "what" else "right")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in COLUMNS))
    Console().print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"  # noqa: PLR2004
    return "" if value is None else str(value)


if __name__ == "__main__":
    typer.run(bench)
