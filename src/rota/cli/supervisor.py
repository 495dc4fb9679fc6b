"""Everything that `rota serve` runs: the built-in stores, the web workers and the steward, each a process of its own.

Started in order, watched, started again when one dies, ended in order. Children notice the end of a killed parent by a
pipe, so that no orphan keeps the port or the stores.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from pydantic import SecretStr

from rota.embedded import EmbeddedPostgres, EmbeddedValkey, Place
from rota.embedded.child import Child, within
from rota.errors import RotaError, StoreError
from rota.ledger import fleets
from rota.ledger.connection import Ledger
from rota.ledger.migrations import upgrade
from rota.live.liveness import pulse
from rota.live.scripts import Live
from rota.processes import PARENT_PIPE
from rota.settings import PREFIX, Settings

POLL = 0.1
MOST_QUICK_ENDS = 5
"""A process that ends this often within `QUICK` seconds of its start is not started again."""
QUICK = 5.0
SLOW_START = 30.0
"""Seconds after which the log says that a store is still starting."""
LONGEST_PAUSE = 30.0
"""Seconds between two attempts to start a store that does not start; the pause begins at 1 s and doubles."""

log = structlog.get_logger(__name__)


class Stores:
    """Redis and PostgreSQL: the given ones, checked, or built-in ones, started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened = False
        self._place: Place | None = None
        self._valkey: EmbeddedValkey | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._attempts: dict[str, _Attempts] = {}
        self.redis_url = settings.redis_url.get_secret_value() if settings.redis_url else ""
        self.database_url = settings.database_url.get_secret_value() if settings.database_url else ""

    def open(self, go_on: Callable[[], bool]) -> None:
        """Starts what is built in and checks what is given; then migrates.

        Raises:
            StoreError: one line that says what to do; or `go_on` was false while a store was starting.
        """
        self._place = Place(self._settings.data_dir)
        self._place.open()
        if not self.redis_url:
            self._valkey = EmbeddedValkey(self._place)
            self._valkey.start(_patient(self._valkey.child, go_on))
            self.redis_url = self._valkey.url
        if not self.database_url:
            self._postgres = EmbeddedPostgres(self._place)
            self._postgres.start(_patient(self._postgres.child, go_on))
            self.database_url = self._postgres.url
        asyncio.run(self._check())
        upgrade(self.database_url)
        self._opened = True

    def mend(self, go_on: Callable[[], bool]) -> None:
        """Starts a built-in store again that has ended by itself, and tries again for as long as that fails.

        `go_on` is asked while a store starts; where it is false, the start is given up.
        """
        for store in (self._valkey, self._postgres):
            reason = store.child.failed() if store is not None else None
            if store is not None and reason is not None:
                self._mend(store, reason, go_on)

    def _mend(self, store: EmbeddedValkey | EmbeddedPostgres, reason: str, go_on: Callable[[], bool]) -> None:
        attempts = self._attempts.setdefault(store.child.name, _Attempts())
        if time.monotonic() < attempts.again_at:
            return
        if attempts.pause == 0:
            log.error("store ended, starting it again", reason=reason)
            _tell_of_full_disk(store, reason)
        try:
            store.start(_patient(store.child, go_on))
        except (StoreError, OSError, subprocess.SubprocessError) as error:
            if go_on():
                # Calls are answered 503 meanwhile.
                attempts.failed()
                log.error("store does not start", error=str(error), again_in=attempts.pause)
                _tell_of_full_disk(store, str(error))
        else:
            self._attempts.pop(store.child.name)
            log.warning("store started again", store=store.child.name)

    def close(self, timeout: float) -> None:
        """Ends what was started here. Live state is sealed first: its next run may be trusted to have lost nothing."""
        if self._valkey is not None and self._opened:
            asyncio.run(self._seal())
        for store in (self._postgres, self._valkey):
            if store is not None:
                store.stop(timeout)
        if self._place is not None:
            self._place.close()

    async def _check(self) -> None:
        live, ledger = Live(self.redis_url), Ledger(self.database_url)
        try:
            await live.check()
            await ledger.check()
        finally:
            await live.aclose()
            await ledger.aclose()

    async def _seal(self) -> None:
        live, ledger = Live(self.redis_url, timeout=1), Ledger(self.database_url, timeout=1)
        try:
            async with ledger.begin() as tx:
                found = await fleets.all(tx)
            for fleet in found:
                await pulse(live, fleet.name, "seal", ttl=fleet.ttl)
        except RotaError as error:
            log.warning("live state is not sealed", error=str(error))
        finally:
            await live.aclose()
            await ledger.aclose()


