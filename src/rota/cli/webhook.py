"""`rota webhook …`: where records are sent as they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, Limit, part, with_rota

app = typer.Typer(no_args_is_help=True, help="Webhooks: where records are sent as they come.")
letters = typer.Typer(no_args_is_help=True, help="Messages of a webhook that were given up.")
app.add_typer(letters, name="dead")

Id = Annotated[str, typer.Argument(metavar="WEBHOOK", help="As `rota webhook list` shows it.")]
Message = Annotated[str | None, typer.Argument(metavar="MESSAGE", help="As `rota webhook dead list` shows it.")]
Kinds = Annotated[
    list[str] | None, typer.Option("--kind", help="Send records of this kind; may be repeated. Default: all.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Every = Annotated[bool, typer.Option("--all", help="All of them.")]
COLUMNS = ("id", "account", "fleet", "label", "url", "state", "waiting", "dead_letters", "failing_since", "last_error")
STEP, MOST_STEPS = 1_000, 20
DEAD_COLUMNS = ("id", "profile", "first", "last", "count", "attempts", "dead_at", "last_status", "last_error")


@app.command()
@with_rota
def create(  # noqa: PLR0913 - one option each
    rota: Access,
    address: Annotated[str, typer.Argument(help="Where records are to be sent, https://…")],
    *,
    account: Annotated[str | None, typer.Option(help="For this client's profiles: name or id.")] = None,
    fleet: Annotated[str | None, typer.Option(help="For all profiles of this fleet. Default for operators.")] = None,
    kind: Kinds = None,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    paused: Annotated[bool, typer.Option("--paused", help="Send nothing yet.")] = False,
    from_start: Annotated[bool, typer.Option("--from-start", help="Also send the records that are kept.")] = False,
    as_json: AsJson = False,
) -> None:
    """Register a webhook; the secret that it signs with is shown once."""
    wish: dict[str, Any] = {"url": address, "kinds": kind or [], "label": label}
    wish |= {"paused": paused, "from_start": from_start}
    if account is not None:
        wish["account"] = rota.id_of("/accounts", "acc_", account)
    if fleet is not None:
        wish["fleet"] = fleet
    _show_secret(rota.post("/webhooks", wish), as_json=as_json)


@app.command("list")
@with_rota
def list_(
    rota: Access,
    *,
    account: Annotated[str | None, typer.Option(help="Only this client's: name or id.")] = None,
    fleet: Annotated[str | None, typer.Option(help="Only those for a whole fleet, this one.")] = None,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """List webhooks: what waits for each, and what is wrong."""
    owner = rota.id_of("/accounts", "acc_", account) if account else None
    shown.page(rota.page("/webhooks", limit, after, account=owner, fleet=fleet), COLUMNS, as_json=as_json)


@app.command()
@with_rota
def show(rota: Access, webhook: Id, *, as_json: AsJson = False) -> None:
    """Show one webhook."""
    shown.one(rota.get(f"/webhooks/{part(webhook)}"), as_json=as_json)


@app.command()
@with_rota
def update(
    rota: Access,
    webhook: Id,
    *,
    to: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A new address.")] = None,
    kind: Kinds = None,
    every_kind: Annotated[bool, typer.Option("--every-kind", help="Send records of every kind.")] = False,
    label: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    enable: Annotated[bool | None, typer.Option("--enable/--pause", help="Send, or send nothing for now.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change what is given; enabling lets all that waits be tried at once."""
    if kind and every_kind:
        raise typer.BadParameter("give either --kind or --every-kind")
    kinds = [] if every_kind else kind or None
    given = {"url": to, "kinds": kinds, "label": label, "paused": None if enable is None else not enable}
    wish = {name: value for name, value in given.items() if value is not None}
    if not wish:
        raise typer.BadParameter("nothing is to be changed: give --to, --kind, --label, --enable or --pause")
    shown.one(rota.patch(f"/webhooks/{part(webhook)}", wish), as_json=as_json)


