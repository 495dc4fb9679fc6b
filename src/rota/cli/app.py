"""The Typer application: one module per noun is registered here, and errors end here as one line."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from rota import __version__
from rota.cli import account, bot, enrolment, fleet, incident, key, profile, records, server, webhook
from rota.cli.access import login
from rota.cli.chaos import chaos
from rota.cli.check import check
from rota.cli.demo import demo
from rota.cli.serve import serve
from rota.cli.simulate import simulate
from rota.cli.who import who
from rota.errors import ProblemError, RotaError

app = typer.Typer(
    help="The duty roster for fleets of bots.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (serve, demo, simulate, chaos, check, who, login):
    app.command()(command)
for name, noun in (
    ("profile", profile),
    ("records", records),
    ("server", server),
    ("bot", bot),
    ("fleet", fleet),
    ("incident", incident),
    ("key", key),
    ("enrolment", enrolment),
    ("account", account),
    ("webhook", webhook),
):
    app.add_typer(noun.app, name=name)


def _version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if wanted:
        typer.echo(f"rota {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The duty roster for fleets of bots."""


def run() -> None:
    """Exit codes: 0 done, 1 a negative answer, 2 refused, unreachable or wrongly used, 130 Ctrl-C."""
    try:
        app()
    except ProblemError as error:
        lines = [f"rota: {error.detail}", *(f"  {wrong.field}: {wrong.message}" for wrong in error.fields[1:])]
        sys.stderr.write("\n".join(lines) + "\n")
        sys.exit(2)
    except RotaError as error:
        sys.stderr.write(f"rota: {error}\n")
        sys.exit(2)
    except OSError as error:
        # Standard output is full or gone. Python would try once more to write what is left, and complain.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - until the process ends
        sys.stderr.write(f"rota: cannot write: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
