"""beat: the table of docs/protocol.md, batches, labels, priorities and the quiet time after a restart of the store."""

from __future__ import annotations

import asyncio
from collections import Counter

import hypothesis.strategies as st
import msgpack
import pytest
from hypothesis import HealthCheck, given, settings

from rota.live import bots, snapshot
from rota.live.beats import BATCH, BATCH_AT_WORK, BINDINGS_A_CALL, _first
from rota.live.entries import DIGEST_BYTES, idle_entry, parse_roster_entry, working_entry
from rota.live.liveness import pulse
from rota.live.snapshot import totals
from rota.protocol import Working
from tests.live.driver import TTL, Driver
from tests.live.invariants import check, read_everything

NOTHING = ("-", 0)
"""What a bot tells that has ended no work since it last heard an answer."""


async def test_an_unbound_bot_waits_while_nothing_waits_for_it(driver: Driver) -> None:
    await driver.auth("s1/1")
    assert (await driver.beat("s1/1")).code == "wait"


async def test_an_unbound_bot_that_reports_work_is_told_to_stop(driver: Driver) -> None:
    await driver.auth("s1/1")
    told = await driver.beat("s1/1", Working(profile="prf_9", epoch=5, revision=1))
    assert (told.code, told.profile) == ("stop", "-")


async def test_a_waiting_profile_starts_on_the_bot_that_beats(driver: Driver) -> None:
    await driver.auth("s1/1")
    await driver.want("prf_1", revision=3)
    told = await driver.beat("s1/1")
    assert (told.code, told.profile, told.revision) == ("start", "prf_1", 3)
    assert (await driver.profile("prf_1")).bot == "s1/1"


async def test_a_lost_start_is_said_again_under_the_same_epoch(driver: Driver) -> None:
    await driver.auth("s1/1")
    await driver.want("prf_1")
    assert await driver.beat("s1/1") == await driver.beat("s1/1")


async def test_a_confirmed_bot_continues(driver: Driver) -> None:
    work = await driver.working("s1/1")
    assert (await driver.beat("s1/1", work)).code == "continue"
    assert (await driver.profile("prf_1")).phase == "working"


