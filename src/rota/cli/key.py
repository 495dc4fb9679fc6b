"""`rota key …`: API keys, for operators and for clients."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, Expires, Limit, part, utc, with_rota

app = typer.Typer(no_args_is_help=True, help="API keys, for operators and for clients.")

COLUMNS = ("id", "role", "account", "label", "created_at", "expires_at", "revoked_at")


@app.command()
@with_rota
def create(
    rota: Access,
    *,
    account: Annotated[
        str | None, typer.Option(help="Name or id of the client whose profiles alone the key sees.")
    ] = None,
    operator: Annotated[bool, typer.Option("--operator", help="A key that may do everything.")] = False,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    expires: Expires = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key; its secret is shown once."""
    if operator == (account is not None):
        raise typer.BadParameter("give either --account, for a client's key, or --operator")
    wish: dict[str, Any] = {"role": "operator", "label": label, "expires_at": utc(expires)}
    if account is not None:
        wish |= {"role": "client", "account": rota.id_of("/accounts", "acc_", account)}
    shown.secret(rota.post("/api-keys", wish), "API key", as_json=as_json)


@app.command("list")
@with_rota
def list_(
    rota: Access,
    limit: Limit = 100,
    after: After = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List API keys, revoked ones too, without their secrets."""
    shown.page(rota.page("/api-keys", limit, after), COLUMNS, as_json=as_json)


@app.command()
@with_rota
def revoke(
    rota: Access,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `rota key list` shows it.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Revoke an API key: it is refused from now on."""
    rota.delete(f"/api-keys/{part(key_id)}")
    shown.done(f"{key_id} is revoked", as_json=as_json, id=key_id, revoked=True)
