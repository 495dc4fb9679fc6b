"""`rota profile …`: what clients want to have worked on. A profile is named by its name or its id."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, Limit, with_rota
from rota.errors import RotaError

app = typer.Typer(no_args_is_help=True, help="Profiles: what clients want to have worked on.")

Named = Annotated[str, typer.Argument(metavar="PROFILE", help="Name or id.")]
Several = Annotated[list[str], typer.Argument(metavar="PROFILE…", help="Names or ids.")]
Config = Annotated[
    str | None, typer.Option(metavar="JSON", help="The configuration: JSON, @FILE, or - for standard input.")
]
LabelList = Annotated[
    list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="A bot must bear it; may be repeated.")
]
Priority = Annotated[int | None, typer.Option(min=-100, max=100, help="Higher is served first.")]
COLUMNS = (
    "id",
    "name",
    "account",
    "fleet",
    "wanted",
    "phase",
    "bot",
    "revision",
    "since",
    "attempt",
    "not_before",
)


@app.command()
@with_rota
def create(  # noqa: PLR0913 - one option each
    rota: Access,
    name: Annotated[str, typer.Argument(help="For people.")],
    *,
    config: Config = None,
    label: LabelList = None,
    priority: Priority = None,
    account: Annotated[str | None, typer.Option(help="Whose it is: name or id. Default: the key's own.")] = None,
    fleet: Annotated[str, typer.Option(help="Which fleet works on it.")] = "default",
    start: Annotated[bool, typer.Option("--start", help="Start it at once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a profile."""
    wish: dict[str, Any] = {"name": name, "fleet": fleet, "start": start, **_wish(None, config, label, priority)}
    if account is not None:
        wish["account"] = rota.id_of("/accounts", "acc_", account)
    shown.one(rota.post("/profiles", wish), as_json=as_json)


@app.command("list")
@with_rota
def list_(
    rota: Access,
    *,
    fleet: Annotated[str | None, typer.Option(help="Only of this fleet.")] = None,
    account: Annotated[str | None, typer.Option(help="Only of this account: name or id.")] = None,
    wanted: Annotated[bool | None, typer.Option("--started/--stopped", help="Only those.")] = None,
    name: Annotated[str | None, typer.Option(help="Only those with this in their name.")] = None,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """List profiles."""
    owner = rota.id_of("/accounts", "acc_", account) if account else None
    found = rota.page("/profiles", limit, after, fleet=fleet, account=owner, wanted=wanted, name=name)
    shown.page(found, COLUMNS, as_json=as_json)


@app.command()
@with_rota
def show(rota: Access, profile: Named, *, as_json: AsJson = False) -> None:
    """Show one profile: what is wanted, and what is."""
    shown.one(rota.get(f"/profiles/{id_of(rota, profile)}"), as_json=as_json)


@app.command()
@with_rota
def change(
    rota: Access,
    profile: Named,
    *,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    config: Config = None,
    label: LabelList = None,
    priority: Priority = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given; a bot at work hears of it at once if it waits, else with its next heartbeat."""
    wish = _wish(name, config, label, priority)
    if not wish:
        raise typer.BadParameter("nothing is to be changed: give --name, --config, --label or --priority")
    shown.one(rota.patch(f"/profiles/{id_of(rota, profile)}", wish), as_json=as_json)


@app.command()
@with_rota
def start(rota: Access, profiles: Several, *, as_json: AsJson = False) -> None:
    """Start profiles: a bot works on each as soon as one is free."""
    _tell(rota, profiles, "start", as_json=as_json)


@app.command()
@with_rota
def stop(rota: Access, profiles: Several, *, as_json: AsJson = False) -> None:
    """Stop profiles: bots that wait are told at once, others with their next heartbeat."""
    _tell(rota, profiles, "stop", as_json=as_json)


@app.command()
@with_rota
def release(rota: Access, profile: Named, *, as_json: AsJson = False) -> None:
    """Forget a profile's crashes and let it wait again, if it is held back after them."""
    shown.one(rota.post(f"/profiles/{id_of(rota, profile)}/release"), as_json=as_json)


@app.command()
@with_rota
def delete(
    rota: Access,
    profile: Named,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop a profile and delete it; its records and history stay in the ledger."""
    profile_id = id_of(rota, profile)
    if not yes:
        typer.confirm(f"Delete {profile} for good?", abort=True, err=True)
    rota.delete(f"/profiles/{profile_id}")
    shown.done(f"{profile_id} is deleted", as_json=as_json, id=profile_id, deleted=True)


@app.command()
@with_rota
def revisions(
    rota: Access,
    profile: Named,
    limit: Limit = 100,
    after: After = None,
    *,
    as_json: AsJson = False,
) -> None:
    """A profile's configurations, oldest first."""
    found = rota.page(f"/profiles/{id_of(rota, profile)}/revisions", limit, after)
    shown.page(found, ("revision", "created_at", "config"), as_json=as_json)


def read_labels(pairs: list[str]) -> dict[str, str]:
    """`name=value` pairs; one empty text stands for no labels at all."""
    if pairs == [""]:
        return {}
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is not NAME=VALUE", param_hint="--label")
    return dict(pair.split("=", 1) for pair in pairs)


def read_config(text: str) -> dict[str, Any]:
    """A configuration as `--config` takes it."""
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        config = json.loads(text)
    except OSError as error:
        raise typer.BadParameter(f"cannot read it: {error}", param_hint="--config") from None
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--config") from None
    if not isinstance(config, dict):
        raise typer.BadParameter('a configuration is a JSON object, such as {"url": "…"}', param_hint="--config")
    return config


def _wish(name: str | None, config: str | None, label: list[str] | None, priority: int | None) -> dict[str, Any]:
    wish: dict[str, Any] = {}
    if name is not None:
        wish["name"] = name
    if config is not None:
        wish["config"] = read_config(config)
    if label:
        wish["labels"] = read_labels(label)
    if priority is not None:
        wish["priority"] = priority
    return wish


def _tell(rota: Access, profiles: list[str], verb: str, *, as_json: bool) -> None:
    """Starts or stops each; one that is refused does not keep the others from being done."""
    refused: list[str] = []
    answers = []
    for profile in profiles:
        try:
            answers.append(rota.post(f"/profiles/{id_of(rota, profile)}/{verb}"))
        except RotaError as error:
            refused.append(f"{profile}: {error}")
    if as_json or answers:
        shown.page({"items": answers, "next": None}, COLUMNS, as_json=as_json)
    if refused:
        raise RotaError("; ".join(refused))


def id_of(rota: Access, profile: str) -> str:
    """The id of the profile that this names.

    Raises:
        RotaError: there is none, or more than one.
    """
    return rota.id_of("/profiles", "prf_", profile, name=profile)
