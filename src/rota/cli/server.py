"""`rota server …`: machines that may run bots. A server is named by its hostname or its id."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, FleetName, Limit, part, with_rota
from rota.cli.profile import read_labels
from rota.errors import RotaError

app = typer.Typer(no_args_is_help=True, help="Servers: machines that may run bots.")

Named = Annotated[str, typer.Argument(metavar="SERVER", help="Hostname or id.")]
LabelList = Annotated[
    list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="All its bots bear it; may be repeated.")
]
Hostname = Annotated[
    str, typer.Argument(metavar="HOSTNAME", help="One host, also of those that a pattern stands for; or a server's id.")
]
Within = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Kill what has not ended by then. Default: never.")
]
COLUMNS = (
    "id",
    "fleet",
    "hostname",
    "actual_bots",
    "expected_bots",
    "labels",
    "draining",
    "drain_deadline",
    "created_at",
)
DRAINS = ("subject", "bots_left", "deadline", "gone_at", "created_at")


@app.command()
@with_rota
def add(
    rota: Access,
    hostname: Annotated[str, typer.Argument(help="Exact, or a pattern such as 'bot-farm-*'.")],
    *,
    bots: Annotated[int, typer.Option(min=0, help="How many bots each such host should run.")],
    label: LabelList = None,
    fleet: FleetName = "default",
    as_json: AsJson = False,
) -> None:
    """List a server, so that its bots are let in."""
    wish = {"hostname": hostname, "expected_bots": bots, "labels": read_labels(label or []), "fleet": fleet}
    shown.one(rota.post("/servers", wish), as_json=as_json)


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
    """List servers with the bots that they run and should run."""
    found = rota.page("/servers", limit, after, fleet=fleet)
    shown.page(found, COLUMNS, as_json=as_json)


@app.command()
@with_rota
def show(rota: Access, server: Named, *, as_json: AsJson = False) -> None:
    """Show one server."""
    shown.one(rota.get(f"/servers/{_id(rota, server)}"), as_json=as_json)


@app.command()
@with_rota
def change(
    rota: Access,
    server: Named,
    *,
    bots: Annotated[int | None, typer.Option(min=0, help="How many bots it should run.")] = None,
    label: LabelList = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given; new labels count for bots that come in from now on."""
    wish: dict[str, Any] = {} if bots is None else {"expected_bots": bots}
    if label:
        wish["labels"] = read_labels(label)
    if not wish:
        raise typer.BadParameter("nothing is to be changed: give --bots or --label")
    shown.one(rota.patch(f"/servers/{_id(rota, server)}", wish), as_json=as_json)


@app.command()
@with_rota
def remove(rota: Access, server: Named, *, as_json: AsJson = False) -> None:
    """Take a server off the list: bots that are in stay, new ones are refused."""
    server_id = _id(rota, server)
    rota.delete(f"/servers/{server_id}")
    shown.done(f"{server} is off the list", as_json=as_json, id=server_id, removed=True)


@app.command()
@with_rota
def drain(
    rota: Access,
    hostname: Hostname,
    *,
    within: Within = None,
    fleet: FleetName = "default",
    as_json: AsJson = False,
) -> None:
    """Let a server's bots hand their work over, take nothing new and exit; again changes the deadline."""
    wish = {"subject": _host(rota, hostname), "within": within}
    shown.one(rota.post(f"/fleets/{part(fleet)}/drains", wish), as_json=as_json)


@app.command()
@with_rota
def undrain(rota: Access, hostname: Hostname, fleet: FleetName = "default", *, as_json: AsJson = False) -> None:
    """Let a server's bots take work again."""
    host = _host(rota, hostname)
    rota.delete(f"/fleets/{part(fleet)}/drains/{part(host)}")
    shown.done(f"{host} takes work again", as_json=as_json, subject=host, draining=False)


@app.command()
@with_rota
def drains(
    rota: Access,
    fleet: FleetName = "default",
    limit: Limit = 100,
    after: After = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List servers and bots that are being drained, and how many bots are left of each."""
    shown.page(rota.page(f"/fleets/{part(fleet)}/drains", limit, after), DRAINS, as_json=as_json)


def _host(rota: Access, server: str) -> str:
    """The hostname of one server.

    Raises:
        RotaError: that is a bot, or there is no server of this id.
    """
    if "/" in server:
        raise RotaError(
            f"{server!r} is a bot's id, not a hostname: `rota bot drain` and `rota bot undrain` are for bots"
        )
    if not server.startswith("srv_"):
        return server
    return str(rota.get(f"/servers/{part(server)}")["hostname"])


def _id(rota: Access, server: str) -> str:
    return rota.id_of("/servers", "srv_", server, "hostname")
