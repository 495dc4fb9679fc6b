"""Real stores as child processes, out of wheels: a Valkey and a PostgreSQL inside a data directory.

Used by `rota serve` when no other stores are set, and by the tests. Both listen on unix sockets only, and end with
their parent, also when that is killed. A second process cannot use the same data directory.
"""

from __future__ import annotations

from rota.embedded.place import Place
from rota.embedded.postgres import EmbeddedPostgres
from rota.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedValkey", "Place"]
