"""The store's clock is set while rota runs: time goes on evenly for live state all the same."""

from __future__ import annotations

import time

import pytest

from rota.live import bots, clock, liveness, profiles
from rota.live.liveness import Hearing
from rota.live.scripts import Live
from rota.live.snapshot import bot as bot_view
from rota.protocol import deadline_after_ms
from tests.live.driver import TTL, Driver

HOUR = 3_600_000
STEPS = pytest.mark.parametrize("step", [HOUR, -HOUR, 60_000, -60_000])


@pytest.fixture
async def hearing(driver: Driver) -> Hearing:
    """A web worker that has looked at the clock before."""
    made = Hearing(driver.live, driver.fleet)
    await made.pulse(TTL)
    await made.pulse(TTL)
    return made


async def now(driver: Driver) -> float:
    return await clock.now_ms(driver.live, driver.fleet)


@STEPS
async def test_a_clock_that_was_set_goes_on_where_it_stood(driver: Driver, hearing: Hearing, step: int) -> None:
    before = await now(driver)
    await driver.set_clock(step)
    await hearing.pulse(TTL)
    assert await now(driver) == pytest.approx(before, abs=1000)


@STEPS
async def test_nobody_dies_and_nothing_is_given_away_because_the_clock_was_set(
    driver: Driver, hearing: Hearing, step: int
) -> None:
    work = await driver.working("s1/1")
    await driver.working("s1/2", "prf_2")
    await bots.kill(driver.live, driver.fleet, "s1/2")
    await driver.auth("s1/3")
    for _ in range(2):
        await driver.set_clock(step)
        assert (await liveness.reap(driver.live, driver.fleet, 100)).deaf
        assert await profiles.promote(driver.live, driver.fleet, 100) == (0, False)
        assert (await driver.beat("s1/3")).code == "wait"
        await hearing.pulse(TTL)
        assert (await liveness.reap(driver.live, driver.fleet, 100)).count == 0
        assert await profiles.promote(driver.live, driver.fleet, 100) == (0, False)
        assert (await driver.beat("s1/1", work)).code == "continue"
        assert (await driver.beat("s1/3")).code == "wait"


@STEPS
async def test_a_death_is_noticed_in_time_after_the_clock_was_set(driver: Driver, hearing: Hearing, step: int) -> None:
    await driver.auth("s1/1")
    await driver.auth("s1/2")
    await driver.set_clock(step)
    # Given by the wrong time.
    await driver.beat("s1/1")
    await driver.auth("s1/3")
    await hearing.pulse(TTL)
    await driver.pass_time(deadline_after_ms(TTL) + 1000)
    await liveness.reap(driver.live, driver.fleet, 100)
    await driver.pass_time(deadline_after_ms(TTL) + 1000)
    await liveness.reap(driver.live, driver.fleet, 100)
    for slot in ("s1/1", "s1/2", "s1/3"):
        assert await bot_view(driver.live, driver.fleet, slot) is None


async def test_what_was_held_by_the_wrong_time_is_not_held_for_longer(driver: Driver, hearing: Hearing) -> None:
    await driver.working("s1/1")
    await driver.set_clock(HOUR)
    await driver.leave("s1/1", "crash")
    await hearing.pulse(TTL)
    await profiles.promote(driver.live, driver.fleet, 100)
    held = await driver.profile("prf_1")
    assert held.not_before is not None
    assert held.not_before.timestamp() * 1000 - await now(driver) <= 600_000
    await driver.pass_time(600_000)
    assert (await profiles.promote(driver.live, driver.fleet, 100))[0] == 1


async def test_of_two_workers_that_see_it_at_once_one_sets_the_clock_right(driver: Driver) -> None:
    before = await now(driver)
    workers = [Hearing(driver.live, driver.fleet) for _ in range(2)]
    for _ in range(2):
        for worker in workers:
            await worker.pulse(TTL)
    await driver.set_clock(HOUR)
    for _ in range(2):
        for worker in workers:
            await worker.pulse(TTL)
    assert await now(driver) == pytest.approx(before, abs=1000)


async def test_a_worker_that_has_just_started_leaves_a_gap_to_the_others(driver: Driver, hearing: Hearing) -> None:
    await driver.auth("s1/1")
    before = await now(driver)
    await driver.set_clock(HOUR)
    newcomer = Hearing(driver.live, driver.fleet)
    assert (await newcomer.pulse(TTL)).gap
    await hearing.pulse(TTL)
    assert not (await newcomer.pulse(TTL)).gap
    assert await now(driver) == pytest.approx(before, abs=1000)


@pytest.mark.parametrize("bots_there", [True, False], ids=["bots", "nobody"])
async def test_a_clock_that_goes_back_is_made_good_by_a_worker_that_has_never_looked_before(
    driver: Driver, bots_there: bool
) -> None:
    """Time never does: nobody has to remember anything to see that."""
    if bots_there:
        await driver.auth("s1/1")
    before = await now(driver)
    await driver.set_clock(-HOUR)
    newcomer = Hearing(driver.live, driver.fleet)
    for _ in range(2):
        await newcomer.pulse(TTL)
    assert await now(driver) == pytest.approx(before, abs=1000)
    assert (await liveness.reap(driver.live, driver.fleet, 100)).deaf


async def test_a_small_step_back_is_made_good_by_what_the_worker_remembers(driver: Driver) -> None:
    """A second passes for the worker and none for the store: nothing that was noted lies in the future."""
    passed = 0.0
    worker = Hearing(driver.live, driver.fleet, clock=lambda: time.monotonic() + passed)
    await driver.auth("s1/1")
    await worker.pulse(TTL)
    before = await now(driver)
    passed = 1.0
    assert (await worker.pulse(TTL)).steps == 1
    assert await now(driver) == pytest.approx(before + 1000, abs=300)


async def test_an_outage_is_told_from_a_clock_that_was_set(driver: Driver) -> None:
    """Time has passed for the worker, too."""
    passed = 0.0
    worker = Hearing(driver.live, driver.fleet, clock=lambda: time.monotonic() + passed)
    await driver.auth("s1/1")
    await worker.pulse(TTL)
    before = await now(driver)
    await driver.pass_time(HOUR, hearing=False)
    passed = HOUR / 1000
    found = await worker.pulse(TTL)
    assert found.deaf_until is not None
    assert await now(driver) == pytest.approx(before + HOUR, abs=1000)
    assert (await liveness.reap(driver.live, driver.fleet, 100)).deaf


async def test_the_clock_goes_back_to_the_stores_own_so_slowly_that_no_lease_notices(
    live: Live, driver: Driver
) -> None:
    key = f"{{{driver.fleet}}}:pulse"
    # A second without a pulse, and then one.
    (before, _) = await live.read(("HGET", key, "offset"), ("HINCRBY", key, "heard", -1000))
    assert int(before) > 0
    await driver.pulse()
    (after,) = await live.read(("HGET", key, "offset"))
    assert int(before) - 15 <= int(after) < int(before)
