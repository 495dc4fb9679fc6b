"""`rota account …`: clients, who own profiles."""

from __future__ import annotations

from typing import Annotated

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, DataDir, Key, Limit, Url

app = typer.Typer(no_args_is_help=True, help="Accounts: clients, who own profiles.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="For people; there is one account of a name.")],
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Make an account."""
    with Access(url, key, data_dir) as rota:
        shown.one(rota.post("/accounts", {"name": name}), as_json=as_json)


@app.command("list")
def list_(
    limit: Limit = 100,
    after: After = None,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List accounts."""
    with Access(url, key, data_dir) as rota:
        shown.page(rota.page("/accounts", limit, after), ("id", "name", "created_at"), as_json=as_json)
