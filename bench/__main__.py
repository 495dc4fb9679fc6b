"""`make bench`: measures, and prints one table of all figures beside their targets, or JSON with `--json`."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import heartbeats
from bench.parts import PARTS
from bench.row import Row
from bench.run import Options, Run

BIG = 1000
WIDTH = 140


def bench(
    parts: Annotated[
        list[str] | None, typer.Argument(help=f"What to measure: {', '.join(PARTS)}; all if none.")
    ] = None,
    *,
    bots: Annotated[int, typer.Option(min=64, help="Registered bots, where a part does not say otherwise.")] = 10_000,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of one measurement.")] = 5.0,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of what is compared; the median counts.")] = 3,
    sizes: Annotated[str, typer.Option(help="Sizes of fleets whose cost is compared.")] = "600,10000,100000,1000000",
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Measure rota on stores of its own; progress goes to stderr. A part that fails keeps no other from its results."""
    chosen = parts or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        raise typer.BadParameter(f"there is no {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    if "heartbeats" in chosen and bots < heartbeats.LEAST_BOTS:
        raise typer.BadParameter(
            f"heartbeats are measured in calls of {heartbeats.IN_ONE} by {heartbeats.HOSTS} hosts, so of at least "
            f"{heartbeats.LEAST_BOTS} bots",
            param_hint="--bots",
        )
    options = Options(bots, seconds, rounds, _sizes(sizes))
    console = Console(stderr=True)
    rows: dict[str, list[Row]] = {}
    failed: dict[str, str] = {}
    with console.status("starting") as status:

        def report(text: str) -> None:
            # Without a terminal nothing moves: a line each tells that something goes on.
            status.update(text) if console.is_terminal else console.print(text, highlight=False)

        run = Run(options, report)
        for name in chosen:
            report(name)
            rows[name] = []
            try:
                for row in PARTS[name](run):
                    # A run takes minutes: whoever ends it early has what was measured until then.
                    console.print(f"{name}: {row.what}: {_cell(row.value)} {row.unit}", highlight=False)
                    rows[name].append(row)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others' minutes are not to be lost
                failed[name] = f"{type(error).__name__}: {error}"
                console.print(traceback.format_exc(), markup=False, highlight=False)
    if as_json:
        found = [{"part": name, **row.as_json()} for name, of_part in rows.items() for row in of_part]
        chosen_sizes = {"bots": bots, "seconds": seconds, "rounds": rounds}
        typer.echo(json.dumps({**chosen_sizes, "rows": found, "failed": failed}, ensure_ascii=False))
    else:
        # Elsewhere than on a terminal nothing has to fit anywhere.
        Console(width=None if Console().is_terminal else WIDTH).print(_table(rows, failed))
    if failed:
        raise typer.Exit(1)


def _sizes(text: str) -> Sequence[int]:
    try:
        return [int(part.replace("_", "")) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter("whole numbers with commas between", param_hint="--sizes") from None


def _table(rows: dict[str, list[Row]], failed: dict[str, str]) -> Table:
    table = Table(box=None)
    table.add_column("part")
    table.add_column("what", overflow="fold")
    for title in ("measured", "", "× empty", "× script", "target", ""):
        table.add_column(title, justify="left" if not title else "right", no_wrap=True)
    for part, found in rows.items():
        for at, row in enumerate(found):
            verdict = {True: "[green]held[/]", False: "[red]missed[/]", None: ""}[row.holds]
            figures = (_cell(row.value), row.unit, _cell(row.x_empty), _cell(row.x_script))
            table.add_row("" if at else part, row.what, *figures, str(row.target or ""), verdict)
        if part in failed:
            table.add_row("" if found else part, escape(failed[part]), *[""] * 5, "[red]failed[/]")
    return table


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= BIG else f"{value:.3g}"


if __name__ == "__main__":
    typer.run(bench)
