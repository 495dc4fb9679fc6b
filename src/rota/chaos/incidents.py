"""What rota itself reports as incidents, read over REST: the one place where its own word counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from rota.chaos.stage import FLEET, POLL, Stage

RAISED_WITHIN = 5.0
CLOSED_WITHIN = 2.0
"""Times the ttl, and `GRACE` seconds more: an incident lasts as long as a lease does."""
GRACE = 10.0


class Incidents:
    """Those of a stage's fleet that were not there when `begin` was called."""

    def __init__(self, stage: Stage, known: set[int]) -> None:
        self._stage = stage
        self._known = known

    @classmethod
    async def begin(cls, stage: Stage) -> Incidents:
        """From this moment on."""
        return cls(stage, {incident["id"] for incident in await _read(stage)})

    async def one_that_names(self, kind: str, servers: Sequence[str]) -> tuple[str, ...]:
        """What is wrong unless exactly one of a kind was raised that names these servers alone, and is soon closed."""
        found = await self._until(kind, 1)
        if len(found) != 1:
            return (f"{len(found)} incidents of kind {kind} were raised instead of one",)
        named = set(found[0]["detail"].get("servers", ()))
        if named != set(servers):
            return (f"the incident of kind {kind} concerns {sorted(servers)} and says: {found[0]['message']}",)
        return await self._closed(kind)

    async def one_for_each(self, kind: str, subjects: Sequence[str]) -> list[str]:
        """Which subjects have no incident of a kind."""
        found = await self._until(kind, len(subjects))
        raised = {incident["subject"] for incident in found}
        return [f"no incident of kind {kind} for {subject}" for subject in subjects if subject not in raised]

    async def _until(self, kind: str, number: int) -> list[dict[str, Any]]:
        """The new ones of a kind, when there are so many, or when no more have come for a while."""
        deadline = self._stage.now + RAISED_WITHIN
        while True:
            found = [one for one in await _read(self._stage) if one["kind"] == kind and one["id"] not in self._known]
            if len(found) >= number or self._stage.now > deadline:
                return found
            await asyncio.sleep(POLL)

    async def _closed(self, kind: str) -> tuple[str, ...]:
        deadline = self._stage.now + CLOSED_WITHIN * self._stage.options.ttl + GRACE
        while any(one["closed_at"] is None for one in await self._until(kind, 1)):
            if self._stage.now > deadline:
                return (f"the incident of kind {kind} is not closed",)
            await asyncio.sleep(POLL)
        return ()


async def _read(stage: Stage) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await stage.rest.get(f"/fleets/{FLEET}/incidents", limit=500))["items"]
    return items
