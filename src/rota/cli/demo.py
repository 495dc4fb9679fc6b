"""`rota demo`: the options of the command; what it does is in `demonstration`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from platformdirs import user_data_path

from rota.cli.simulate import read_rate


def demo(  # noqa: PLR0913 - one for each option
    *,
    seconds: Annotated[
        float | None, typer.Option("--for", min=1, metavar="SECONDS", help="End by itself after so long.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the status page; 0 takes a free one.")] = 7682,
    servers: Annotated[int, typer.Option(min=1, max=10_000, help="Servers of the simulated bots.")] = 6,
    bots: Annotated[int, typer.Option(min=1, help="Simulated bots.")] = 600,
    watchers: Annotated[int, typer.Option(min=0, max=200, help="Real bots that watch a local site.")] = 20,
    kill: Annotated[str, typer.Option(metavar="N/min", help="Faults among the simulated bots.")] = "12/min",
    data_dir: Annotated[Path | None, typer.Option(help="Where the demonstration keeps its data.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the status page, where there is a desktop.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show everything at once: stores, server, 600 simulated bots and 20 real ones, deaths and take-overs."""
    from rota.cli.demonstration import Choices, Demonstration  # noqa: PLC0415 - every other command starts faster without
    from rota.cli.simulating import tell  # noqa: PLC0415 - as above

    choices = Choices(
        data_dir=data_dir or user_data_path("rota") / "demo",
        port=port,
        servers=servers,
        bots=bots,
        watchers=watchers,
        kill=read_rate(kill),
        seconds=seconds,
        browser=browser and not as_json,
    )
    demonstration = Demonstration(choices)
    summary = asyncio.run(demonstration.run())
    tell(summary, as_json=as_json, **demonstration.findings())
    demonstration.complain()
