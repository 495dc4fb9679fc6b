"""reap, promote, kill, leave, release, pulse: who is gone, and when its profile goes to another."""

from __future__ import annotations

import pytest

from rota.errors import NotFoundError, UnknownBotError
from rota.live import bots, profiles
from rota.live.audit import broken_invariants, overdue
from rota.live.liveness import pulse, reap
from rota.live.snapshot import totals
from rota.protocol import Working
from tests.live.conftest import build
from tests.live.driver import TTL, Driver
from tests.live.invariants import check, read_everything

LEASE = TTL * 1000
DEADLINE = LEASE * 1.1


async def test_nobody_is_reaped_before_lease_and_margin_are_over(driver: Driver) -> None:
    await driver.working("s1/1")
    await driver.pass_time(DEADLINE - 500)
    assert (await reap(driver.live, driver.fleet, 100)).count == 0


async def test_bots_that_die_soon_after_their_start_count_as_crashes_and_the_second_in_a_row_holds(
    driver: Driver,
) -> None:
    await driver.working("s1/1")
    for crashes, phase in ((1, "waiting"), (2, "held")):
        await driver.pass_time(DEADLINE + 500)
        assert (await reap(driver.live, driver.fleet, 100)).count == 1
        profile = await driver.profile("prf_1")
        assert (profile.phase, profile.crashes) == (phase, crashes)
        check(await read_everything(driver.live, driver.fleet))
        if phase == "waiting":
            await driver.auth("s1/2")
            assert (await driver.beat("s1/2")).code == "start"


async def test_a_slot_that_is_taken_again_and_again_after_each_start_loses_its_profile_for_a_while(
    driver: Driver,
) -> None:
    await driver.working("s1/1")
    await driver.auth("s1/1")
    assert (await driver.beat("s1/1")).code == "start", "one restart is back at work in one exchange"
    await driver.auth("s1/1")
    assert (await driver.beat("s1/1")).code == "wait"
    held = await driver.profile("prf_1")
    assert (held.phase, held.crashes) == ("held", 2)
    check(await read_everything(driver.live, driver.fleet))


async def test_a_slot_that_is_taken_after_long_work_keeps_its_profile(driver: Driver) -> None:
    work = await driver.long_at_work("s1/1")
    for _ in range(3):
        await driver.auth("s1/1")
        told = await driver.beat("s1/1")
        assert (told.code, told.profile) == ("start", work.profile)
        assert (await driver.profile(work.profile)).crashes == 0
        await driver.beat("s1/1", Working(profile=told.profile, epoch=told.epoch, revision=1))
        await driver.pass_time(61_000)
        await driver.beat("s1/1", Working(profile=told.profile, epoch=told.epoch, revision=1))


async def test_a_silent_bot_is_reaped_and_its_profile_waits(driver: Driver) -> None:
    await driver.long_at_work("s1/1")
    await driver.pass_time(DEADLINE + 500)
    assert (await reap(driver.live, driver.fleet, 100)).count == 1
    assert (await driver.profile("prf_1")).phase == "waiting"
    assert (await driver.beat("s1/1")).code == "unknown"
    check(await read_everything(driver.live, driver.fleet))


async def test_reaping_takes_bounded_steps_and_says_when_there_is_more(driver: Driver) -> None:
    for number in range(5):
        await driver.auth(f"s1/{number}")
    await driver.pass_time(DEADLINE + 500)
    steps = [await reap(driver.live, driver.fleet, 2) for _ in range(3)]
    assert [(step.count, step.more) for step in steps] == [(2, True), (2, True), (1, False)]
    assert await overdue(driver.live, driver.fleet, 10) == []


async def test_silence_is_held_against_nobody_while_the_web_does_not_hear(driver: Driver) -> None:
    await driver.auth("s1/1")
    await driver.pass_time(DEADLINE + 500, hearing=False)
    assert (await reap(driver.live, driver.fleet, 100)).deaf


async def test_after_deafness_everybody_has_one_more_ttl(driver: Driver) -> None:
    await driver.auth("s1/1")
    await driver.pass_time(DEADLINE + 500, hearing=False)
    await pulse(driver.live, driver.fleet, "web", ttl=TTL)
    assert (await reap(driver.live, driver.fleet, 100)).deaf
    await driver.pass_time(DEADLINE + 500)
    assert (await reap(driver.live, driver.fleet, 100)).count == 1


async def test_a_killed_bots_profile_is_held_until_its_lease_must_be_over(driver: Driver) -> None:
    await driver.working("s1/1")
    await driver.auth("s1/2")
    await bots.kill(driver.live, driver.fleet, "s1/1")
    assert (await driver.profile("prf_1")).phase == "held"
    await driver.pass_time(DEADLINE - 500)
    await profiles.promote(driver.live, driver.fleet, 100)
    assert (await driver.beat("s1/2")).code == "wait"
    await driver.pass_time(1000)
    await profiles.promote(driver.live, driver.fleet, 100)
    assert (await driver.beat("s1/2")).code == "start"


async def test_stop_and_start_do_not_shorten_the_wait_for_a_killed_bots_lease(driver: Driver) -> None:
    await driver.working("s1/1")
    await bots.kill(driver.live, driver.fleet, "s1/1")
    await driver.want("prf_1", "stopped")
    await driver.want("prf_1", "started")
    assert (await driver.profile("prf_1")).phase == "held"
    await profiles.release(driver.live, driver.fleet, "prf_1")
    assert (await driver.profile("prf_1")).phase == "held"


