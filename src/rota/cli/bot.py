"""`rota bot …`: bots as they are now. A bot is named by its id, `<hostname>/<instance>`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, FleetName, Limit, part, with_rota
from rota.cli.server import Within
from rota.errors import RotaError

app = typer.Typer(no_args_is_help=True, help="Bots as they are now.")

Named = Annotated[str, typer.Argument(metavar="BOT", help="<hostname>/<instance>.")]
Several = Annotated[list[str], typer.Argument(metavar="BOT…", help="<hostname>/<instance>.")]
COLUMNS = ("id", "phase", "profile", "epoch", "status", "beat_age", "silent", "draining", "quiet", "version")


@app.command("list")
@with_rota
def list_(
    rota: Access,
    *,
    fleet: FleetName = "default",
    server: Annotated[str | None, typer.Option(help="Only of this host.")] = None,
    phase: Annotated[str | None, typer.Option(help="Only idle, starting, working or stopping ones.")] = None,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """List bots by server and instance."""
    found = rota.page("/bots", limit, after, fleet=fleet, server=server, phase=phase)
    shown.page(found, COLUMNS, as_json=as_json)


@app.command()
@with_rota
def show(rota: Access, bot: Named, fleet: FleetName = "default", *, as_json: AsJson = False) -> None:
    """Show one bot."""
    shown.one(rota.get(path_of(bot), fleet=fleet), as_json=as_json)


@app.command()
@with_rota
def kill(rota: Access, bots: Several, fleet: FleetName = "default", *, as_json: AsJson = False) -> None:
    """Remove bots at once; another takes a profile over when the killed bot's lease must be over."""
    _tell(rota, bots, "kill", fleet, as_json=as_json)


@app.command()
@with_rota
def drain(
    rota: Access,
    bots: Several,
    *,
    within: Within = None,
    fleet: FleetName = "default",
    as_json: AsJson = False,
) -> None:
    """Let bots hand their work over, take nothing new and exit; again changes the deadline."""
    _tell(rota, bots, "drain", fleet, {"within": within}, as_json=as_json)


@app.command()
@with_rota
def undrain(rota: Access, bots: Several, fleet: FleetName = "default", *, as_json: AsJson = False) -> None:
    """Let draining bots take work again."""
    _tell(rota, bots, "undrain", fleet, as_json=as_json)


def _tell(
    rota: Access, bots: list[str], verb: str, fleet: str, wish: dict[str, Any] | None = None, *, as_json: bool
) -> None:
    """Does it to each; one that is refused does not keep the others from being done."""
    told, refused = [], []
    for bot in bots:
        try:
            rota.post(f"{path_of(bot)}/{verb}", wish, fleet=fleet)
            told.append(bot)
        except RotaError as error:
            refused.append(f"{bot}: {error}")
    shown.done(f"{verb}: {', '.join(told) or 'none'}", as_json=as_json, verb=verb, bots=told)
    if refused:
        raise RotaError("; ".join(refused))


def path_of(bot: str) -> str:
    """Where REST has the bot of this id.

    Raises:
        RotaError: that is not a bot's id.
    """
    server, slash, instance = bot.partition("/")
    if not (server and slash and instance):
        raise RotaError(f"{bot!r} is not a bot's id: <hostname>/<instance>, as `rota bot list` shows them")
    return f"/bots/{part(server)}/{part(instance)}"
