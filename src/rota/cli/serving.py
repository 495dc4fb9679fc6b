"""The whole server with one command, on its own stores or on given ones: what `rota serve` runs."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType

import structlog

from rota.cli.supervisor import POLL, Crew, Stores, address, listen, private_file
from rota.errors import InvalidKeyError, RotaError, StoreError
from rota.ledger import keys, sign_ins
from rota.ledger.connection import Ledger
from rota.settings import Settings

READY_WITHIN = 30.0
"""Seconds that the web workers have to answer their first request."""

log = structlog.get_logger(__name__)


class Serving:
    """One run of `rota serve`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._crew: Crew | None = None

    def run(self) -> None:
        """Starts everything, watches it until a signal comes, and ends it in order.

        Raises:
            RotaError: something cannot be started; everything that was is ended.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told)
        check_certificate(self._settings)
        listener = listen(self._settings)
        stores = Stores(self._settings)
        try:
            try:
                stores.open(self._go_on)
            except StoreError:
                if not self._stopping.is_set():
                    raise
            if self._stopping.is_set():
                return
            self._crew = Crew(self._settings, listener, stores)
            self._crew.start()
            self._welcome(address(self._settings, listener), stores.database_url)
            while not self._stopping.wait(POLL):
                self._mend(stores)
        finally:
            listener.close()
            began = time.monotonic()
            if self._crew is not None:
                self._crew.stop(self._settings.stop_timeout * 0.6)
            left = self._settings.stop_timeout - (time.monotonic() - began)
            stores.close(max(1.0, left / 2))

    def _mend(self, stores: Stores) -> None:
        stores.mend(self._go_on)
        self._go_on()

    def _go_on(self) -> bool:
        """False once it is told to stop. What ended of rota itself is started again on the way."""
        if self._stopping.is_set():
            return False
        if self._crew is not None:
            self._crew.watch()
        return True

    def _told(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopping.is_set() and self._crew is not None:
            self._crew.kill()
        self._stopping.set()

    def _welcome(self, url: str, database_url: str) -> None:
        """Waits until the pages answer, then says where they are and how to get in."""
        self._wait_until_ready(url)
        if self._stopping.is_set():
            return
        access = self._settings.data_dir / "access.json"
        made, token = asyncio.run(_first_access(database_url, access, url))
        lines = [f"rota is ready at {url}"]
        if made is not None:
            lines.append(f"operator key (shown once, kept in {access}): {made}")
        lines.append(f"sign in: {url}/sign-in?token={token}")
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()

    def _wait_until_ready(self, url: str) -> None:
        assert self._crew is not None  # noqa: S101 - set before
        deadline = time.monotonic() + READY_WITHIN
        while not self._stopping.wait(POLL):
            if _answers(url, self._settings):
                return
            self._crew.watch()
            if time.monotonic() > deadline:
                raise RotaError(f"the web workers do not answer at {url}; see the log above")


def check_certificate(settings: Settings) -> None:
    """Tries the certificate and key before any worker would fail by them.

    Raises:
        RotaError: they cannot be used.
    """
    if settings.ssl_certfile is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
    except OSError as error:  # SSLError is one, too
        reason = error.strerror or error
        key = settings.ssl_keyfile or "in the same file"
        msg = f"cannot use the certificate {settings.ssl_certfile} with the key {key}: {reason}"
        raise RotaError(msg) from None


def _answers(url: str, settings: Settings) -> bool:
    """Whether a worker answers; where a proxy or TLS stands in between, whether its port is open is enough."""
    if settings.public_url or settings.ssl_certfile:
        return True
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2) as reply:  # noqa: S310 - our own address
            return bool(reply.status == 200)  # noqa: PLR2004
    except (OSError, urllib.error.URLError):
        return False


async def _first_access(database_url: str, access: Path, url: str) -> tuple[str | None, str]:
    """A sign-in token, and the secret of a new operator key where this machine had no valid one."""
    ledger = Ledger(database_url)
    try:
        async with ledger.begin() as tx:
            secret, made = await _kept_key(ledger, access), None
            if secret is None:
                _, secret = await keys.create_api_key(tx, role="operator", label="made by rota serve")
                made = secret
            token = await sign_ins.create(tx)
        private_file(access, json.dumps({"url": url, "key": secret}) + "\n")
        return made, token
    finally:
        await ledger.aclose()


async def _kept_key(ledger: Ledger, access: Path) -> str | None:
    try:
        secret = str(json.loads(access.read_text(encoding="utf-8"))["key"])  # noqa: ASYNC240 - once, at start
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        async with ledger.begin() as tx:
            await keys.authenticate(tx, secret)
    except InvalidKeyError:
        return None
    return secret
