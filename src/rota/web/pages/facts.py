"""What pages know from the ledger: profiles' names, servers, fleets, drains and open incidents, kept for a moment.

One per web worker, so that a page that is rendered every second does not ask the ledger every second, and goes on with
the last answers while the ledger is away.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Generic, TypeVar

from rota.errors import UnavailableError
from rota.ledger import drains, fleets, incidents, profiles, servers
from rota.ledger.connection import Ledger, Transaction
from rota.ledger.drains import Drain
from rota.ledger.incidents import Incident
from rota.ledger.servers import Server

NAMES_KEPT, SERVERS_KEPT, ORDERS_KEPT = 30.0, 3.0, 0.9
"""Seconds for which an answer is good; `ORDERS_KEPT` is for drains and incidents, shorter than pages are read anew."""
RETRY = 3.0
"""Seconds before a ledger that was away is asked again: each try may take as long as its timeout."""
MOST_NAMES = 20_000
"""Names kept at once; more than pages show between two cleanings."""


Answer = TypeVar("Answer")


class Kept(Generic[Answer]):
    """Fleet → the ledger's newest answer to one question about it."""

    def __init__(self, question: Callable[[Transaction, str], Awaitable[Answer]]) -> None:
        self.question = question
        self.answers: dict[str, tuple[float, Answer]] = {}


class Facts:
    """The ledger's answers; `away` tells whether the last question was in vain."""

    def __init__(self, ledger: Ledger) -> None:
        self.away = False
        self._ledger = ledger
        self._asked_in_vain = 0.0
        self._names: dict[str, tuple[float, str]] = {}
        self._listed: Kept[list[Server]] = Kept(servers.all_of)
        self._drains: Kept[list[Drain]] = Kept(drains.all_of)
        self._incidents: Kept[list[Incident]] = Kept(incidents.open_of)
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
        return await self._newest(self._listed, fleet, SERVERS_KEPT)

    async def drains(self, fleet: str, *, kept: float | None = None) -> dict[str, Drain]:
        """Hostname or bot's id → its drain, at most `kept` seconds old; the last answer while the ledger is away."""
        found = await self._newest(self._drains, fleet, ORDERS_KEPT if kept is None else kept)
        return {drain.subject: drain for drain in found or ()}

    async def open_incidents(self, fleet: str) -> list[Incident]:
        """The fleet's open incidents, the oldest first; the last answer while the ledger is away."""
        return await self._newest(self._incidents, fleet, ORDERS_KEPT) or []

    async def fleets(self) -> tuple[str, ...]:
        """Names of all fleets; the last answer while the ledger is away."""
        if not self._fleets[1] or time.monotonic() - self._fleets[0] > SERVERS_KEPT:
            found = await self._ask(fleets.all)
            if found is not None:
                self._fleets = (time.monotonic(), tuple(fleet.name for fleet in found))
        return self._fleets[1]

    async def _newest(self, answers: Kept[Answer], fleet: str, kept: float) -> Answer | None:
        known = answers.answers.get(fleet)
        if known is None or time.monotonic() - known[0] > kept:
            found = await self._ask(lambda tx: answers.question(tx, fleet))
            if found is not None:
                known = answers.answers[fleet] = (time.monotonic(), found)
        return known[1] if known else None

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
