"""`rota account …`: clients, who own profiles."""

from __future__ import annotations

from typing import Annotated

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, Limit, part, with_rota

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
    shown.page(
        rota.page("/accounts", limit, after), ("id", "name", "created_at", "keep_days", "keep_records"), as_json=as_json
    )


@app.command()
@with_rota
def change(
    rota: Access,
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Its id, `acc_…`.")],
    keep_days: Annotated[int | None, typer.Option(min=0, help="Days that records are kept; 0: for ever.")] = None,
    keep_records: Annotated[
        int | None, typer.Option(min=0, help="Newest records of each profile that are kept; 0: all.")
    ] = None,
    *,
    as_fleet: Annotated[bool, typer.Option("--as-fleet", help="What is not given is as the fleet says.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change how long records of a client's profiles are kept."""
    limits = {"keep_days": keep_days, "keep_records": keep_records}
    wish = {name: value for name, value in limits.items() if value is not None or as_fleet}
    if not wish:
        raise typer.BadParameter("nothing is to be changed: give --keep-days, --keep-records or --as-fleet")
    shown.one(rota.patch(f"/accounts/{part(account)}", wish), as_json=as_json)
