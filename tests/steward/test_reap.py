"""Silence ends a bot, and its profile goes to another."""

from __future__ import annotations

import pytest

from rota.live.scripts import Live
from rota.steward import reap as reap_module
from rota.steward.promote import promote
from rota.steward.reap import reap
from tests.live.driver import TTL, Driver

DEADLINE = TTL * 1100 + 1
"""Milliseconds after which a bot that was heard now is overdue."""


async def test_a_silent_bot_is_removed_and_another_takes_over(live: Live, driver: Driver) -> None:
    work = await driver.long_at_work("s1/1")
    await driver.auth("s2/1")
    await driver.pass_time(DEADLINE - 5000)
    await driver.beat("s2/1")
    assert await reap(live, driver.fleet) == 0
    await driver.pass_time(5000)
    assert await reap(live, driver.fleet) == 1
    told = await driver.beat("s2/1")
    assert (told.code, told.profile) == ("start", work.profile)
    assert told.epoch > work.epoch


async def test_a_crowd_is_removed_in_bounded_steps_and_the_next_round_goes_on(
    live: Live, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reap_module, "STEP", 3)
    monkeypatch.setattr(reap_module, "STEPS_A_ROUND", 2)
    for number in range(8):
        await driver.auth(f"s1/{number}")
    await driver.pass_time(DEADLINE)
    assert [await reap(live, driver.fleet) for _ in range(3)] == [6, 2, 0]


async def test_nobody_is_removed_while_nobody_hears(live: Live, driver: Driver) -> None:
    await driver.auth("s1/1")
    await driver.pass_time(DEADLINE, hearing=False)
    assert await reap(live, driver.fleet) == 0


async def test_a_held_profile_waits_again_when_its_time_has_come(live: Live, driver: Driver) -> None:
    await driver.working("s1/1")
    await driver.leave("s1/1", "crash")
    assert (await driver.profile("prf_1")).phase == "held"
    assert await promote(live, driver.fleet) == 0
    await driver.pass_time(10_001)
    assert await promote(live, driver.fleet) == 1
    assert (await driver.profile("prf_1")).phase == "waiting"