async def test_a_bot_that_leaves_hands_its_profile_on_at_once(driver: Driver) -> None:
    await driver.working("s1/1")
    await driver.auth("s1/2")
    await driver.leave("s1/1")
    assert (await driver.beat("s1/2")).code == "start"
    with pytest.raises(UnknownBotError):
        await driver.leave("s1/1")


async def test_crashes_hold_a_profile_back_longer_each_time(driver: Driver) -> None:
    holds: list[float] = []
    for _ in range(8):
        await driver.auth("s1/1")
        if not holds:
            await driver.want("prf_1")
        assert (await driver.beat("s1/1")).code == "start"
        await driver.leave("s1/1", "crash")
        seconds = 10
        await driver.pass_time(9_000)
        while True:
            await profiles.promote(driver.live, driver.fleet, 10)
            if (await driver.profile("prf_1")).phase == "waiting":
                break
            await driver.pass_time(10_000)
            seconds += 10
        holds.append(seconds)
    assert [round(hold, -1) for hold in holds] == sorted(round(hold, -1) for hold in holds)
    assert holds[0] <= 20
    assert 600 <= holds[-1] <= 610


async def test_ten_minutes_of_work_forgive_earlier_crashes(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.leave("s1/1", "crash")
    await profiles.release(driver.live, driver.fleet, work.profile)
    assert (await driver.profile("prf_1")).crashes == 0
    for _ in range(2):
        await driver.auth("s1/1")
        told = await driver.beat("s1/1")
        await driver.beat("s1/1", work.model_copy(update={"epoch": told.epoch}))
        await driver.pass_time(601_000)
        await driver.leave("s1/1", "crash")
        assert (await driver.profile("prf_1")).crashes == 1
        await profiles.release(driver.live, driver.fleet, work.profile)


@pytest.mark.parametrize("end", ["left", "died", "killed", "stopped", "replaced"])
async def test_ten_minutes_of_work_forgive_earlier_crashes_however_they_end(driver: Driver, end: str) -> None:
    await driver.working("s1/1")
    await driver.leave("s1/1", "crash")
    await driver.pass_time(10_001)
    await driver.promote()
    work = await driver.working("s1/1")
    assert (await driver.profile("prf_1")).crashes == 1
    await driver.pass_time(599_000)
    await driver.beat("s1/1", work)
    await driver.pass_time(2_000)
    if end == "left":
        await driver.leave("s1/1")
    elif end == "died":
        await driver.pass_time(DEADLINE)
        assert (await reap(driver.live, driver.fleet, 100)).count == 1
    elif end == "killed":
        await bots.kill(driver.live, driver.fleet, "s1/1")
    elif end == "stopped":
        await driver.want("prf_1", "stopped")
    else:
        await driver.auth("s1/1")
    assert (await driver.profile("prf_1")).crashes == 0


async def test_work_that_goes_on_after_a_loss_counts_from_its_grant(driver: Driver) -> None:
    work = await driver.working("s1/1")
    granted = (await driver.profile("prf_1")).since
    await driver.pass_time(300_000)
    passed = await driver.offset()
    await driver.forget_everything()
    await build(driver.live, driver.fleet)
    await driver.pass_time(passed - await driver.offset())
    await driver.want("prf_1", epoch=work.epoch)
    assert await driver.auth("s1/1", leased=work)
    resumed = (await driver.profile("prf_1")).since
    assert granted is not None
    assert resumed is not None
    assert abs((resumed - granted).total_seconds()) < 1
    # So a death soon after the loss is not one soon after a start.
    await driver.pass_time(DEADLINE + 1)
    assert (await reap(driver.live, driver.fleet, 100)).count == 1
    assert (await driver.profile("prf_1")).crashes == 0


async def test_kill_and_drain_of_an_unknown_bot_are_refused(driver: Driver) -> None:
    with pytest.raises(NotFoundError):
        await bots.kill(driver.live, driver.fleet, "s1/1")
    with pytest.raises(NotFoundError):
        await bots.drain(driver.live, driver.fleet, "s1/1", draining=True)
    with pytest.raises(NotFoundError):
        await profiles.release(driver.live, driver.fleet, "prf_1")


async def test_the_audit_finds_nothing_in_a_sound_state_and_what_is_broken(driver: Driver) -> None:
    await driver.working("s1/1")
    await driver.want("prf_2")
    assert await broken_invariants(driver.live, driver.fleet, 100) == []
    await driver.live.read(("HDEL", f"{{{driver.fleet}}}:roster", "s1/1"))
    await driver.live.read(("ZREM", f"{{{driver.fleet}}}:waiting:-", "prf_2"))
    subjects = {item.subject for item in await broken_invariants(driver.live, driver.fleet, 100)}
    assert subjects == {driver.fleet, "prf_1", "prf_2"}


async def test_deleting_a_waiting_profile_removes_it_and_a_late_start_does_not_bring_it_back(driver: Driver) -> None:
    await driver.want("prf_1", version=1)
    await driver.want("prf_1", "deleted", version=3)
    await driver.want("prf_1", "started", version=2)
    found = await totals(driver.live, driver.fleet)
    assert found.profiles_total == 0


async def test_a_held_profile_tells_which_of_its_two_reasons_lasts_longer(driver: Driver) -> None:
    await driver.working("s1/1")
    await driver.leave("s1/1", "crash")
    assert (await driver.profile("prf_1")).held_for == "crash"
    await driver.pass_time(10_001)
    assert await driver.promote() == 1
    assert (await driver.profile("prf_1")).held_for is None
    await driver.working("s1/2")
    await bots.kill(driver.live, driver.fleet, "s1/2")
    held = await driver.profile("prf_1")
    assert (held.phase, held.crashes, held.held_for) == ("held", 1, "lease")
