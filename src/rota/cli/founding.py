"""What a new, empty database needs before web workers and stewards can use it."""

from __future__ import annotations

import asyncio

from rota.ledger import keys
from rota.ledger.connection import Ledger
from rota.ledger.migrations import upgrade


def found(database_url: str) -> str:
    """Makes the schema and an operator's key, and returns the key."""
    upgrade(database_url)
    return asyncio.run(_operator_key(database_url))


async def _operator_key(database_url: str) -> str:
    ledger = Ledger(database_url)
    try:
        async with ledger.begin() as tx:
            _, secret = await keys.create_api_key(tx, role="operator", label="rota chaos")
        return secret
    finally:
        await ledger.aclose()
