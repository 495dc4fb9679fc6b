"""Drains of bots and of whole servers: what they have is ended in order, nothing new begins."""

from __future__ import annotations

import pytest

from rota.errors import NotFoundError
from rota.live import bots
from tests.live.driver import Driver


async def order(driver: Driver, subject: str, *, draining: bool = True) -> int:
    return await bots.drain(driver.live, driver.fleet, subject, draining=draining)


async def test_a_drained_server_moves_its_profile_only_after_the_old_bot_has_stopped(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.auth("s2/1")
    assert await order(driver, "s1") == 1
    assert (await driver.beat("s2/1")).code == "wait"
    assert (await driver.beat("s1/1", work)).code == "stop"
    assert (await driver.beat("s2/1")).code == "wait"
    assert (await driver.beat("s1/1")).code == "exit"
    assert (await driver.beat("s2/1")).code == "start"


async def test_whoever_comes_to_a_drained_server_takes_nothing(driver: Driver) -> None:
    await driver.want("prf_1")
    assert await order(driver, "s1") == 0
    await driver.auth("s1/9")
    assert (await driver.beat("s1/9")).code == "exit"


async def test_a_bot_that_comes_back_with_its_lease_to_a_drained_server_is_stopped(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.leave("s1/1")
    await order(driver, "s1")
    assert await driver.auth("s1/1", leased=work) is None
    assert (await driver.beat("s1/1", work)).code == "stop"
    assert (await driver.beat("s1/1")).code == "exit"


async def test_an_undone_drain_lets_bots_work_again_but_not_those_that_are_drained_singly(driver: Driver) -> None:
    for slot in ("s1/1", "s1/2"):
        await driver.auth(slot)
    await order(driver, "s1/1")
    assert await order(driver, "s1") == 1
    assert await order(driver, "s1", draining=False) == 1
    await driver.want("prf_1")
    assert (await driver.beat("s1/1")).code == "exit"
    assert (await driver.beat("s1/2")).code == "start"


async def test_a_bot_of_a_drained_server_cannot_be_let_off_singly(driver: Driver) -> None:
    await driver.auth("s1/1")
    await order(driver, "s1")
    assert await order(driver, "s1/1", draining=False) == 0
    assert (await driver.beat("s1/1")).code == "exit"


async def test_draining_again_changes_nothing(driver: Driver) -> None:
    await driver.working("s1/1")
    assert [await order(driver, "s1") for _ in range(2)] == [1, 0]


async def test_a_bots_drain_ends_with_the_bot(driver: Driver) -> None:
    await driver.auth("s1/1")
    await order(driver, "s1/1")
    await driver.leave("s1/1")
    assert await bots.drained(driver.live, driver.fleet) == set()
    with pytest.raises(NotFoundError):
        await order(driver, "s1/1")
    await driver.want("prf_1")
    await driver.auth("s1/1")
    assert (await driver.beat("s1/1")).code == "start"


async def test_a_process_that_takes_a_drained_slot_over_is_not_given_the_work_on(driver: Driver) -> None:
    await driver.working("s1/1")
    await order(driver, "s1")
    await driver.auth("s1/1")
    assert (await driver.beat("s1/1")).code == "exit"
    assert (await driver.profile("prf_1")).phase == "held"


async def test_a_large_server_is_drained_in_steps(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bots, "STEP", 3)
    for number in range(10):
        await driver.auth(f"s1/{number}")
    assert await order(driver, "s1") == 10
