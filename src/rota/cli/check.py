"""`rota check`: is everything as it should be?"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from rota.cli import shown
from rota.cli.access import Access, AsJson, FleetName, part, with_rota


@with_rota
def check(
    rota: Access,
    fleet: FleetName = "default",
    *,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also compare all of ledger, live state and history; mend what differs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look for dead bots, servers with too few or too many, long waits, and broken state; exit code 1 if any.

    Exit code 2: it could not look, or not at everything.
    """
    path = f"/fleets/{part(fleet)}"
    report = rota.get(f"{path}/check")
    if deep:
        report |= _compare(rota, path)
        report["ok"] = report["ok"] and not report["differences"] and not report["skipped"]
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        _print(fleet, report)
    if report["findings"] or report.get("differences"):
        raise typer.Exit(1)
    if not report["ok"]:
        raise typer.Exit(2)


def _compare(rota: Access, path: str) -> dict[str, Any]:
    """Goes through everything, step by step."""
    compared, differences, skipped = 0, [], set()
    after: str | None = ""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("comparing", total=None)
        while after is not None:
            step = rota.post(f"{path}/comparison", {"after": after})
            compared += step["count"]
            differences += step["differences"]
            skipped |= {step["skipped"]} - {None}
            after = step["next"]
            progress.update(task, description=f"{compared} compared, {len(differences)} differed")
    return {"compared": compared, "differences": differences, "skipped": sorted(skipped)}


def _print(fleet: str, report: dict[str, Any]) -> None:
    if report["findings"]:
        shown.page({"items": report["findings"], "next": None}, ("kind", "subject", "message"), as_json=False)
    if report.get("differences"):
        typer.echo(f"{len(report['differences'])} of {report['compared']} differed, and were mended:")
        shown.page({"items": report["differences"], "next": None}, ("subject", "message"), as_json=False)
    elif "compared" in report:
        rest = ", as far as they could be compared" if report["skipped"] else ""
        typer.echo(f"{report['compared']} profiles and assignments compared: nothing differed{rest}")
    for reason in report.get("skipped", ()):
        typer.echo(f"not everything was compared, try again in a moment: {reason}", err=True)
    if report["ok"]:
        typer.echo(f"fleet {fleet}: all is well")
