"""A fleet in the ledger and in live state, a driver that speaks for its bots, and a courier with a receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from rota.hooks.address import Networks
from rota.hooks.post import Post
from rota.ledger import accounts, fleets, profiles
from rota.ledger.connection import Ledger
from rota.ledger.fleets import Fleet
from rota.live.liveness import pulse
from rota.live.scripts import Live
from rota.steward.deliver import Courier
from rota.steward.rebuild import rebuild
from tests.hooks.receiver import Receiver
from tests.ledger.hooked import Hooked
from tests.live.driver import TTL, Driver

LOOPBACK = Networks("127.0.0.0/8")


@pytest.fixture
async def policy(ledger: Ledger, fleet: str) -> Fleet:
    async with ledger.begin() as tx:
        return await fleets.create(tx, fleet, interval=30, ttl=TTL)


@pytest.fixture
async def driver(ledger: Ledger, live: Live, policy: Fleet) -> Driver:
    """As the steward found it: built from the ledger, heard, and past the first ttl."""
    await rebuild(ledger, live, policy)
    await pulse(live, policy.name, "web", ttl=TTL)
    made = Driver(live, policy.name)
    await made.pass_time(TTL * 1100 + 1)
    return made


async def known(ledger: Ledger, fleet: str) -> Fleet:
    async with ledger.begin() as tx:
        return await fleets.get(tx, fleet)


async def make_profile(ledger: Ledger, fleet: str, name: str = "acme", *, wanted: bool = True) -> str:
    async with ledger.begin() as tx:
        owner = await accounts.default(tx)
        made = await profiles.create(tx, account=owner.id, fleet=fleet, name=name, config={}, wanted=wanted)
    return made.id


async def set_wanted(ledger: Ledger, profile: str, *, wanted: bool) -> None:
    async with ledger.begin() as tx:
        await profiles.set_wanted(tx, profile, wanted=wanted, account=None)


@pytest.fixture
async def hooked(ledger: Ledger) -> Hooked:
    made = Hooked(ledger)
    await made.add_profiles(3)
    return made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as made:
        yield made


@pytest.fixture
async def courier(migrated_database_url: str) -> AsyncIterator[Courier]:
    own = Ledger(migrated_database_url)
    async with Post(LOOPBACK, whole=5) as post:
        made = Courier(own, post)
        yield made
        await made.stop()
    await own.aclose()
