"""Where the stores of one data directory live, who owns the files, and the lock that keeps a second rota out.

PostgreSQL refuses to run as root. As root the stores run under an unprivileged user, who owns the data directory; where
that user cannot reach the directory (it lies below /root, say), they live below /var/lib instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rota.errors import StoreError

STORE_USERS = ("postgres", "nobody")
FALLBACK = Path("/var/lib/rota")
ELSEWHERE = "stores-are-in"
"""File in the data directory that names where the stores live instead."""
MOST_SOCKET_PATH = 90
"""Unix socket paths end at 107 bytes; PostgreSQL appends its file's name."""


@dataclass
class Place:
    """One data directory, locked; `home` is where the stores keep their files, `user` whom they run as (None: us)."""

    data_dir: Path
    home: Path = field(init=False)
    user: pwd.struct_passwd | None = field(init=False)
    _lock: IO[str] | None = field(default=None, init=False)
    _sockets: Path | None = field(default=None, init=False)

    def open(self) -> None:
        """Makes and locks the directory.

        Raises:
            StoreError: it cannot be made, or another process uses it.
        """
        self.user = store_user()
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            self.home = self._home()
            for folder in (self.data_dir, self.home):
                self.own(folder)
                folder.chmod(0o700)
        except OSError as error:
            raise StoreError(
                f"cannot use the data directory {self.data_dir}: {error}; choose another with --data-dir"
            ) from None

    def close(self) -> None:
        """Lets the directory go."""
        if self._sockets is not None and self._sockets.parent != self.home:
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._sockets = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def folder(self, name: str) -> Path:
        """A private folder of the stores below `home`, made if it is missing."""
        path = self.home / name
        path.mkdir(mode=0o700, exist_ok=True)
        self.own(path)
        return path

    def sockets(self) -> Path:
        """A private folder whose path is short enough for unix sockets."""
        if self._sockets is None:
            inside = self.home / "run"
            if len(str(inside)) <= MOST_SOCKET_PATH:
                self._sockets = self.folder("run")
            else:
                self._sockets = Path(tempfile.mkdtemp(prefix="rota-"))
                self.own(self._sockets)
        return self._sockets

    def own(self, path: Path) -> None:
        """Gives the path to the user whom the stores run as."""
        if self.user is not None and path.stat().st_uid != self.user.pw_uid:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def reachable(self, path: Path) -> bool:
        """Whether the user whom the stores run as can read the path and pass through it."""
        return self._user_finds('test -r "$0" && test -x "$0"', path)

    def as_user(self) -> dict[str, Any]:
        """Keywords for `subprocess` that make a child run as the stores' user, or as us."""
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": [], "cwd": "/"}

    def _take_lock(self) -> None:
        path = self.data_dir / "lock"
        handle = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            who = handle.read().strip() or "unknown"
            handle.close()
            msg = (
                f"the data directory {self.data_dir} is in use by process {who}: stop it, or choose another --data-dir"
            )
            raise StoreError(msg) from None
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        self._lock = handle

    def _home(self) -> Path:
        pointer = self.data_dir / ELSEWHERE
        if pointer.exists():
            # What was once put elsewhere is looked for there, whatever the permissions are now.
            return Path(pointer.read_text(encoding="utf-8").strip())
        if self._user_finds('test -x "$0"', self.data_dir.resolve().parent):
            return self.data_dir
        name = hashlib.sha256(str(self.data_dir.resolve()).encode()).hexdigest()[:12]
        FALLBACK.mkdir(mode=0o711, parents=True, exist_ok=True)
        home = FALLBACK / name
        home.mkdir(mode=0o700, exist_ok=True)
        pointer.write_text(f"{home}\n", encoding="utf-8")
        return home

    def _user_finds(self, test: str, path: Path) -> bool:
        if self.user is None:
            return True
        asked = subprocess.run(  # noqa: S603 - our own words
            ["/bin/sh", "-c", test, str(path)], check=False, **self.as_user()
        )
        return bool(asked.returncode == 0)


def store_user() -> pwd.struct_passwd | None:
    """Whom the stores run as: None means as this process; as root an unprivileged user.

    Raises:
        StoreError: this is root, and there is no such user.
    """
    if os.geteuid() != 0:
        return None
    for name in STORE_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StoreError(
        "PostgreSQL refuses to run as root, and there is no user postgres or nobody: run rota as another user"
    )
