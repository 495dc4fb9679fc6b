"""`rota simulate`: a crowd of bots against any rota, its faults, and what the judge says."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rota.cli.access import DataDir, Key, Url, find_access
from rota.cli.crowd_view import CrowdView, preparing, showing
from rota.cli.signals import INTERRUPTED, ending_in_order
from rota.protocol import MAX_BEATS
from rota.simulator.faults import Rate
from rota.simulator.preparation import Wanted
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


def read_rate(text: str | None) -> Rate | None:
    """The `--kill` option."""
    try:
        return Rate.parse(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--kill") from None


def simulate(  # noqa: PLR0913 - one for each option
    *,
    servers: Annotated[int, typer.Option(min=1, max=10_000, help="Servers, named sim-1, sim-2 …")] = 6,
    bots: Annotated[int, typer.Option(min=1, help="Bots, spread evenly over the servers.")] = 600,
    profiles: Annotated[int, typer.Option(min=0, help="Profiles to make and start.")] = 580,
    seconds: Annotated[
        float | None, typer.Option("--for", min=1, metavar="SECONDS", help="End by itself after so long.")
    ] = None,
    kill: Annotated[
        str | None, typer.Option(metavar="N/min", help="Faults: crashes, restarts and cut-offs, mixed.")
    ] = None,
    push_every: Annotated[float, typer.Option(min=0.1, help="Seconds between two records of a bot.")] = 10.0,
    batch: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_BEATS, help="So many bots of a host beat in one call; no data, no faults."),
    ] = None,
    interval: Annotated[
        float | None, typer.Option(min=0.5, max=3600, help="Set the fleet's interval, and its ttl to three of them.")
    ] = None,
    fleet: Annotated[str, typer.Option(help="The fleet to work in.")] = "default",
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    seed: Annotated[int | None, typer.Option(help="Makes chance repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Run a crowd of simulated bots, let some of them die, and check rota's promises from outside."""
    if batch and kill:
        raise typer.BadParameter("nothing befalls bots that beat in one call: leave --batch out", param_hint="--kill")
    options = Options(
        wanted=Wanted(fleet, servers, bots, profiles, seconds, interval=interval),
        kill=read_rate(kill),
        push_every=push_every,
        seed=seed,
        batch=batch,
    )
    summary = asyncio.run(_run(*find_access(url, key, data_dir), options))
    if as_json:
        typer.echo(json.dumps(summary.as_json(), ensure_ascii=False))
    else:
        Console().print(as_table(summary))
    complain(summary)


async def _run(url: str, key: str, options: Options) -> Summary:
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


def as_table(summary: Summary) -> Table:
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


def complain(summary: Summary) -> None:
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
