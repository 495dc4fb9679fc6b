"""Profiles with records, and a webhook that is to get them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from rota.errors import ProblemError
from rota.hooks.signature import new_secret
from rota.ledger import accounts, fences, profiles, pushes, webhook_deliveries, webhook_positions, webhooks
from rota.ledger.connection import Ledger, Transaction
from rota.ledger.lines import lines
from rota.ledger.pushes import Batch
from rota.ledger.webhook_deliveries import Delivery
from rota.protocol import RecordFields

EPOCH = 10


class Hooked:
    """One ledger with profiles, which are named by their number."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.profiles: list[str] = []
        self._batches = 0

    async def add_profiles(self, number: int, account: str | None = None) -> None:
        async with self.ledger.begin() as tx:
            owner = account or (await accounts.default(tx)).id
            for _ in range(number):
                made = await profiles.create(tx, account=owner, name=f"p{len(self.profiles)}", config={})
                await fences.raise_to(tx, [(made.id, EPOCH)])
                self.profiles.append(made.id)

    async def add_webhook(self, url: str = "https://receiver.example/", secret: str = "", **wish: Any) -> str:
        whose: dict[str, Any] = {} if "account" in wish else {"fleet": "default"}
        async with self.ledger.begin() as tx:
            made = await webhooks.create(tx, url=url, secret=secret or new_secret(), **whose, **wish)
        return made.id

    async def push_in(self, tx: Transaction, profile: int, *data: Any, kind: str = "record") -> None:
        """Part of a push, in a transaction that may be held open."""
        self._batches += 1
        records: list[RecordFields] = [{"kind": kind, "data": item} for item in data]
        batch = Batch(self.profiles[profile], EPOCH, self._batches, "s/1", lines(records))
        (outcome,) = await pushes.take(tx, [batch])
        assert not isinstance(outcome, ProblemError)

    async def push(self, profile: int, *data: Any, kind: str = "record") -> None:
        async with self.ledger.begin() as tx:
            await self.push_in(tx, profile, *data, kind=kind)

    async def find(self) -> None:
        """What the steward does until nothing is left to be handed on."""
        while True:
            async with self.ledger.begin() as tx:
                more = await webhook_positions.sweep(tx)
            if not more:
                break
        async with self.ledger.begin() as tx:
            await webhook_positions.spread(tx)

    async def begin(self, webhook: str, kinds: Sequence[str] = (), most: int = 100) -> list[Delivery]:
        async with self.ledger.begin() as tx:
            return (await webhook_deliveries.begin(tx, webhook, kinds, most))[0]

    async def data(self, delivery: Delivery) -> list[Any]:
        async with self.ledger.begin() as tx:
            return [json.loads(str(sent.data)) for sent in await webhook_deliveries.read(tx, delivery)]

    async def deliver(self, delivery: Delivery) -> bool:
        async with self.ledger.begin() as tx:
            return await webhook_deliveries.delivered(tx, delivery)

    async def all_of(self, webhook: str, kinds: Sequence[str] = ()) -> dict[int, list[Any]]:
        """Everything that there is for a webhook, delivered at once."""
        got: dict[int, list[Any]] = {}
        await self.find()
        more = True
        while more:
            async with self.ledger.begin() as tx:
                begun, more = await webhook_deliveries.begin(tx, webhook, kinds, 100)
            more = more or bool(begun)
            for delivery in begun:
                got.setdefault(self.profiles.index(delivery.profile), []).extend(await self.data(delivery))
                assert await self.deliver(delivery)
        return got

    async def execute(self, statement: str, **values: Any) -> Any:
        async with self.ledger.begin() as tx:
            result = await tx.execute(text(statement), values)
            return result.scalar_one_or_none() if result.returns_rows else result.rowcount

    async def until_blocked(self) -> None:
        """Waits until a transaction of this database waits for another one."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        async with asyncio.timeout(10):
            while not await self.execute(query):  # noqa: ASYNC110 - PostgreSQL tells nobody
                await asyncio.sleep(0.01)
