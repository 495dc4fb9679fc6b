"""Drains outlast live state, end what is late, and end with the bot or by an order."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from rota.ledger import drains, fleets
from rota.ledger.connection import Ledger
from rota.ledger.history import events_page
from rota.ledger.tables import drains as drains_table
from rota.live import bots
from rota.live.liveness import reap
from rota.live.scripts import Live
from rota.live.snapshot import bot as bot_view
from rota.protocol import deadline_after_ms
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


async def die(driver: Driver) -> None:
    """All bots fall silent for longer than they may."""
    await driver.pass_time(deadline_after_ms(TTL) + 1_000)
    assert (await reap(driver.live, driver.fleet, 100)).count >= 1


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
    assert await bot_view(live, driver.fleet, "s1/1") is None
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


async def test_a_bot_that_is_killed_at_the_deadline_is_told_to_exit_when_it_comes_back(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    await driver.working("s1/1")
    await order(ledger, driver.fleet, "s1/1", within=0)
    await drain(ledger, live, driver.fleet)
    assert await bot_view(live, driver.fleet, "s1/1") is None
    await record(ledger, live, driver.fleet)
    async with ledger.begin() as tx:
        (killed,) = [event for event in (await events_page(tx, driver.fleet)).items if event.kind == "killed"]
    assert killed.reason == "drain"
    await driver.auth("s1/1")
    # The deadline has passed long ago; who comes without work is told, not killed once more.
    await drain(ledger, live, driver.fleet)
    assert (await driver.beat("s1/1")).code == "exit"
    await driver.leave("s1/1")
    await record(ledger, live, driver.fleet)
    assert await ordered(ledger, driver.fleet) == []


@pytest.mark.parametrize("reason", ["crash", "silence"])
async def test_a_drained_bot_that_did_not_say_that_it_goes_is_told_to_exit_when_it_comes_back(
    ledger: Ledger, live: Live, driver: Driver, reason: str
) -> None:
    await driver.auth("s1/1")
    await order(ledger, driver.fleet, "s1/1")
    await drain(ledger, live, driver.fleet)
    if reason == "crash":
        await driver.leave("s1/1", reason="crash")
    else:
        await die(driver)
    await record(ledger, live, driver.fleet)
    await drain(ledger, live, driver.fleet)
    async with ledger.begin() as tx:
        (known,) = await drains.all_of(tx, driver.fleet)
    assert known.gone_at is not None
    await driver.auth("s1/1")
    await drain(ledger, live, driver.fleet)
    async with ledger.begin() as tx:
        (known,) = await drains.all_of(tx, driver.fleet)
    assert known.gone_at is None
    assert (await driver.beat("s1/1")).code == "exit"


async def test_the_drain_of_a_bot_that_stays_away_ends_after_an_hour(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    await driver.auth("s1/1")
    await order(ledger, driver.fleet, "s1/1")
    await drain(ledger, live, driver.fleet)
    await die(driver)
    await drain(ledger, live, driver.fleet)
    async with ledger.begin() as tx:
        long_ago = drains_table.c.gone_at - drains.GONE_FOR
        await tx.execute(update(drains_table).where(drains_table.c.fleet == driver.fleet).values(gone_at=long_ago))
    await drain(ledger, live, driver.fleet)
    assert await ordered(ledger, driver.fleet) == []
    await drain(ledger, live, driver.fleet)
    assert await bots.drained(live, driver.fleet) == set()


async def test_the_drain_of_a_bot_that_is_not_there_is_forgotten(ledger: Ledger, live: Live, driver: Driver) -> None:
    await order(ledger, driver.fleet, "s1/1")
    await drain(ledger, live, driver.fleet)
    assert await ordered(ledger, driver.fleet) == []
    assert await bots.drained(live, driver.fleet) == set()
