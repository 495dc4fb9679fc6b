"""One steward leads, another takes over when it is gone, and one duty's failure keeps no other from its own."""

from __future__ import annotations

import asyncio

import pytest

from rota.errors import UnavailableError
from rota.ledger import drains
from rota.ledger.connection import Ledger
from rota.ledger.fleets import Fleet
from rota.live import snapshot
from rota.live.scripts import Live
from rota.live.snapshot import bot as bot_view
from rota.steward import lead
from rota.steward.lead import Steward
from tests.live.driver import Driver
from tests.steward.conftest import make_profile
from tests.unit.sdk_peer import eventually


@pytest.fixture(autouse=True)
def quick_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "ROUND", 0.02)


class Running:
    """A steward that rounds until it is told to stop."""

    def __init__(self, ledger: Ledger, live: Live) -> None:
        self.steward = Steward(ledger, live)
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self.steward.run(self._stop))

    @property
    def leads(self) -> bool:
        return self.steward._leading

    async def stop(self) -> None:
        self._stop.set()
        await self._task


async def until_waiting(live: Live, fleet: str, profile: str) -> None:
    async with asyncio.timeout(10):
        while True:
            seen = (await snapshot.profiles(live, fleet, [profile])).get(profile)
            if seen and seen.phase == "waiting":
                return
            await asyncio.sleep(0.01)


async def test_a_steward_builds_live_state_and_finishes_what_the_outbox_holds(
    ledger: Ledger, live: Live, policy: Fleet
) -> None:
    profile = await make_profile(ledger, policy.name)
    running = Running(ledger, live)
    await until_waiting(live, policy.name, profile)
    assert running.leads
    await running.stop()


async def test_another_steward_leads_when_the_leader_stops(ledger: Ledger, live: Live) -> None:
    first = Running(ledger, live)
    await eventually(lambda: first.leads)
    second = Running(ledger, live)
    await first.stop()
    await eventually(lambda: second.leads)
    await second.stop()


async def test_two_stewards_never_lead_at_once(ledger: Ledger, live: Live) -> None:
    both = [Running(ledger, live), Running(ledger, live)]
    await eventually(lambda: any(running.leads for running in both))
    assert [running.leads for running in both].count(True) == 1
    for running in both:
        await running.stop()


async def test_a_steward_carries_drains_out_that_nobody_else_could(ledger: Ledger, live: Live, driver: Driver) -> None:
    """They were ordered while live state was away, and one whose deadline has passed is nobody else's to carry out."""
    await driver.working("s1/1")
    work = await driver.working("s2/1", "prf_2")
    async with ledger.begin() as tx:
        await drains.order(tx, driver.fleet, "s1", within=0)
        await drains.order(tx, driver.fleet, "s2")
    running = Running(ledger, live)
    try:
        async with asyncio.timeout(10):
            while True:
                late = await bot_view(live, driver.fleet, "s1/1")
                if late is None and (await driver.beat("s2/1", work)).code == "stop":
                    break
                await asyncio.sleep(0.01)
    finally:
        await running.stop()
    assert (await driver.profile("prf_1")).phase == "held"


@pytest.mark.parametrize("failure", [UnavailableError("gone"), ValueError("a bug")], ids=["away", "bug"])
async def test_a_duty_that_fails_keeps_no_other_from_its_own(
    ledger: Ledger, live: Live, policy: Fleet, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    async def fail(*_arguments: object) -> int:
        raise failure

    monkeypatch.setattr(lead, "reap", fail)
    profile = await make_profile(ledger, policy.name)
    running = Running(ledger, live)
    await until_waiting(live, policy.name, profile)
    await running.stop()
