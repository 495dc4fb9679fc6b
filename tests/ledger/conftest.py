"""A profile to work on."""

from __future__ import annotations

import pytest

from rota.ledger import accounts, profiles
from rota.ledger.connection import Ledger
from rota.ledger.profiles import Profile


@pytest.fixture
async def profile(ledger: Ledger) -> Profile:
    async with ledger.begin() as tx:
        owner = await accounts.default(tx)
        return await profiles.create(tx, account=owner.id, name="acme", config={"url": "https://example.com"})
