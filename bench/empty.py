"""The cheapest request that the same server can answer: what every other figure is compared with."""

from __future__ import annotations

import asyncio
import socket
import sys

import uvloop
from starlette.types import Receive, Scope, Send

from rota.settings import load_settings
from rota.web.__main__ import main

BODY = b'{"instruction":"wait","interval":30.0,"ttl":90.0}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def empty(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers every request alike, without looking at it."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    listener = socket.socket(fileno=int(sys.argv[1]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(empty, load_settings(), listener))
