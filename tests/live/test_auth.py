"""auth: entering the roster, taking a slot over, getting work back by a lease."""

from __future__ import annotations

import pytest

from rota.errors import UnavailableError, UnknownBotError
from rota.live.bots import drain, kill
from rota.live.liveness import pulse, reap
from rota.live.profiles import promote
from rota.live.scripts import Live
from rota.protocol import Working
from tests.live.driver import TTL, Driver
from tests.live.invariants import check, read_everything


async def test_auth_enters_the_roster_as_idle(driver: Driver) -> None:
    assert await driver.auth("s1/1") is None
    state = await read_everything(driver.live, driver.fleet)
    check(state)
    assert state.roster["s1/1"].phase == "idle"
    assert state.servers == {"s1": 1}


async def test_auth_is_refused_until_live_state_is_built(live: Live, fleet: str) -> None:
    await pulse(live, fleet, "steward", ttl=TTL, incarnation="first")
    with pytest.raises(UnavailableError):
        await Driver(live, fleet).auth("s1/1")


async def test_a_second_auth_of_a_slot_ends_the_first_token_at_once(driver: Driver) -> None:
    await driver.auth("s1/1")
    first = driver.digests["s1/1"]
    await driver.auth("s1/1")
    assert (await driver.beat("s1/1", digest=first)).code == "unknown"
    assert (await driver.beat("s1/1")).code == "wait"


async def test_a_restarted_process_gets_its_profile_back_under_a_new_epoch(driver: Driver) -> None:
    work = await driver.working("s1/1")
    assert await driver.auth("s1/1") is None
    told = await driver.beat("s1/1")
    assert (told.code, told.profile) == ("start", work.profile)
    assert told.epoch > work.epoch


async def test_a_lease_restores_the_assignment_under_the_same_epoch(driver: Driver) -> None:
    work = await driver.working("s1/1")
    restored = await driver.auth("s1/1", leased=work)
    assert restored is not None
    assert (restored.profile, restored.epoch) == (work.profile, work.epoch)
    assert (await driver.beat("s1/1", work)).code == "continue"


async def test_a_lease_restores_what_a_reaped_bot_had_if_nobody_took_it(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.leave("s1/1")
    restored = await driver.auth("s1/2", leased=work)
    assert restored is not None
    assert restored.epoch == work.epoch
    check(await read_everything(driver.live, driver.fleet))


async def test_a_lease_restores_nothing_once_somebody_else_is_bound(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.leave("s1/1")
    await driver.auth("s1/2")
    assert (await driver.beat("s1/2")).code == "start"
    assert await driver.auth("s1/1", leased=work) is None
    assert (await driver.beat("s1/1")).code == "wait"


async def test_a_lease_restores_nothing_after_a_stop(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.leave("s1/1")
    await driver.want(work.profile, "stopped")
    assert await driver.auth("s1/1", leased=work) is None


async def test_a_killed_bot_does_not_come_back_by_its_lease(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await kill(driver.live, driver.fleet, "s1/1")
    assert await driver.auth("s1/1", leased=work) is None
    driver.digests["s1/1"] = b"x" * 16
    with pytest.raises(UnknownBotError):
        await driver.leave("s1/1")


async def test_a_lease_raises_an_epoch_that_live_state_forgot(driver: Driver) -> None:
    await driver.want("prf_1")
    work = Working(profile="prf_1", epoch=2**52, revision=1)
    assert await driver.auth("s1/1", leased=work) is not None
    assert await driver.auth("s1/1") is None
    told = await driver.beat("s1/1")
    assert told.epoch > work.epoch


async def test_a_draining_slot_takes_its_leased_work_back_only_to_end_it(driver: Driver) -> None:
    work = await driver.long_at_work("s1/1")
    await driver.pass_time(TTL * 1100 + 1)
    await reap(driver.live, driver.fleet, 10)
    await driver.auth("s2/1")
    await drain(driver.live, driver.fleet, "s2/1", draining=True)
    assert await driver.auth("s2/1", leased=work) is None
    assert (await driver.profile(work.profile)).phase == "stopping", "nobody else gets it meanwhile"
    assert (await driver.beat("s2/1", work)).code == "stop"
    assert (await driver.beat("s2/1")).code == "exit"
    assert (await driver.profile(work.profile)).phase == "waiting"


async def test_a_repeated_auth_of_a_bot_at_work_gives_its_profile_to_nobody_before_it_has_stopped(
    driver: Driver,
) -> None:
    work = await driver.long_at_work("s1/1")
    await driver.auth("s2/1")
    await driver.auth("s1/1")
    assert await driver.auth("s1/1", leased=work) is None
    assert (await driver.profile(work.profile)).phase == "stopping"
    assert (await driver.beat("s2/1")).code == "wait"
    assert (await driver.beat("s1/1", work)).code == "stop"
    assert (await driver.beat("s1/1")).code == "start"


async def test_a_slot_that_is_taken_while_it_drains_holds_its_profile_until_the_lease_is_over(
    driver: Driver,
) -> None:
    work = await driver.working("s1/1")
    await driver.auth("s2/1")
    await drain(driver.live, driver.fleet, "s1/1", draining=True)
    await driver.auth("s1/1")
    assert (await driver.profile(work.profile)).phase == "held"
    assert (await driver.beat("s2/1")).code == "wait"
    await driver.pass_time(TTL * 1100 + 1)
    await promote(driver.live, driver.fleet, 10)
    assert (await driver.beat("s2/1")).code == "start"
