"""What tests of deliveries ask: until when to wait, and what a receiver has that drops doubles."""

from __future__ import annotations

import asyncio
from typing import Any

from rota.ledger import webhooks
from rota.ledger.webhooks import Webhook
from tests.hooks.receiver import Received
from tests.ledger.hooked import Hooked

WITHIN = 20.0


async def seen(hooked: Hooked, webhook: str) -> Webhook:
    async with hooked.ledger.begin() as tx:
        return await webhooks.get(tx, webhook)


async def until(hooked: Hooked, query: str, within: float = WITHIN) -> None:
    """Waits until the query says yes."""
    async with asyncio.timeout(within):
        while not await hooked.execute(query):  # noqa: ASYNC110 - PostgreSQL tells nobody
            await asyncio.sleep(0.01)


SETTLED = (
    "SELECT NOT EXISTS (SELECT FROM webhook_touches) AND NOT EXISTS (SELECT FROM webhook_positions WHERE due_at IS NOT "
    "NULL) AND NOT EXISTS (SELECT FROM webhook_deliveries WHERE dead_at IS NULL) "
    "AND NOT EXISTS (SELECT FROM webhooks WHERE swept_to IS NOT NULL)"
)


def by_profile(received: list[Received], *, once: bool = True) -> dict[str, list[Any]]:
    """What a receiver that drops doubles has of each profile, in the order in which it came."""
    got: dict[str, list[Any]] = {}
    known: dict[str, Any] = {}
    for one in received:
        if one.id in known:
            assert not once
            assert known[one.id] == one.data["records"], "the same id says the same"
            continue
        known[one.id] = one.data["records"]
        got.setdefault(one.data["profile"], []).extend(record["data"] for record in one.data["records"])
    return got
