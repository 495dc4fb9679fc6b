"""Several processes in one slot: whoever holds it after some replacements keeps it, and the others are refused."""

from __future__ import annotations

import pytest

from rota.errors import SlotContestedError
from rota.live import bots, liveness
from tests.live.driver import TTL, Driver

SLOT = "s1/1"


async def fight(driver: Driver, rounds: int) -> None:
    """Processes replace each other, and each one beats."""
    for _ in range(rounds):
        await driver.auth(SLOT)
        await driver.pass_time(5)
        await driver.beat(SLOT)


async def test_after_three_replacements_within_a_ttl_the_later_process_is_refused(driver: Driver) -> None:
    await fight(driver, 4)
    with pytest.raises(SlotContestedError) as refused:
        await driver.auth(SLOT)
    assert refused.value.retry_after == TTL / 3
    assert await bots.contested(driver.live, driver.fleet, 10) == [SLOT]
    assert (await driver.beat(SLOT)).code == "wait"


async def test_whoever_holds_a_contested_slot_keeps_its_work(driver: Driver) -> None:
    await driver.auth(SLOT)
    work = await driver.working("s1/2", "prf_1")
    await driver.leave("s1/2")
    await fight(driver, 2)
    told = await driver.beat(SLOT)
    work = work.model_copy(update={"epoch": told.epoch})
    await driver.beat(SLOT, work)
    await driver.pass_time(70_000)
    await driver.beat(SLOT, work)
    await driver.auth(SLOT)
    await driver.pass_time(5)
    told = await driver.beat(SLOT)
    assert told.code == "start"
    work = work.model_copy(update={"epoch": told.epoch})
    await driver.beat(SLOT, work)
    with pytest.raises(SlotContestedError):
        await driver.auth(SLOT)
    assert (await driver.beat(SLOT, work)).code == "continue"


async def test_replacements_that_are_further_apart_are_restarts(driver: Driver) -> None:
    for _ in range(12):
        await fight(driver, 1)
        await driver.pass_time(40_000)
    assert await bots.contested(driver.live, driver.fleet, 10) == []


async def test_a_process_that_never_heard_its_answer_is_not_another_one(driver: Driver) -> None:
    await driver.auth(SLOT)
    await driver.beat(SLOT)
    for _ in range(10):
        await driver.auth(SLOT)
    assert (await driver.beat(SLOT)).code == "wait"


async def test_the_slot_is_free_when_its_holder_is_gone(driver: Driver) -> None:
    await fight(driver, 4)
    with pytest.raises(SlotContestedError):
        await driver.auth(SLOT)
    await driver.leave(SLOT)
    assert await bots.contested(driver.live, driver.fleet, 10) == []
    await driver.auth(SLOT)


async def test_a_holder_that_falls_silent_loses_the_slot_although_the_other_knocks(driver: Driver) -> None:
    await fight(driver, 4)
    for _ in range(4):
        with pytest.raises(SlotContestedError):
            await driver.auth(SLOT)
        await driver.pass_time(30_000)
        await liveness.reap(driver.live, driver.fleet, 100)
    await driver.auth(SLOT)


async def test_the_slot_is_no_longer_contested_when_nobody_else_has_asked_for_one_lease(driver: Driver) -> None:
    await fight(driver, 4)
    with pytest.raises(SlotContestedError):
        await driver.auth(SLOT)
    for _ in range(4):
        await driver.pass_time(30_000)
        await driver.beat(SLOT)
    assert await bots.contested(driver.live, driver.fleet, 10) == []
    await driver.auth(SLOT)


async def test_the_holders_own_return_with_its_lease_is_never_refused(driver: Driver) -> None:
    await fight(driver, 3)
    work = await driver.working(SLOT)
    with pytest.raises(SlotContestedError):
        await driver.auth(SLOT)
    restored = await driver.auth(SLOT, leased=work)
    assert restored is not None
    assert restored.epoch == work.epoch


async def test_a_version_that_looks_like_what_rota_notes_is_only_a_version(driver: Driver) -> None:
    hostile = '1","replaced":"1 2 3 4 5 6","due":"1"}'
    newcomer = bots.Newcomer(SLOT, bytes(16), hostile, {}, "::1")
    for _ in range(4):
        await bots.auth(driver.live, driver.fleet, newcomer, ttl=TTL, leased=None)
