"""`rota check`: is everything as it should be?"""

from __future__ import annotations

import json

import typer

from rota.cli import shown
from rota.cli.access import Access, AsJson, FleetName, part, with_rota


@with_rota
def check(rota: Access, fleet: FleetName = "default", *, as_json: AsJson = False) -> None:
    """Look for dead bots, servers with too few or too many, long waits, and broken state; exit code 1 if any."""
    report = rota.get(f"/fleets/{part(fleet)}/check")
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    elif report["ok"]:
        typer.echo(f"fleet {fleet}: all is well")
    else:
        shown.page({"items": report["findings"], "next": None}, ("kind", "subject", "message"), as_json=False)
    if not report["ok"]:
        raise typer.Exit(1)
