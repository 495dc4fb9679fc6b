"""One web worker process, started by `rota serve`: `python -m rota.web --fd N`, N being a listening socket."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import sys

import uvicorn
import uvloop
from starlette.types import ASGIApp

from rota.errors import RotaError
from rota.logs import configure_logging
from rota.processes import stop_event
from rota.settings import Settings, load_settings
from rota.web.app import App, create_app
from rota.web.connection import Connection
from rota.web.stream import end_streams
from rota.web.waiting import end_waits

KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than a usual interval, so that bots keep theirs."""


def application(settings: Settings) -> App:
    """The worker's application on the stores that `rota serve` names."""
    if settings.redis_url is None or settings.database_url is None:
        msg = "a web worker needs ROTA_REDIS_URL and ROTA_DATABASE_URL; `rota serve` sets both"
        raise RotaError(msg)
    return create_app(settings, settings.redis_url.get_secret_value(), settings.database_url.get_secret_value())


def server(app: ASGIApp, settings: Settings) -> uvicorn.Server:
    """A uvicorn server around an application, without uvicorn's own process management."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="uvloop",
            http=Connection,
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=max(1, int(settings.stop_timeout / 2)),
            ssl_certfile=settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
        )
    )


async def main(app: ASGIApp, settings: Settings, listener: socket.socket) -> None:
    """Serves until SIGTERM, SIGINT or the end of the parent process."""
    worker = server(app, settings)
    stop = stop_event()

    async def end() -> None:
        await stop.wait()
        end_streams()
        end_waits()
        worker.should_exit = True

    ending = asyncio.create_task(end())
    # Signals are handled above, for workers and stewards alike.
    worker.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    await worker.serve(sockets=[listener])
    ending.cancel()
    if not worker.started:
        msg = "the web worker could not start; the log tells why"
        raise RotaError(msg)


def open_as_many_as_allowed() -> None:
    """Lets this process have as many connections as its user may: each bot that waits is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    open_as_many_as_allowed()
    try:
        loaded = load_settings()
        configure_logging(loaded, process="web")
        descriptor = int(sys.argv[sys.argv.index("--fd") + 1])
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main(application(loaded), loaded, socket.socket(fileno=descriptor)))
    except RotaError as error:
        sys.stderr.write(f"rota: {error}\n")
        sys.exit(2)