def _tell_of_full_disk(store: EmbeddedValkey | EmbeddedPostgres, why: str) -> None:
    """The line that web workers write, too: without room for its log of changes PostgreSQL ends, and refuses nobody."""
    if isinstance(store, EmbeddedPostgres) and store.child.out_of_room():
        log.error("disk of the ledger is full", error=why)


@dataclass
class _Attempts:
    """How often a store was started in vain, told by the pause in seconds until the next attempt."""

    pause: float = 0.0
    again_at: float = 0.0

    def failed(self) -> None:
        self.pause = min(self.pause * 2 or 1.0, LONGEST_PAUSE)
        self.again_at = time.monotonic() + self.pause


def _patient(child: Child, go_on: Callable[[], bool]) -> Callable[[], bool]:
    """`go_on`, which also logs once that a start takes long.

    There is no limit: what is to be done after a crash may take minutes, and would begin anew if it were cut short.
    """
    slow = within(SLOW_START)
    told = False

    def patient() -> bool:
        nonlocal told
        if not told and not slow():
            told = True
            log.warning("store is still starting", store=child.name)
        return go_on()

    return patient


@dataclass
class Member:
    """One process of rota itself: how it is started, and how often it ended soon after."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes] = field(init=False)
    started: float = field(init=False)
    quick_ends: int = 0
    again_at: float | None = None

    def run(self) -> None:
        """Starts it."""
        self.process, self.started, self.again_at = self.start(), time.monotonic(), None

    def watch(self) -> None:
        """Starts it again when it has ended, after a pause that grows with quick ends.

        Raises:
            RotaError: it does not stay up.
        """
        now = time.monotonic()
        if self.again_at is not None:
            if now >= self.again_at:
                self.run()
        elif self.process.poll() is not None:
            self.quick_ends = self.quick_ends + 1 if now - self.started < QUICK else 1
            if self.quick_ends >= MOST_QUICK_ENDS:
                raise RotaError(
                    f"{self.name} ends again and again (exit code {self.process.returncode}); see the log above"
                )
            log.error("process ended, starting it again", process=self.name, code=self.process.returncode)
            self.again_at = now + 0.2 * 2**self.quick_ends


class Crew:
    """The web workers, which share one listening socket, and the steward."""

    def __init__(self, settings: Settings, listener: socket.socket, stores: Stores) -> None:
        # Children hold the reading end; its end of file tells them that this process is gone.
        self._theirs, self._ours = os.pipe()
        self._environment = _environment(settings, stores, self._theirs)
        self._listener = listener
        web = [Member(f"web worker {number + 1}", self._web) for number in range(settings.workers)]
        self._members = [*web, Member("steward", self._steward)]

    def start(self) -> None:
        """Starts them all."""
        for member in self._members:
            member.run()

    def watch(self) -> None:
        """Starts again what has ended."""
        for member in self._members:
            member.watch()

    def stop(self, timeout: float) -> None:
        """Ends them all at once, and by force what takes longer than `timeout` seconds."""
        running = [member.process for member in self._members if member.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self) -> None:
        """Ends them all by force."""
        for member in self._members:
            member.process.kill()

    def _web(self) -> subprocess.Popen[bytes]:
        return self._process("rota.web", "--fd", str(self._listener.fileno()))

    def _steward(self) -> subprocess.Popen[bytes]:
        return self._process("rota.steward")

    def _process(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", module, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            # Ctrl-C in the terminal is for the parent, which ends its children in order.
            start_new_session=True,
            pass_fds=(self._listener.fileno(), self._theirs),
        )


def listen(settings: Settings) -> socket.socket:
    """The socket that all web workers accept from.

    Raises:
        RotaError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        msg = (
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; "
            "choose another with --port, or --port 0 for a free one"
        )
        raise RotaError(msg) from None
    listener.listen(4096)
    listener.set_inheritable(True)
    return listener


def address(settings: Settings, listener: socket.socket) -> str:
    """Where people reach the pages."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    scheme = "https" if settings.ssl_certfile else "http"
    host, port = listener.getsockname()[:2]
    shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104 - compared
    return f"{scheme}://{shown}:{port}"


def _environment(settings: Settings, stores: Stores, pipe: int) -> dict[str, str]:
    """What children read their settings from: everything that was settled here, whatever it came from."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if value is not None:
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            environment[f"{PREFIX}{name.upper()}"] = text
    environment[f"{PREFIX}REDIS_URL"] = stores.redis_url
    environment[f"{PREFIX}DATABASE_URL"] = stores.database_url
    # Everything is settled here: a settings file that children found would be another one.
    environment[f"{PREFIX}CONFIG"] = os.devnull
    environment[PARENT_PIPE] = str(pipe)
    return environment


def private_file(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, all of it or nothing."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    draft.touch(mode=0o600, exist_ok=False)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
