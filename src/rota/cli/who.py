"""`rota who`: who worked for whom."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, NamedTuple

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, Limit, utc, with_rota
from rota.cli.bot import path_of
from rota.cli.profile import id_of

COLUMNS = ("profile", "bot", "epoch", "started_at", "confirmed_at", "ended_at", "reason")


class Named(NamedTuple):
    """A profile or a bot: its id, and where REST has it."""

    id: str
    path: str


@with_rota
def who(
    rota: Access,
    *,
    profile: Annotated[str | None, typer.Option(help="Who worked for this profile: name or id.")] = None,
    bot: Annotated[str | None, typer.Option(help="For whom this bot worked: <hostname>/<instance>.")] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S"], help="At this moment, UTC."
        ),
    ] = None,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """Tell who worked for whom, from when to when, and why it ended; newest first."""
    if (profile is None) == (bot is None):
        raise typer.BadParameter("give either --profile or --bot")
    (one,) = of_whom(rota, profile, bot).values()
    shown.page(rota.page(f"{one.path}/assignments", limit, after, at=utc(at)), COLUMNS, as_json=as_json)


def of_whom(rota: Access, profile: str | None, bot: str | None) -> dict[str, Named]:
    """What the options `--profile` and `--bot` name, by option.

    Raises:
        RotaError: there is no such profile, or more than one, or that is not a bot's id.
    """
    found = {}
    if profile is not None:
        id_ = id_of(rota, profile)
        found["profile"] = Named(id_, f"/profiles/{id_}")
    if bot is not None:
        found["bot"] = Named(bot, path_of(bot))
    return found
