"""Drains outlast live state, end what is late, and end with the bot or by an order."""

from __future__ import annotations

from rota.ledger import drains, fleets
from rota.ledger.connection import Ledger
from rota.live import bots
from rota.live.scripts import Live
from rota.live.snapshot import bot as bot_view
from rota.steward.drain import drain
from rota.steward.rebuild import rebuild
from rota.steward.record import record
from tests.live.driver import TTL, Driver


async def order(ledger: Ledger, fleet: str, subject: str, within: float | None = None) -> None:
    async with ledger.begin() as tx:
        await drains.order(tx, fleet, subject, within=within)


async def ordered(ledger: Ledger, fleet: str) -> list[str]:
    async with ledger.begin() as tx:
        return [each.subject for each in await drains.all_of(tx, fleet)]


async def test_a_drained_servers_bots_are_told_to_exit(ledger: Ledger, live: Live, driver: Driver) -> None:
    await driver.auth("s1/1")
    await order(ledger, driver.fleet, "s1")
    await drain(ledger, live, driver.fleet)
    await driver.auth("s1/2")
    assert [(await driver.beat(slot)).code for slot in ("s1/1", "s1/2")] == ["exit", "exit"]


async def test_an_undone_drain_is_taken_back_whoever_undid_it(ledger: Ledger, live: Live, driver: Driver) -> None:
    await driver.auth("s1/1")
    await order(ledger, driver.fleet, "s1")
    await drain(ledger, live, driver.fleet)
    async with ledger.begin() as tx:
        await drains.undo(tx, driver.fleet, "s1")
    await drain(ledger, live, driver.fleet)
    assert (await driver.beat("s1/1")).code == "wait"


async def test_what_has_not_ended_by_the_deadline_is_killed_and_its_profile_held(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    await driver.working("s1/1")
    await order(ledger, driver.fleet, "s1", within=0)
    await drain(ledger, live, driver.fleet)
    assert await bot_view(live, driver.fleet, "s1/1", ttl=TTL) is None
    assert (await driver.profile("prf_1")).phase == "held"
    assert await ordered(ledger, driver.fleet) == ["s1"]


async def test_nothing_is_killed_before_the_deadline(ledger: Ledger, live: Live, driver: Driver) -> None:
    work = await driver.working("s1/1")
    await order(ledger, driver.fleet, "s1", within=60)
    await drain(ledger, live, driver.fleet)
    assert (await driver.beat("s1/1", work)).code == "stop"


async def test_drains_outlast_the_loss_of_all_keys(ledger: Ledger, live: Live, driver: Driver) -> None:
    for slot in ("s1/1", "s2/1"):
        await driver.auth(slot)
    await order(ledger, driver.fleet, "s1")
    await order(ledger, driver.fleet, "s2/1")
    await drain(ledger, live, driver.fleet)
    await driver.forget_everything()
    async with ledger.begin() as tx:
        policy = await fleets.get(tx, driver.fleet)
    await rebuild(ledger, live, policy)
    # While owners may still come back a bot that is not there has not gone.
    await drain(ledger, live, driver.fleet)
    assert await ordered(ledger, driver.fleet) == ["s1", "s2/1"]
    for slot in ("s1/1", "s2/1"):
        await driver.auth(slot)
    await drain(ledger, live, driver.fleet)
    assert [(await driver.beat(slot)).code for slot in ("s1/1", "s2/1")] == ["exit", "exit"]


async def test_a_bots_drain_ends_when_the_bot_goes_even_if_another_takes_its_slot_at_once(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    await driver.auth("s1/1")
    await order(ledger, driver.fleet, "s1/1")
    await drain(ledger, live, driver.fleet)
    await driver.leave("s1/1")
    await driver.auth("s1/1")
    await record(ledger, live, driver.fleet)
    await drain(ledger, live, driver.fleet)
    assert await ordered(ledger, driver.fleet) == []
    assert (await driver.beat("s1/1")).code == "wait"


async def test_the_drain_of_a_bot_that_is_not_there_is_forgotten(ledger: Ledger, live: Live, driver: Driver) -> None:
    await order(ledger, driver.fleet, "s1/1")
    await drain(ledger, live, driver.fleet)
    assert await ordered(ledger, driver.fleet) == []
    assert await bots.drained(live, driver.fleet) == set()
