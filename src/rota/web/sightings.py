"""Incidents that a web worker meets: told once in a while, and kept in mind for as long as they cannot be written down.

With a full disk not even an incident can be written: the operator learns of it afterwards, and when it was. Called by
`push`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from rota.errors import RotaError
from rota.ledger import incidents
from rota.ledger.connection import Ledger
from rota.ledger.incidents import Sighting

TELL_AGAIN = 5.0
"""Seconds between two words of one worker about the same incident, and between two tries to write it down."""

log = structlog.get_logger(__name__)


class Sightings:
    """One worker's."""

    def __init__(self, ledger: Ledger) -> None:
        """Nothing happens before something is met."""
        self._ledger = ledger
        self._told: dict[tuple[str, str], float] = {}
        self._owed: dict[tuple[str, str], Sighting] = {}
        self._telling: asyncio.Task[None] | None = None

    async def tell(self, fleets: Iterable[str], kind: str, message: str, detail: Mapping[str, Any]) -> None:
        """Raises an incident, or keeps it up; where that fails it is done as soon as it can be."""
        now = time.monotonic()
        for fleet in sorted(fleets):
            if now < self._told.get((fleet, kind), 0.0) or (fleet, kind) in self._owed:
                continue
            if not await self._written(fleet, kind, Sighting("ledger", message, detail)):
                late = {**detail, "met_at": datetime.now(UTC).isoformat(timespec="seconds")}
                self._owed[fleet, kind] = Sighting("ledger", message, late)
        if self._owed and (self._telling is None or self._telling.done()):
            self._telling = asyncio.create_task(self._tell_owed())

    async def aclose(self) -> None:
        """Gives up what is still owed."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    async def _tell_owed(self) -> None:
        while self._owed:
            await asyncio.sleep(TELL_AGAIN)
            for (fleet, kind), sighting in list(self._owed.items()):
                if await self._written(fleet, kind, sighting):
                    del self._owed[fleet, kind]

    async def _written(self, fleet: str, kind: str, sighting: Sighting) -> bool:
        try:
            async with self._ledger.begin() as tx:
                await incidents.sight(tx, fleet, kind, [sighting])
        except RotaError as error:
            log.error("incident cannot be written down", kind=kind, error=str(error))
            return False
        except Exception:
            log.exception("incident cannot be written down", kind=kind)
            return False
        self._told[fleet, kind] = time.monotonic() + TELL_AGAIN
        return True
