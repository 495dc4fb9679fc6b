"""What pages know from the ledger: profiles' names, listed servers and fleets, kept for a moment.

One per web worker, so that a page that is rendered every second does not ask the ledger every second, and goes on with
the last answers while the ledger is away.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeVar

from rota.errors import UnavailableError
from rota.ledger import fleets, profiles, servers
from rota.ledger.connection import Ledger, Transaction
from rota.ledger.servers import Server

NAMES_KEPT, SERVERS_KEPT = 30.0, 3.0
"""Seconds for which an answer is good."""
RETRY = 3.0
"""Seconds before a ledger that was away is asked again: each try may take as long as its timeout."""
MOST_NAMES = 20_000
"""Names kept at once; more than pages show between two cleanings."""


Answer = TypeVar("Answer")


class Facts:
    """The ledger's answers; `away` tells whether the last question was in vain."""

    def __init__(self, ledger: Ledger) -> None:
        self.away = False
        self._ledger = ledger
        self._asked_in_vain = 0.0
        self._names: dict[str, tuple[float, str]] = {}
        self._listed: dict[str, tuple[float, list[Server]]] = {}
        self._fleets: tuple[float, tuple[str, ...]] = (0.0, ())

    async def names(self, profile_ids: Collection[str]) -> dict[str, str]:
        """Id → name of these profiles; the id itself where the ledger does not tell."""
        now = time.monotonic()
        stale = [id_ for id_ in profile_ids if id_ not in self._names or now - self._names[id_][0] > NAMES_KEPT]
        found = await self._ask(lambda tx: profiles.names(tx, stale)) if stale else None
        if found is not None:
            self._keep_names({id_: found.get(id_, id_) for id_ in stale}, now)
        return {id_: self._names[id_][1] if id_ in self._names else id_ for id_ in profile_ids}

    async def listed(self, fleet: str) -> list[Server] | None:
        """The fleet's listed servers; the last answer while the ledger is away, None if there was none."""
        known = self._listed.get(fleet)
        if known is None or time.monotonic() - known[0] > SERVERS_KEPT:
            found = await self._ask(lambda tx: servers.all_of(tx, fleet))
            if found is not None:
                known = self._listed[fleet] = (time.monotonic(), found)
        return known[1] if known else None

    async def fleets(self) -> tuple[str, ...]:
        """Names of all fleets; the last answer while the ledger is away."""
        if not self._fleets[1] or time.monotonic() - self._fleets[0] > SERVERS_KEPT:
            found = await self._ask(fleets.all)
            if found is not None:
                self._fleets = (time.monotonic(), tuple(fleet.name for fleet in found))
        return self._fleets[1]

    async def _ask(self, question: Callable[[Transaction], Awaitable[Answer]]) -> Answer | None:
        """The ledger's answer, or None where it is away or was away a moment ago."""
        if self.away and time.monotonic() - self._asked_in_vain < RETRY:
            return None
        try:
            async with self._ledger.begin() as tx:
                answer = await question(tx)
        except UnavailableError:
            self.away, self._asked_in_vain = True, time.monotonic()
            return None
        self.away = False
        return answer

    def _keep_names(self, found: Mapping[str, str], now: float) -> None:
        if len(self._names) > MOST_NAMES:
            self._names = {id_: kept for id_, kept in self._names.items() if now - kept[0] <= NAMES_KEPT}
        self._names.update({id_: (now, name) for id_, name in found.items()})
