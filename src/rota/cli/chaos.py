"""`rota chaos`: breaks a real installation in every way it knows, and shows whether rota's promises held."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rota.cli import shown
from rota.cli.signals import INTERRUPTED, ending_in_order

if TYPE_CHECKING:
    from rota.chaos.proof import Outcome
    from rota.chaos.scenario import Scenario
    from rota.chaos.stage import Options

COLUMNS = (
    "scenario",
    "faults",
    "moved without need",
    "overlapping owners",
    "stale accepted",
    "lost",
    "doubled",
    "acknowledged",
    "recovered, s",
)

TOLD_AT_ONCE = 3
"""So much of what was seen in a scenario that broke is printed before the others have run."""


def chaos(
    names: Annotated[list[str] | None, typer.Argument(metavar="[SCENARIO]...", help="All, if none is given.")] = None,
    *,
    ttl: Annotated[float, typer.Option(min=4, max=600, help="The fleet's ttl, seconds; interval is a third.")] = 5.0,
    bots: Annotated[int, typer.Option(min=20, max=5_000, help="Simulated bots.")] = 300,
    records: Annotated[
        int, typer.Option(min=1000, max=10_000_000, help="Records pushed in everything-killed.")
    ] = 10_000,
    seed: Annotated[int | None, typer.Option(help="Makes chance repeatable.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the scenarios and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Break an installation of its own in every way it knows, and check rota's promises from outside."""
    from rota.chaos.stage import Options  # noqa: PLC0415 - every other command starts faster without chaos

    chosen = _choose(names or [])
    if list_:
        _print_list(chosen, as_json=as_json)
        return
    began = time.monotonic()
    outcomes = asyncio.run(_run(chosen, Options(ttl=ttl, bots=bots, seed=seed, records=records)))
    broken = any(outcome.broken for outcome in outcomes)
    if as_json:
        seconds = round(time.monotonic() - began, 1)
        found = {"ok": not broken, "seconds": seconds, "scenarios": [outcome.as_json() for outcome in outcomes]}
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        shown.console().print(as_table(outcomes))
    _complain(outcomes)
    if broken:
        raise typer.Exit(1)


def _choose(names: list[str]) -> list[Scenario]:
    from rota.chaos.scenarios import SCENARIOS  # noqa: PLC0415 - as above

    known = {scenario.name: scenario for scenario in SCENARIOS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: see rota chaos --list", param_hint="SCENARIO")
    return [scenario for scenario in SCENARIOS if not names or scenario.name in names]


def _print_list(scenarios: list[Scenario], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"items": [{"name": each.name, "summary": each.summary} for each in scenarios]}))
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for scenario in scenarios:
        table.add_row(scenario.name, scenario.summary)
    shown.console().print(table)


async def _run(scenarios: list[Scenario], options: Options) -> list[Outcome]:
    console = Console(stderr=True)
    whole = asyncio.current_task()

    def first() -> None:
        console.print("Everything ends in order; once more to end at once.")
        if whole:
            whole.cancel()

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("", total=len(scenarios))

    def report(what: str) -> None:
        bar.update(task, description=what)
        if not console.is_terminal:
            console.print(what, highlight=False, soft_wrap=True)

    def proven(outcome: Outcome) -> None:
        bar.advance(task)
        verdict = "[bold red]BROKEN[/]" if outcome.broken else "[green]kept[/]"
        bar.console.print(f"{outcome.scenario}: {verdict}, recovered after {_seconds(outcome.recovered_s)} s")
        for text in outcome.told:
            bar.console.print(f"  {text}", highlight=False, soft_wrap=True)
        if outcome.broken:  # all of it follows at the end, which with a long ttl is more than an hour away
            for text in (*outcome.unmet, *outcome.texts)[:TOLD_AT_ONCE]:
                bar.console.print(f"  {text}", soft_wrap=True, markup=False, highlight=False)

    from rota.chaos.proof import prove  # noqa: PLC0415 - as above
    from rota.cli.founding import found  # noqa: PLC0415 - and without the ledger

    with ending_in_order(first, lambda: os._exit(INTERRUPTED)), bar:
        try:
            return await prove(scenarios, options, found, report, proven)
        except asyncio.CancelledError:
            raise typer.Exit(INTERRUPTED) from None


def as_table(outcomes: list[Outcome]) -> Table:
    """The outcomes for people."""
    table = Table(title="What broke, and whether the promises held", box=None, padding=(0, 1))
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left", no_wrap=not number)
    for outcome in outcomes:
        overlaps = outcome.overlaps + outcome.epochs_out_of_order
        bad = (outcome.moved_without_need, overlaps, outcome.stale, outcome.lost, outcome.doubled)
        numbers = [f"[bold red]{number}[/]" if number else "0" for number in bad]
        recovered = _seconds(outcome.recovered_s)
        table.add_row(outcome.scenario, str(outcome.faults), *numbers, str(outcome.acknowledged), recovered)
    return table


def _seconds(value: float | None) -> str:
    return "[bold red]never[/]" if value is None else f"{value:.1f}"


def _complain(outcomes: list[Outcome]) -> None:
    console = Console(stderr=True, highlight=False)
    for outcome in outcomes:
        if outcome.broken:
            console.rule(f"{outcome.scenario}: BROKEN", style="bold red")
            for text in (*outcome.unmet, *outcome.texts):
                console.print(text, soft_wrap=True, markup=False)
