"""`rota fleet …`: policy, totals and what happened."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rota.cli import shown
from rota.cli.access import Access, After, AsJson, Limit, part, with_rota
from rota.cli.who import of_whom

app = typer.Typer(no_args_is_help=True, help="Fleets: policy, totals and what happened.")

Named = Annotated[str, typer.Argument(metavar="FLEET", help="Its name.")]
Interval = Annotated[float | None, typer.Option(help="Seconds between two heartbeats of a bot.")]
Ttl = Annotated[float | None, typer.Option(help="Seconds that a lease lasts.")]
BeatsPerSecond = Annotated[
    float | None, typer.Option(help="Heartbeats of all bots for which there is room; above it intervals are stretched.")
]
KeepDays = Annotated[int | None, typer.Option(min=0, help="Days that records are kept; 0: for ever.")]
KeepRecords = Annotated[int | None, typer.Option(min=0, help="Newest records of each profile that are kept; 0: all.")]


@app.command("list")
@with_rota
def list_(rota: Access, *, as_json: AsJson = False) -> None:
    """List fleets."""
    columns = ("name", "interval", "ttl", "beats_per_second", "keep_days", "keep_records")
    shown.page(rota.get("/fleets"), columns, as_json=as_json)


@app.command()
@with_rota
def create(
    rota: Access,
    name: Annotated[str, typer.Argument(help="Small letters, digits and hyphens.")],
    interval: Interval = None,
    ttl: Ttl = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Make a fleet."""
    shown.one(rota.post("/fleets", {"name": name, **_policy(interval, ttl)}), as_json=as_json)


@app.command()
@with_rota
def status(rota: Access, fleet: Named = "default", *, as_json: AsJson = False) -> None:
    """Show a fleet's policy, totals and servers."""
    found = rota.get(f"/fleets/{part(fleet)}")
    if as_json:
        shown.one(found, as_json=True)
        return
    facts = {"fleet": found["name"]} | {name: found[name] for name in POLICY}
    facts |= {part: "  ".join(f"{name} {number}" for name, number in found[part].items()) for part in FIGURES}
    shown.one(facts, as_json=False)
    if found["servers"]:
        shown.page({"items": found["servers"], "next": None}, SERVERS, as_json=False)


POLICY = ("interval", "ttl", "beats_per_second", "granted_interval", "granted_ttl", "keep_days", "keep_records")
FIGURES = ("bots", "profiles")
SERVERS = ("hostname", "actual", "expected", "draining", "drain_deadline")


@app.command()
@with_rota
def change(
    rota: Access,
    fleet: Named,
    interval: Interval = None,
    ttl: Ttl = None,
    beats_per_second: BeatsPerSecond = None,
    keep_days: KeepDays = None,
    keep_records: KeepRecords = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Change a fleet's policy, of which bots learn with their next heartbeat, or how long records are kept."""
    more = {"beats_per_second": beats_per_second, "keep_days": keep_days, "keep_records": keep_records}
    wish = _policy(interval, ttl) | {name: value for name, value in more.items() if value is not None}
    if not wish:
        raise typer.BadParameter(
            "nothing is to be changed: give --interval, --ttl, --beats-per-second, --keep-days or --keep-records"
        )
    shown.one(rota.patch(f"/fleets/{part(fleet)}", wish), as_json=as_json)


@app.command()
@with_rota
def events(
    rota: Access,
    fleet: Named = "default",
    *,
    profile: Annotated[str | None, typer.Option(help="Only of this profile: name or id.")] = None,
    bot: Annotated[str | None, typer.Option(help="Only of this bot: <hostname>/<instance>.")] = None,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """What happened, newest first."""
    named = of_whom(rota, profile, bot)
    found = rota.page(f"/fleets/{part(fleet)}/events", limit, after, **{kind: one.id for kind, one in named.items()})
    if not found["items"] and after is None:
        for one in named.values():
            rota.get(f"{one.path}/assignments", limit=1, fleet=fleet)  # refused where nobody has ever heard of it
    shown.page(found, ("at", "kind", "bot", "profile", "epoch", "reason"), as_json=as_json)


def _policy(interval: float | None, ttl: float | None) -> dict[str, Any]:
    given = {"interval": interval, "ttl": ttl}
    return {name: value for name, value in given.items() if value is not None}
