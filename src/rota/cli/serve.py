"""`rota serve`: the options of the command; what it does is in `serving`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(  # noqa: PLR0913, PLR0917 - one option each
    data_dir: Annotated[Path | None, typer.Option(help="Where the built-in stores keep their files.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    workers: Annotated[int | None, typer.Option(help="Web worker processes.")] = None,
    public_url: Annotated[str | None, typer.Option(help="Address that people reach rota at, behind a proxy.")] = None,
    ssl_certfile: Annotated[Path | None, typer.Option(help="Serve TLS with this certificate (PEM).")] = None,
    ssl_keyfile: Annotated[Path | None, typer.Option(help="Private key of the certificate (PEM).")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML); default ./rota.toml.")] = None,
) -> None:
    """Run rota: stores, web workers and steward, until Ctrl-C."""
    from rota.cli.serving import Serving  # noqa: PLC0415 - every other command starts faster without the stores
    from rota.logs import configure_logging  # noqa: PLC0415 - as above
    from rota.settings import load_settings  # noqa: PLC0415 - as above

    settings = load_settings(
        config,
        data_dir=data_dir,
        host=host,
        port=port,
        workers=workers,
        public_url=public_url,
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
        log_level=log_level,
        log_format=log_format,
    )
    configure_logging(settings, process="serve")
    Serving(settings).run()
