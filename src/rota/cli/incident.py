"""`rota incident …`: what an operator has to know of, from when it was seen until it was over."""

from __future__ import annotations

from typing import Annotated

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, FleetName, Limit, part, with_rota

app = typer.Typer(no_args_is_help=True, help="Incidents: what an operator has to know of.")

COLUMNS = ("id", "kind", "subject", "message", "raised_at", "closed_at")


@app.callback()
def incidents() -> None:
    """Incidents: what an operator has to know of."""


@app.command("list")
@with_rota
def list_(
    rota: Access,
    *,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that last.")] = False,
    fleet: FleetName = "default",
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """List incidents, newest first; those that last have no end."""
    found = rota.page(f"/fleets/{part(fleet)}/incidents", limit, after, open="true" if only_open else None)
    shown.page(found, COLUMNS, as_json=as_json)
