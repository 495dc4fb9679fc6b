"""Real stores for every test worker, and a fleet and a database of its own for every test.

`migrated_database_url` is copied from a template into which the migrations ran once, which takes milliseconds.
Temporary files lie in memory where there is room for them: `MEMORY` says why.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from rota.embedded import EmbeddedPostgres, EmbeddedValkey, Place
from rota.embedded.postgres import USER
from rota.ledger.connection import Ledger
from rota.ledger.migrations import upgrade
from rota.live.scripts import Live

TEMPLATE = "template_of_rota"
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
"""A new cluster or database is a thousand files; on a disk that takes up to ten times as long as in memory."""
ROOM = 3_000_000_000
"""Bytes that must be free there, about three times what the tests have lying there at once."""
LONG = ("acceptance", "chaos", "browser", "unit", "steward")
"""Folders that are begun first, in this order: a long file that began last would leave the other workers idle."""
_memory = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Puts temporary files into memory, also those of the test workers and of all that they start."""
    if "PYTEST_XDIST_WORKER" in os.environ or "TMPDIR" in os.environ or not _has_room():
        return
    folder = Path(tempfile.mkdtemp(prefix="rota-tests-", dir=MEMORY))
    # The stores run as another user when the tests run as root, and must reach what is below.
    folder.chmod(0o711)
    config.stash[_memory] = folder
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Gives the memory back."""
    if (folder := config.stash.get(_memory, None)) is not None:
        del os.environ["TMPDIR"]
        tempfile.tempdir = None
        shutil.rmtree(folder, ignore_errors=True)


def _has_room() -> bool:
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return False
    # Where the stores' user cannot reach the packages, their programs are copied to their data and run there.
    runs_programs = not found.f_flag & os.ST_NOEXEC
    return runs_programs and os.access(MEMORY, os.W_OK) and found.f_bavail * found.f_frsize > ROOM


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One worker more than there are processors: for more than half of the time tests wait, for leases and timeouts."""
    wanted = os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS")
    return None if wanted else len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the long ones first; within a folder and a file everything keeps its order."""
    ranks = {Path(__file__).parent / folder: rank for rank, folder in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.path.parent, len(LONG)))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """In CI nothing may be left out: a skipped test is a failed one there."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    """A data directory with a short path, for this test worker."""
    folder = Path(tempfile.mkdtemp(prefix="rt-"))
    opened = Place(folder)
    opened.open()
    yield opened
    opened.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey_url(place: Place) -> Iterator[str]:
    """A real Valkey."""
    with EmbeddedValkey(place, durable=False) as valkey:
        yield valkey.url


@pytest.fixture(scope="session")
def postgres(place: Place) -> Iterator[EmbeddedPostgres]:
    """A real PostgreSQL."""
    with EmbeddedPostgres(place, durable=False) as running:
        yield running


@pytest.fixture(scope="session")
def make_database(postgres: EmbeddedPostgres) -> Callable[[str, str | None], str]:
    """Makes a database, empty or a copy of another, and returns its address."""

    def make(name: str, template: str | None = None) -> str:
        command = [str(postgres.program("createdb")), "-h", str(postgres.sockets), "-U", USER, name]
        if template is not None:
            command += ["-T", template, "--strategy", "file_copy"]  # the other strategy writes all of it twice
        subprocess.run(command, check=True, capture_output=True)
        return postgres.url_of(name)

    return make


@pytest.fixture(scope="session")
def drop_database(postgres: EmbeddedPostgres) -> Callable[[str], None]:
    """Drops a database, whoever is still connected to it: hundreds of them would fill the memory."""

    def drop(name: str) -> None:
        command = [str(postgres.program("dropdb")), "-h", str(postgres.sockets), "-U", USER, "--force", name]
        subprocess.run(command, check=True, capture_output=True)

    return drop


@pytest.fixture(scope="session")
def migrated_template(make_database: Callable[[str, str | None], str]) -> str:
    """Name of a database that holds the newest schema and nobody's data."""
    upgrade(make_database(TEMPLATE, None))
    return TEMPLATE


@pytest.fixture
def database_url(
    make_database: Callable[[str, str | None], str], drop_database: Callable[[str], None]
) -> Iterator[str]:
    """An empty database."""
    name = f"t{uuid4().hex[:12]}"
    yield make_database(name, None)
    drop_database(name)


@pytest.fixture
def migrated_database_url(
    make_database: Callable[[str, str | None], str], drop_database: Callable[[str], None], migrated_template: str
) -> Iterator[str]:
    """A database with the newest schema."""
    name = f"t{uuid4().hex[:12]}"
    yield make_database(name, migrated_template)
    drop_database(name)


@pytest.fixture
async def live(valkey_url: str) -> AsyncIterator[Live]:
    """Live state, to be used with a fleet of the test's own."""
    opened = Live(valkey_url)
    yield opened
    await opened.aclose()


@pytest.fixture
async def ledger(migrated_database_url: str) -> AsyncIterator[Ledger]:
    """A migrated ledger of the test's own."""
    opened = Ledger(migrated_database_url)
    yield opened
    await opened.aclose()


@pytest.fixture
def fleet() -> str:
    """A fleet that no other test uses."""
    return f"t{uuid4().hex[:8]}"
