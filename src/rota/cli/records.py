"""`rota records …`: what bots pushed, of one profile or of all of an account."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, Limit, utc, with_rota
from rota.cli.exporting import FORMATS, export_to
from rota.cli.profile import id_of
from rota.cli.tailing import tail_records
from rota.errors import RotaError

app = typer.Typer(no_args_is_help=True, help="Records: what bots pushed.")

TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
Named = Annotated[str, typer.Argument(metavar="PROFILE", help="Name or id.")]
MaybeNamed = Annotated[str | None, typer.Argument(metavar="[PROFILE]", help="Name or id; or give --account.")]
Account = Annotated[str | None, typer.Option(help="Of all profiles of this account, by name or id.")]
Kind = Annotated[str | None, typer.Option(help="Only of this kind.")]
Bot = Annotated[str | None, typer.Option(help="Only what this bot pushed, HOSTNAME/INSTANCE.")]
Epoch = Annotated[int | None, typer.Option(min=1, help="Only under this epoch.")]
Where = Annotated[str | None, typer.Option(metavar="JSONPATH", help="Only where it holds, such as '$.price > 100'.")]
Since = Annotated[datetime | None, typer.Option("--from", formats=TIMES, help="Received then or later. UTC.")]
Until = Annotated[datetime | None, typer.Option("--to", formats=TIMES, help="Received before. UTC.")]
AtSince = Annotated[datetime | None, typer.Option("--at-from", formats=TIMES, help="The same by the bot's time.")]
AtUntil = Annotated[datetime | None, typer.Option("--at-to", formats=TIMES, help="The same by the bot's time.")]
COLUMNS = ("id", "at", "kind", "bot", "epoch", "data")


@app.command("list")
@with_rota
def list_(  # noqa: PLR0913 - one option each
    rota: Access,
    profile: MaybeNamed = None,
    *,
    account: Account = None,
    newest: Annotated[bool, typer.Option("--newest", help="The newest first.")] = False,
    kind: Kind = None,
    bot: Bot = None,
    epoch: Epoch = None,
    since: Since = None,
    until: Until = None,
    at_since: AtSince = None,
    at_until: AtUntil = None,
    where: Where = None,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """Show what bots pushed, in the order of arrival."""
    path = _path(rota, profile, account)
    wanted = _wanted(kind, bot, epoch, where, since, until, at_since, at_until)
    found = rota.page(path, limit, after, order="newest" if newest else None, **wanted)
    shown.page(found, COLUMNS if profile else ("id", "profile", *COLUMNS[1:]), as_json=as_json)


@app.command()
@with_rota
def count(  # noqa: PLR0913 - one option each
    rota: Access,
    profile: MaybeNamed = None,
    *,
    account: Account = None,
    kind: Kind = None,
    bot: Bot = None,
    epoch: Epoch = None,
    since: Since = None,
    until: Until = None,
    at_since: AtSince = None,
    at_until: AtUntil = None,
    where: Where = None,
    as_json: AsJson = False,
) -> None:
    """Count records, however long that takes."""
    path = f"{_path(rota, profile, account)}/count"
    wanted = _wanted(kind, bot, epoch, where, since, until, at_since, at_until)
    total = _count(rota, path, wanted)
    shown.done(str(total), as_json=as_json, count=total)


@app.command()
@with_rota
def rate(  # noqa: PLR0913 - one option each
    rota: Access,
    profile: MaybeNamed = None,
    *,
    account: Account = None,
    minutes: Annotated[int, typer.Option(min=1, max=1440, help="Over so many.")] = 5,
    kind: Kind = None,
    bot: Bot = None,
    epoch: Epoch = None,
    where: Where = None,
    as_json: AsJson = False,
) -> None:
    """Tell how many records arrive a minute."""
    told = rota.get(f"{_path(rota, profile, account)}/rate", minutes=minutes, **_wanted(kind, bot, epoch, where))
    shown.one(told, as_json=as_json)


@app.command()
@with_rota
def export(  # noqa: PLR0913 - one option each
    rota: Access,
    profile: MaybeNamed = None,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; whole or not there. Default: standard output.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", metavar="|".join(FORMATS), help="Default: what FILE ends with, or ndjson.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    account: Account = None,
    kind: Kind = None,
    bot: Bot = None,
    epoch: Epoch = None,
    since: Since = None,
    until: Until = None,
    at_since: AtSince = None,
    at_until: AtUntil = None,
    where: Where = None,
    as_json: AsJson = False,
) -> None:
    """Write records to a file: NDJSON, CSV or Parquet."""
    form = form or (output.suffix.removeprefix(".") if output else "") or "ndjson"
    if form not in FORMATS:
        raise typer.BadParameter(f"one of {', '.join(FORMATS)}", param_hint="--format")
    if output is not None and output.exists() and not force:
        raise RotaError(f"{output} is there already: give --force to replace it")
    if output is None and sys.stdout.isatty() and form == "parquet":
        raise RotaError("Parquet is nothing to look at: give a file with -o")
    if output is None and as_json:
        raise RotaError("the file itself goes to standard output: give --json with -o alone")
    wanted = _wanted(kind, bot, epoch, where, since, until, at_since, at_until)
    moved = export_to(rota, _path(rota, profile, account), output, form, wanted)
    if output is not None:
        facts = {"file": str(output), "format": form, "records": moved.records, "bytes": moved.bytes}
        number = "" if moved.records is None else f"{moved.records:,} records, "
        shown.done(f"{output}: {number}{moved.bytes / 1e6:,.1f} MB", as_json=as_json, **facts)


@app.command()
@with_rota
def tail(  # noqa: PLR0913 - one option each
    rota: Access,
    profile: Named,
    *,
    last: Annotated[int, typer.Option("--last", "-n", min=0, max=500, help="Begin with so many that are there.")] = 10,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the oldest.")] = False,
    kind: Kind = None,
    bot: Bot = None,
    epoch: Epoch = None,
    where: Where = None,
    as_json: AsJson = False,
) -> None:
    """Follow records as they arrive, until Ctrl-C; connects again by itself."""
    path = f"/profiles/{id_of(rota, profile)}/records/live"
    begin = {"after": "0-0"} if from_start else {"last": last}
    tail_records(rota, path, {**begin, **_wanted(kind, bot, epoch, where)}, as_json=as_json)


def _path(rota: Access, profile: str | None, account: str | None) -> str:
    if (profile is None) == (account is None):
        raise typer.BadParameter("give a profile, or --account")
    if profile is not None:
        return f"/profiles/{id_of(rota, profile)}/records"
    assert account is not None  # noqa: S101 - said above
    return f"/accounts/{rota.id_of('/accounts', 'acc_', account)}/records"


def _wanted(
    kind: str | None,
    bot: str | None,
    epoch: int | None,
    where: str | None,
    since: datetime | None = None,
    until: datetime | None = None,
    at_since: datetime | None = None,
    at_until: datetime | None = None,
) -> dict[str, Any]:
    times = {"from": since, "to": until, "at_from": at_since, "at_to": at_until}
    found: dict[str, Any] = {"kind": kind, "bot": bot, "epoch": epoch, "where": where}
    found |= {name: utc(moment) for name, moment in times.items()}
    return {name: value for name, value in found.items() if value is not None}


def _count(rota: Access, path: str, wanted: dict[str, Any]) -> int:
    """All of them: each answer counts for some seconds at most."""
    total: int = 0
    after = None
    while True:
        told = rota.get(path, after=after, **wanted)
        total += int(told["count"])
        after = told["next"]
        if after is None:
            return total
