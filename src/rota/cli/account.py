"""`rota account …`: clients, who own profiles."""

from __future__ import annotations

from typing import Annotated

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, Limit, with_rota

app = typer.Typer(no_args_is_help=True, help="Accounts: clients, who own profiles.")


@app.command()
@with_rota
def create(
    rota: Access,
    name: Annotated[str, typer.Argument(help="For people; there is one account of a name.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Make an account."""
    shown.one(rota.post("/accounts", {"name": name}), as_json=as_json)


@app.command("list")
@with_rota
def list_(
    rota: Access,
    limit: Limit = 100,
    after: After = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List accounts."""
    shown.page(rota.page("/accounts", limit, after), ("id", "name", "created_at"), as_json=as_json)
