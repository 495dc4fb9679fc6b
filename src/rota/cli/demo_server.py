"""The `rota serve` that a demonstration starts as its child, and what it says when it is ready."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
from pathlib import Path

from rota.cli.children import Child
from rota.errors import StoreError

READY = re.compile(r"rota is ready at (\S+)")
SIGN_IN = re.compile(r"sign in: (\S+)")
READY_WITHIN = 120.0
"""Seconds; the first start creates a database."""
SIGN_IN_WITHIN = 5.0
ENDS_WITHIN = 10.0


class DemoServer:
    """Start it, use `url` and `key`, end it."""

    def __init__(self, data_dir: Path, port: int) -> None:
        """Nothing happens before `start`."""
        self.url = ""
        self.key = ""
        self.sign_in = ""
        self.child: Child | None = None
        self._data_dir = data_dir
        self._port = port
        self._ready = asyncio.Event()
        self._signed_in = asyncio.Event()

    async def start(self) -> None:
        """Returns when rota accepts requests.

        Raises:
            StoreError: it ended, or took too long; the text has its own last words.
        """
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = self._data_dir / "serve.log"
        command = (sys.executable, "-m", "rota", "serve", "--data-dir", str(self._data_dir))
        self.child = await Child.start("rota serve", *command, "--port", str(self._port), log=log, heard=self._heard)
        ended = asyncio.create_task(self.child.ended())
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait((ended, ready), timeout=READY_WITHIN, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        ended.cancel()
        if not self._ready.is_set():
            raise StoreError(f"rota serve did not start; its log, {log}, ends with:\n{self.child.last_words()}")
        try:
            await asyncio.wait_for(self._signed_in.wait(), SIGN_IN_WITHIN)
        except TimeoutError:
            self.sign_in = self.url
        self.key = json.loads((self._data_dir / "access.json").read_text("utf-8"))["key"]

    async def end(self) -> None:
        """Asks it to end in order, and insists after a while."""
        if self.child:
            await self.child.end(ENDS_WITHIN)

    def kill(self) -> None:
        """Ends it at once."""
        if self.child:
            self.child.kill()

    def _heard(self, line: str) -> None:
        if match := READY.search(line):
            self.url = match[1]
            self._ready.set()
        if match := SIGN_IN.search(line):
            self.sign_in = match[1]
            self._signed_in.set()


def free_port(wanted: int) -> int:
    """The wanted port of 127.0.0.1 if nobody has it, else one that is free now."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return wanted
