"""`rota enrolment …`: the keys with which bots come in."""

from __future__ import annotations

from typing import Annotated

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, Expires, FleetName, Limit, part, utc, with_rota

app = typer.Typer(no_args_is_help=True, help="Enrolment keys, with which bots come in.")

COLUMNS = ("id", "fleet", "label", "created_at", "expires_at", "revoked_at")


@app.command()
@with_rota
def create(
    rota: Access,
    fleet: FleetName = "default",
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    expires: Expires = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Make an enrolment key; its secret is shown once."""
    wish = {"fleet": fleet, "label": label, "expires_at": utc(expires)}
    shown.secret(rota.post("/enrolment-keys", wish), "enrolment key", as_json=as_json)


@app.command("list")
@with_rota
def list_(
    rota: Access,
    *,
    fleet: Annotated[str | None, typer.Option(help="Only of this fleet.")] = None,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """List enrolment keys, revoked ones too, without their secrets."""
    shown.page(rota.page("/enrolment-keys", limit, after, fleet=fleet), COLUMNS, as_json=as_json)


@app.command()
@with_rota
def revoke(
    rota: Access,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `rota enrolment list` shows it.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Revoke an enrolment key: no new bot comes in with it, those that are in stay."""
    rota.delete(f"/enrolment-keys/{part(key_id)}")
    shown.done(f"{key_id} is revoked", as_json=as_json, id=key_id, revoked=True)
