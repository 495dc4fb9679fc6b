"""`rota simulate`: the options of the command; what it does is in `simulating`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from rota.cli.access import DataDir, Key, Url, find_access
from rota.simulator.faults import Rate

MOST_OF_ONE_CALL = 1_000
"""`MAX_BEATS` of the protocol, which takes longer to load than a small command."""


def read_rate(text: str | None) -> Rate | None:
    """The `--kill` option."""
    try:
        return Rate.parse(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--kill") from None


def simulate(  # noqa: PLR0913 - one for each option
    *,
    servers: Annotated[int, typer.Option(min=1, max=10_000, help="Servers, named sim-1, sim-2 …")] = 6,
    bots: Annotated[int, typer.Option(min=1, help="Bots, spread evenly over the servers.")] = 600,
    profiles: Annotated[int, typer.Option(min=0, help="Profiles to make and start.")] = 580,
    seconds: Annotated[
        float | None, typer.Option("--for", min=1, metavar="SECONDS", help="End by itself after so long.")
    ] = None,
    kill: Annotated[
        str | None, typer.Option(metavar="N/min", help="Faults: crashes, restarts and cut-offs, mixed.")
    ] = None,
    push_every: Annotated[float, typer.Option(min=0.1, help="Seconds between two records of a bot.")] = 10.0,
    batch: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_OF_ONE_CALL, help="So many bots of a host beat in one call; no data, no faults."),
    ] = None,
    interval: Annotated[
        float | None, typer.Option(min=0.5, max=3600, help="Set the fleet's interval, and its ttl to three of them.")
    ] = None,
    fleet: Annotated[str, typer.Option(help="The fleet to work in.")] = "default",
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    seed: Annotated[int | None, typer.Option(help="Makes chance repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Run a crowd of simulated bots, let some of them die, and check rota's promises from outside."""
    from rota.cli.simulating import run, tell  # noqa: PLC0415 - every other command starts faster without
    from rota.simulator.preparation import Wanted  # noqa: PLC0415 - as above
    from rota.simulator.simulation import Options  # noqa: PLC0415 - as above

    if batch and kill:
        raise typer.BadParameter("nothing befalls bots that beat in one call: leave --batch out", param_hint="--kill")
    options = Options(
        wanted=Wanted(fleet, servers, bots, profiles, seconds, interval=interval),
        kill=read_rate(kill),
        push_every=push_every,
        seed=seed,
        batch=batch,
    )
    summary = asyncio.run(run(*find_access(url, key, data_dir), options))
    tell(summary, as_json=as_json)