async def test_an_older_revision_is_reconfigured_until_the_new_one_is_reported(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.want("prf_1", revision=2)
    assert (await driver.beat("s1/1", work)).code == "reconfigure"
    assert (await driver.beat("s1/1", work)).code == "reconfigure"
    newer = work.model_copy(update={"revision": 2})
    assert (await driver.beat("s1/1", newer)).code == "continue"


async def test_other_work_than_the_recorded_is_stopped(driver: Driver) -> None:
    work = await driver.working("s1/1")
    older = work.model_copy(update={"epoch": work.epoch - 1})
    assert (await driver.beat("s1/1", older)).code == "stop"
    assert (await driver.beat("s1/1", work)).code == "continue"


async def test_a_stop_is_told_until_it_is_confirmed_and_then_the_next_profile_starts_at_once(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.want("prf_1", "stopped")
    assert (await driver.beat("s1/1", work)).code == "stop"
    assert (await driver.beat("s1/1", work)).code == "stop"
    await driver.want("prf_2")
    assert (await driver.beat("s1/1")).profile == "prf_2"
    assert (await driver.profile("prf_1")).phase == "stopped"


async def test_a_start_pressed_during_a_stop_begins_a_new_assignment(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.want("prf_1", "stopped")
    await driver.want("prf_1", "started")
    assert (await driver.beat("s1/1", work)).code == "stop"
    told = await driver.beat("s1/1")
    assert told.code == "start"
    assert told.epoch > work.epoch


async def test_a_quiet_bot_takes_nothing_new(driver: Driver) -> None:
    await driver.auth("s1/1")
    await driver.want("prf_1")
    assert (await driver.beat("s1/1", accepting=False)).code == "wait"
    assert (await driver.beat("s1/1")).code == "start"


async def test_a_draining_bot_stops_and_exits_and_its_profile_waits_again(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await bots.drain(driver.live, driver.fleet, "s1/1", draining=True)
    assert (await driver.beat("s1/1", work)).code == "stop"
    assert (await driver.beat("s1/1")).code == "exit"
    assert (await driver.profile("prf_1")).phase == "waiting"


async def test_required_labels_decide_who_gets_a_profile(driver: Driver) -> None:
    await driver.auth("s1/1")
    await driver.auth("s1/2", labels={"region": "eu", "kind": "site"})
    await driver.want("prf_1", labels={"region": "eu"})
    assert (await driver.beat("s1/1")).code == "wait"
    assert (await driver.beat("s1/2")).profile == "prf_1"


async def test_higher_priority_goes_first_and_then_who_waits_longer(driver: Driver) -> None:
    for number, priority in enumerate([0, 0, 5], start=1):
        await driver.want(f"prf_{number}", priority=priority)
        await driver.pass_time(1000)
    for bot in ("s1/1", "s1/2", "s1/3"):
        await driver.auth(bot)
    order = [(await driver.beat(bot)).profile for bot in ("s1/1", "s1/2", "s1/3")]
    assert order == ["prf_3", "prf_1", "prf_2"]


async def test_changing_a_waiting_profile_does_not_cost_it_its_place(driver: Driver) -> None:
    await driver.want("prf_1")
    await driver.pass_time(1000)
    await driver.want("prf_2")
    await driver.want("prf_1", revision=2)
    await driver.auth("s1/1")
    assert (await driver.beat("s1/1")).profile == "prf_1"


async def test_the_same_bot_twice_in_one_batch_is_bound_once(driver: Driver) -> None:
    await driver.auth("s1/1")
    await driver.want("prf_1")
    await driver.want("prf_2")
    first, second = await asyncio.gather(driver.beat("s1/1"), driver.beat("s1/1"))
    assert first == second
    assert (await totals(driver.live, driver.fleet)).profiles["waiting"] == 1


async def test_one_call_gives_work_to_so_many_bots_and_further_calls_to_the_rest(driver: Driver) -> None:
    names = [f"s1/{number}" for number in range(40)]
    for name in names:
        await driver.auth(name)
    for number in range(30):
        await driver.want(f"prf_{number}")
    beats = [
        part for name in names[:20] for part in (name, idle_entry(driver.digests[name], accepting=True, status=""))
    ]
    packed = msgpack.packb(beats, use_bin_type=False)
    assert len(await driver.live.call("beat", driver.fleet, packed, 99_000)) == 5 * BINDINGS_A_CALL
    told = await asyncio.gather(*(driver.beat(name) for name in names))
    assert Counter(answer.code for answer in told) == {"start": 30, "wait": 10}
    check(await read_everything(driver.live, driver.fleet))


async def test_after_a_restart_of_the_store_nothing_is_given_away_for_one_ttl(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.auth("s1/2")
    await driver.want("prf_2")
    await driver.forget_run()
    assert (await driver.beat("s1/2")).code == "wait"
    assert (await driver.beat("s1/1", work)).code == "continue"
    await driver.pass_time(TTL * 1100 + 1)
    assert (await driver.beat("s1/2")).code == "start"


async def test_an_orderly_restart_of_the_store_costs_no_time(driver: Driver) -> None:
    await driver.auth("s1/1")
    await driver.want("prf_1")
    await pulse(driver.live, driver.fleet, "seal", ttl=TTL)
    assert (await driver.beat("s1/1")).code == "start"


async def test_a_shorter_ttl_does_not_shorten_a_lease_that_was_granted(driver: Driver) -> None:
    await driver.auth("s1/1")
    entry = idle_entry(driver.digests["s1/1"], accepting=True, status="")
    before = (await driver.live.read(("ZSCORE", f"{{{driver.fleet}}}:due", "s1/1")))[0]
    await driver._beats.beat(driver.fleet, "s1/1", entry, 1000)
    assert float((await driver.live.read(("ZSCORE", f"{{{driver.fleet}}}:due", "s1/1")))[0]) >= float(before)


STATUS = st.text(max_size=64).map(lambda text: "".join(c for c in text if c.isprintable()))


@given(digest=st.binary(min_size=16, max_size=16), status=STATUS, epoch=st.integers(1, 2**53 - 1))
def test_a_roster_entry_reads_back_as_it_was_written(digest: bytes, status: str, epoch: int) -> None:
    entry = parse_roster_entry(working_entry(digest, "prf_1", epoch, 7, accepting=True, status=status))
    assert entry == (digest, "working", "1", "prf_1", epoch, 7, status)
    idle = parse_roster_entry(idle_entry(digest, accepting=False, status=status))
    assert (idle.digest, idle.phase, idle.flag, idle.profile, idle.status) == (digest, "idle", "0", None, status)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(digest=st.binary(min_size=16, max_size=16), status=STATUS)
async def test_any_digest_and_any_status_survive_a_transition(driver: Driver, digest: bytes, status: str) -> None:
    newcomer = bots.Newcomer(f"s1/{digest.hex()}", digest, "1", {}, "::1")
    await bots.auth(driver.live, driver.fleet, newcomer, ttl=TTL, leased=None)
    entry = idle_entry(digest, accepting=True, status=status)
    for _ in range(2):
        assert await driver._beats.beat(driver.fleet, newcomer.id, entry, 99_000) is None
    state = await read_everything(driver.live, driver.fleet)
    assert state.roster[newcomer.id].status == status


@pytest.mark.parametrize("count", [0, 1, 300])
async def test_any_number_of_beats_may_come_at_once(driver: Driver, count: int) -> None:
    names = [f"s1/{number}" for number in range(count)]
    for name in names:
        await driver.auth(name)
    told = await asyncio.gather(*(driver.beat(name) for name in names))
    assert [answer.code for answer in told] == ["wait"] * count


async def test_an_idle_beat_that_is_older_than_the_work_does_not_release_it(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.want(work.profile, "stopped")
    for old in (NOTHING, (work.profile, work.epoch - 1), ("prf_other", work.epoch)):
        assert (await driver.beat("s1/1", ended=old)).code == "stop"
    assert (await driver.profile(work.profile)).phase == "stopping"
    assert (await driver.beat("s1/1", ended=(work.profile, work.epoch))).code == "wait"
    assert (await driver.profile(work.profile)).phase == "stopped"


async def test_a_bot_that_tells_what_it_ended_is_given_work_and_is_quiet_as_any_other(driver: Driver) -> None:
    await driver.auth("s1/1")
    assert (await driver.beat("s1/1", ended=NOTHING)).code == "wait"
    await driver.want("prf_1")
    assert (await driver.beat("s1/1", ended=NOTHING, accepting=False)).code == "wait"
    seen = await snapshot.bot(driver.live, driver.fleet, "s1/1")
    assert seen is not None
    assert seen.quiet
    assert (await driver.beat("s1/1", ended=NOTHING)).code == "start"


def test_more_beats_go_in_one_call_where_nobody_can_be_given_work() -> None:
    idle = idle_entry(b"d" * DIGEST_BYTES, accepting=True, status="")
    works = working_entry(b"d" * DIGEST_BYTES, profile="prf_1", epoch=1, revision=1, accepting=True, status="")

    def flat(*entries: bytes) -> list[str | bytes]:
        return [part for entry in entries for part in ("s1/1", entry)]

    some = flat(*[works] * 300)
    assert _first(some) == some[: 2 * BATCH_AT_WORK]
    mixed = flat(*[works] * 100, idle, *[works] * 300)
    assert _first(mixed) == mixed[: 2 * BATCH]
    late = flat(*[works] * BATCH_AT_WORK, idle)
    assert _first(late) == late[:-2]
    assert _first(flat(idle)) == flat(idle)
