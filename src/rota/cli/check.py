"""`rota check`: is everything as it should be?"""

from __future__ import annotations

import json

import typer

from rota.cli import shown
from rota.cli.access import Access, AsJson, DataDir, FleetName, Key, Url


def check(
    fleet: FleetName = "default",
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Look for dead bots, servers with too few or too many, long waits, and broken state; exit code 1 if any."""
    with Access(url, key, data_dir) as rota:
        report = rota.get(f"/fleets/{fleet}/check")
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    elif report["ok"]:
        typer.echo(f"fleet {fleet}: all is well")
    else:
        shown.page({"items": report["findings"], "next": None}, ("kind", "subject", "message"), as_json=False)
    if not report["ok"]:
        raise typer.Exit(1)
