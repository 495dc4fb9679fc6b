"""Real stores for every test worker, and a fleet and a database of its own for every test.

`migrated_database_url` is copied from a template into which the migrations ran once, which takes milliseconds.
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
        command = ["createdb", "-h", str(postgres.sockets), "-U", USER, name]
        if template is not None:
            command += ["-T", template]
        command[0] = str(postgres.program("createdb"))
        subprocess.run(command, check=True, capture_output=True)
        return postgres.url_of(name)

    return make


@pytest.fixture(scope="session")
def migrated_template(make_database: Callable[[str, str | None], str]) -> str:
    """Name of a database that holds the newest schema and nobody's data."""
    upgrade(make_database(TEMPLATE, None))
    return TEMPLATE


@pytest.fixture
def database_url(make_database: Callable[[str, str | None], str]) -> str:
    """An empty database."""
    return make_database(f"t{uuid4().hex[:12]}", None)


@pytest.fixture
def migrated_database_url(make_database: Callable[[str, str | None], str], migrated_template: str) -> str:
    """A database with the newest schema."""
    return make_database(f"t{uuid4().hex[:12]}", migrated_template)


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
