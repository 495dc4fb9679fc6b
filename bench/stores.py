"""Stores of the benchmark's own, as `rota serve` runs them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rota.embedded import EmbeddedPostgres, EmbeddedValkey, Place
from rota.ledger.migrations import upgrade


@dataclass(frozen=True)
class Stores:
    """Addresses of a Valkey and a migrated PostgreSQL."""

    redis_url: str
    database_url: str

    @property
    def environment(self) -> dict[str, str]:
        """What a rota process has to be told to use them."""
        return {"ROTA_REDIS_URL": self.redis_url, "ROTA_DATABASE_URL": self.database_url}


@contextmanager
def stores() -> Iterator[Stores]:
    """Both stores, empty."""
    with _place() as place, EmbeddedValkey(place) as valkey, EmbeddedPostgres(place) as postgres:
        upgrade(postgres.url)
        yield Stores(valkey.url, postgres.url)


@contextmanager
def live_store() -> Iterator[str]:
    """The address of an empty Valkey, for what needs no ledger."""
    with _place() as place, EmbeddedValkey(place) as valkey:
        yield valkey.url


@contextmanager
def _place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        Path(folder).chmod(0o711)
        place = Place(Path(folder) / "data")
        place.open()
        try:
            yield place
        finally:
            place.close()