@app.command()
@with_rota
def delete(rota: Access, webhook: Id, *, yes: Yes = False, as_json: AsJson = False) -> None:
    """End a webhook; its dead letters go with it."""
    if not yes:
        typer.confirm(f"Delete {webhook} for good?", abort=True, err=True)
    rota.delete(f"/webhooks/{part(webhook)}")
    shown.done(f"{webhook} is deleted", as_json=as_json, id=webhook, deleted=True)


@app.command()
@with_rota
def rotate(
    rota: Access,
    webhook: Id,
    *,
    overlap: Annotated[
        float, typer.Option(min=0, help="Seconds for which messages are signed with the old secret, too.")
    ] = 86_400,
    as_json: AsJson = False,
) -> None:
    """Make a new secret; it is shown once. With `--overlap 0` the old one is worth nothing at once."""
    _show_secret(rota.post(f"/webhooks/{part(webhook)}/rotate", {"overlap": overlap}), as_json=as_json)


@app.command("test")
@with_rota
def send_test(rota: Access, webhook: Id, *, as_json: AsJson = False) -> None:
    """Send a test message now; exit code 1 where it was not taken."""
    told = rota.post(f"/webhooks/{part(webhook)}/test")
    shown.one(told, as_json=as_json)
    if not told["delivered"]:
        raise typer.Exit(1)


@letters.command("list")
@with_rota
def list_dead(rota: Access, webhook: Id, limit: Limit = 100, after: After = None, *, as_json: AsJson = False) -> None:
    """List messages that were given up, those with the newest records first."""
    shown.page(rota.page(f"/webhooks/{part(webhook)}/dead-letters", limit, after), DEAD_COLUMNS, as_json=as_json)


@letters.command("show")
@with_rota
def show_dead(
    rota: Access, webhook: Id, message: Annotated[str, typer.Argument(metavar="MESSAGE")], *, as_json: AsJson = False
) -> None:
    """Show one message that was given up."""
    shown.one(rota.get(f"/webhooks/{part(webhook)}/dead-letters/{part(message)}"), as_json=as_json)


@letters.command()
@with_rota
def replay(
    rota: Access, webhook: Id, message: Message = None, *, every: Every = False, as_json: AsJson = False
) -> None:
    """Try one, or all, once more under their old ids, beside what is new."""
    path = f"/webhooks/{part(webhook)}/dead-letters"
    if _one(message, every=every):
        count = rota.post(f"{path}/{part(str(message))}/replay")["count"]
    else:
        count = _until_none(lambda: int(rota.post(f"{path}/replay")["count"]))
    shown.done(f"{count} to be sent once more", as_json=as_json, webhook=webhook, replayed=count)


@letters.command()
@with_rota
def discard(
    rota: Access,
    webhook: Id,
    message: Message = None,
    *,
    every: Every = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Throw one, or all, away; their records stay for as long as records do."""
    path = f"/webhooks/{part(webhook)}/dead-letters"
    one = _one(message, every=every)
    if not yes:
        typer.confirm(f"Discard {message if one else 'all dead letters'} of {webhook}?", abort=True, err=True)
    if one:
        rota.delete(f"{path}/{part(str(message))}")
        count = 1
    else:
        count = _until_none(lambda: int(rota.delete(path)["count"]))
    shown.done(f"{count} discarded", as_json=as_json, webhook=webhook, discarded=count)


def _one(message: str | None, *, every: bool) -> bool:
    """Whether one is meant, and not all."""
    if (message is None) != every:
        raise typer.BadParameter("give either a MESSAGE or --all")
    return message is not None


def _until_none(step: Callable[[], int]) -> int:
    """REST does it with 1000 at a time; those that die meanwhile are left."""
    total = 0
    for _ in range(MOST_STEPS):
        count = step()
        total += count
        if count < STEP:
            break
    return total


def _show_secret(made: dict[str, Any], *, as_json: bool) -> None:
    shown.secret(made if as_json else {**made, "key": made["secret"]}, "webhook", as_json=as_json)
