"""The `rota` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; says what to install where only the SDK is there."""
    try:
        from rota.cli.app import run  # noqa: PLC0415 - the SDK alone brings no typer
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "rota":
            raise
        sys.stderr.write('rota: pip install "rota[server]" to get this command\n')
        sys.exit(2)
    run()
