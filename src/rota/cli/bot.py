"""`rota bot …`: bots as they are now. A bot is named by its id, `<hostname>/<instance>`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, DataDir, FleetName, Key, Limit, Url
from rota.errors import RotaError

app = typer.Typer(no_args_is_help=True, help="Bots as they are now.")

Named = Annotated[str, typer.Argument(metavar="BOT", help="<hostname>/<instance>.")]
Several = Annotated[list[str], typer.Argument(metavar="BOT…", help="<hostname>/<instance>.")]
COLUMNS = ("id", "phase", "profile", "epoch", "status", "beat_age", "silent", "draining", "quiet", "version")


@app.command("list")
def list_(  # noqa: PLR0913 - one option each
    *,
    fleet: FleetName = "default",
    server: Annotated[str | None, typer.Option(help="Only of this host.")] = None,
    phase: Annotated[str | None, typer.Option(help="Only idle, starting, working or stopping ones.")] = None,
    limit: Limit = 100,
    after: After = None,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List bots by server and instance."""
    with Access(url, key, data_dir) as rota:
        found = rota.page("/bots", limit, after, fleet=fleet, server=server, phase=phase)
    shown.page(found, COLUMNS, as_json=as_json)


@app.command()
def show(
    bot: Named,
    fleet: FleetName = "default",
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show one bot."""
    with Access(url, key, data_dir) as rota:
        shown.one(rota.get(_path(bot), fleet=fleet), as_json=as_json)


@app.command()
def kill(
    bots: Several,
    fleet: FleetName = "default",
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Remove bots at once; another takes a profile over when the killed bot's lease must be over."""
    _tell(bots, "kill", fleet, url, key, data_dir, as_json=as_json)


@app.command()
def drain(
    bots: Several,
    fleet: FleetName = "default",
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Let bots hand their work over, take nothing new and exit."""
    _tell(bots, "drain", fleet, url, key, data_dir, as_json=as_json)


@app.command()
def undrain(
    bots: Several,
    fleet: FleetName = "default",
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Let draining bots take work again."""
    _tell(bots, "undrain", fleet, url, key, data_dir, as_json=as_json)


def _tell(
    bots: list[str],
    verb: str,
    fleet: str,
    url: str | None,
    key: str | None,
    data_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Does it to each; one that is refused does not keep the others from being done."""
    told, refused = [], []
    with Access(url, key, data_dir) as rota:
        for bot in bots:
            try:
                rota.post(f"{_path(bot)}/{verb}", fleet=fleet)
                told.append(bot)
            except RotaError as error:
                refused.append(f"{bot}: {error}")
    shown.done(f"{verb}: {', '.join(told) or 'none'}", as_json=as_json, verb=verb, bots=told)
    if refused:
        raise RotaError("; ".join(refused))


def _path(bot: str) -> str:
    server, slash, instance = bot.partition("/")
    if not (server and slash and instance):
        raise RotaError(f"{bot!r} is not a bot's id: <hostname>/<instance>, as `rota bot list` shows them")
    return f"/bots/{quote(server, safe='')}/{quote(instance, safe='')}"
