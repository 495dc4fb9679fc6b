"""What `rota simulate` does: a crowd of bots against a rota, shown while it lives, and what is said of it afterwards.

Apart from the command's options, so that the other commands start without the simulator.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from rota.cli.crowd_view import CrowdView, preparing, showing
from rota.cli.signals import INTERRUPTED, ending_in_order
from rota.simulator.rest import Rest
from rota.simulator.simulation import Options, Simulation
from rota.simulator.summary import Summary

NAMES = {
    "settled_after_s": "settled after, s",
    "profiles_bound": "profiles bound at most",
    "beat_p50_ms": "beat p50, ms",
    "beat_p99_ms": "beat p99, ms",
    "push_p50_ms": "push p50, ms",
    "push_p99_ms": "push p99, ms",
    "loop_lag_p99_ms": "own lag p99, ms",
    "takeovers": "take-overs",
    "takeover_p50_s": "take-over p50, s",
    "takeover_max_s": "take-over max, s",
    "restored_max_s": "restored max, s",
}
"""How the numbers are called for people, where not by their own names."""


async def run(url: str, key: str, options: Options) -> Summary:
    """A crowd from its preparation to its last goodbye, with a picture of it on stderr."""
    console = Console(stderr=True)
    async with Rest(url, key) as rest:
        simulation = Simulation(rest, options)
        whole = asyncio.current_task()

        def first() -> None:
            console.print("The bots leave; once more to end at once.")
            if simulation.crowd is None and whole:
                whole.cancel()
            simulation.stop()

        with ending_in_order(first, lambda: os._exit(INTERRUPTED)):
            try:
                with preparing(console) as report:
                    await simulation.prepare(report)
                async with showing(CrowdView(simulation, f"rota simulate · {rest.url}"), console):
                    return await simulation.run()
            except asyncio.CancelledError:
                raise typer.Exit(INTERRUPTED) from None


def tell(summary: Summary, *, as_json: bool, **more: Any) -> None:
    """Prints the summary, with `more` where it is JSON; ends the command with an exit code of its own if it is bad."""
    if as_json:
        typer.echo(json.dumps({**summary.as_json(), **more}, ensure_ascii=False))
    else:
        Console().print(_as_table(summary))
    _complain(summary)


def _as_table(summary: Summary) -> Table:
    """The summary for people."""
    table = Table(title="Summary", show_header=False, box=None, padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    for name, value in summary.as_json().items():
        if name == "violation_texts" or value is None:
            continue
        if isinstance(value, dict):
            for part, number in value.items():
                table.add_row(f"  {part}", str(number))
        else:
            table.add_row(NAMES.get(name, name.replace("_", " ")), str(value))
    return table


def _complain(summary: Summary) -> None:
    """Says loudly what is wrong and ends the command with exit code 1; returns where nothing is."""
    console = Console(stderr=True, style="bold red", highlight=False)
    if summary.violations:
        console.rule(f"{summary.violations} VIOLATIONS OF ROTA'S PROMISES", style="bold red")
        for text in summary.violation_texts:
            console.print(text, soft_wrap=True)
        raise typer.Exit(1)
    if not summary.beats:
        console.print(f"No bot was heard: {summary.refusals or 'nothing answered'}.")
        raise typer.Exit(2)
