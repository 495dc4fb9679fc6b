"""A worker in process for every test, with stores that begin empty."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from rota.embedded import EmbeddedValkey, Place
from rota.web import load
from tests.conformance.fleet import Fleet
from tests.conformance.site import Site, open_site


@pytest.fixture(scope="session")
def web_database_url(make_database: Callable[[str, str | None], str], migrated_template: str) -> str:
    """One for all tests of this test worker that open a site; opening empties it."""
    return make_database("web", migrated_template)


@pytest.fixture(autouse=True)
def no_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not change what bots are granted."""
    monkeypatch.setattr(load, "LATE", 60.0)
    monkeypatch.setattr(load, "SLOW", 60.0)


@pytest.fixture
async def site(valkey_url: str, web_database_url: str) -> AsyncIterator[Site]:
    # Of its own among the store's numbered databases, so that it may be emptied.
    async with open_site(f"{valkey_url}?db=1", web_database_url) as opened:
        yield opened


@pytest.fixture
def own_valkey() -> Iterator[EmbeddedValkey]:
    """A store that the test may stop."""
    folder = Path(tempfile.mkdtemp(prefix="rt-"))
    place = Place(folder)
    place.open()
    with EmbeddedValkey(place, durable=False) as running:
        yield running
    place.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def fragile(own_valkey: EmbeddedValkey, web_database_url: str) -> AsyncIterator[Site]:
    """A worker whose live store is `own_valkey`."""
    async with open_site(own_valkey.url, web_database_url) as opened:
        yield opened


@pytest.fixture
async def bots(site: Site) -> Fleet:
    """A listed server, an enrolment key, and bots that speak."""
    return await Fleet.of(site)
