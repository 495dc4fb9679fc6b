"""What differs between ledger, live state and history is found and mended; what is only on its way is not touched."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, update

from rota.errors import InvalidRequestError, NotFoundError
from rota.ledger import fences, fleets, history, incidents
from rota.ledger.connection import Ledger
from rota.ledger.fleets import Fleet
from rota.ledger.tables import assignments, events
from rota.ledger.tables import outbox as outbox_table
from rota.ledger.tables import profiles as profiles_table
from rota.live import keys
from rota.live.scripts import Live
from rota.protocol import Working, deadline_after_ms
from rota.steward import compare as compare_module
from rota.steward import rounds
from rota.steward.apply import apply
from rota.steward.compare import compare
from rota.steward.rebuild import rebuild
from rota.steward.record import record
from rota.steward.rounds import Comparison
from tests.live.driver import Driver
from tests.live.invariants import check, read_everything
from tests.steward.conftest import make_profile, set_wanted


async def differences(ledger: Ledger, live: Live, fleet: str) -> list[str]:
    """Of a whole comparison, with everything recorded before."""
    while await record(ledger, live, fleet):
        pass
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        step = await compare(ledger, live, fleet, after)
        found += [each.message for each in step.differences]
        after = step.next
    check(await read_everything(live, fleet))
    return found


async def waiting_profile(ledger: Ledger, live: Live, driver: Driver) -> str:
    profile = await make_profile(ledger, driver.fleet)
    await apply(ledger, live, driver.fleet)
    return profile


async def at_work(ledger: Ledger, live: Live, driver: Driver) -> Working:
    """A bot that works for a profile of the ledger; its epoch is fenced."""
    await waiting_profile(ledger, live, driver)
    await driver.auth("s1/1")
    told = await driver.beat("s1/1")
    work = Working(profile=told.profile, epoch=told.epoch, revision=told.revision)
    await driver.beat("s1/1", work)
    async with ledger.begin() as tx:
        await fences.raise_to(tx, [(work.profile, work.epoch)])
    return work


async def test_nothing_differs_where_nothing_is_wrong(ledger: Ledger, live: Live, driver: Driver) -> None:
    await at_work(ledger, live, driver)
    assert await differences(ledger, live, driver.fleet) == []


async def test_a_profile_that_live_state_lost_is_put_back(ledger: Ledger, live: Live, driver: Driver) -> None:
    profile = await waiting_profile(ledger, live, driver)
    await live.read(
        ("HDEL", keys.profiles(driver.fleet), profile),
        ("ZREM", keys.waiting(driver.fleet, "-"), profile),
        ("SREM", keys.classes(driver.fleet), "-"),
        ("HINCRBY", keys.counts(driver.fleet), "pq", -1),
    )
    assert await differences(ledger, live, driver.fleet) == [f"{profile}: live state does not know it"]
    assert (await driver.profile(profile)).phase == "waiting"
    assert await differences(ledger, live, driver.fleet) == []


async def test_a_wish_whose_outbox_row_was_lost_is_applied(ledger: Ledger, live: Live, driver: Driver) -> None:
    work = await at_work(ledger, live, driver)
    await set_wanted(ledger, work.profile, wanted=False)
    async with ledger.begin() as tx:
        await tx.execute(delete(outbox_table))
    (found,) = await differences(ledger, live, driver.fleet)
    assert "wish started instead of stopped" in found
    assert (await driver.beat("s1/1", work)).code == "stop"


async def test_a_wish_that_is_on_its_way_is_left_to_the_outbox(ledger: Ledger, live: Live, driver: Driver) -> None:
    profile = await waiting_profile(ledger, live, driver)
    await set_wanted(ledger, profile, wanted=False)
    assert await differences(ledger, live, driver.fleet) == []
    assert (await driver.profile(profile)).phase == "waiting"


async def test_a_ledger_that_was_restored_from_a_backup_is_believed(ledger: Ledger, live: Live, driver: Driver) -> None:
    profile = await waiting_profile(ledger, live, driver)
    for wanted in (False, True, False, True):
        await set_wanted(ledger, profile, wanted=wanted)
    await apply(ledger, live, driver.fleet)
    async with ledger.begin() as tx:
        older = update(profiles_table).where(profiles_table.c.id == profile)
        await tx.execute(older.values(version=2, wanted=False))
    assert len(await differences(ledger, live, driver.fleet)) == 1
    assert (await driver.profile(profile)).phase == "stopped"
    await set_wanted(ledger, profile, wanted=True)
    await apply(ledger, live, driver.fleet)
    assert (await driver.profile(profile)).phase == "waiting"


async def test_nobody_works_on_for_a_profile_that_the_ledger_does_not_know(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    work = await driver.working("s1/1", "prf_stranger")
    found = await differences(ledger, live, driver.fleet)
    assert any("the ledger does not know it" in text for text in found)
    assert (await driver.beat("s1/1", work)).code == "stop"
    await driver.beat("s1/1")
    assert await differences(ledger, live, driver.fleet) == []


async def test_a_bot_under_an_epoch_below_the_fence_is_parted_and_the_next_epoch_is_above(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    work = await at_work(ledger, live, driver)
    newer = work.epoch + 10**12
    async with ledger.begin() as tx:
        await fences.raise_to(tx, [(work.profile, newer)])
    (found,) = await differences(ledger, live, driver.fleet)
    assert f"although {newer} was handed out" in found
    assert (await driver.profile(work.profile)).phase == "held"
    assert (await driver.beat("s1/1", work)).code == "stop"
    await driver.pass_time(100_000)
    await driver.promote()
    told = await driver.beat("s1/1")
    assert told.code == "start"
    assert told.epoch > newer
    assert await differences(ledger, live, driver.fleet) == []


async def test_a_profile_that_live_state_lost_under_its_bot_waits_until_that_bot_must_have_stopped(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    work = await at_work(ledger, live, driver)
    await driver.auth("s1/2")
    await live.read(
        ("HDEL", keys.profiles(driver.fleet), work.profile), ("HINCRBY", keys.counts(driver.fleet), "pw", -1)
    )
    found = await differences(ledger, live, driver.fleet)
    assert found[0] == f"{work.profile}: live state does not know it"
    assert found[1] == f"{work.profile}: s1/1 was bound to it, and it not to s1/1; they were parted"
    assert (await driver.beat("s1/2")).code == "wait"
    assert (await driver.profile(work.profile)).phase == "held"
    assert (await driver.beat("s1/1", work)).code == "stop"
    assert await differences(ledger, live, driver.fleet) == []
    await driver.pass_time(100_000)
    await driver.promote()
    told = await driver.beat("s1/2")
    assert (told.code, told.epoch > work.epoch) == ("start", True)


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_profile_whose_bot_live_state_lost_goes_to_another_when_that_bot_must_have_stopped(
    ledger: Ledger, live: Live, driver: Driver, comes_back: bool
) -> None:
    work = await at_work(ledger, live, driver)
    await driver.auth("s1/2")
    await live.read(("HDEL", keys.roster(driver.fleet), "s1/1"))
    if comes_back:
        assert await driver.auth("s1/1", leased=work) is None
        await live.read(  # what the lost entry had been counted for
            ("HINCRBY", keys.counts(driver.fleet), "bw", -1), ("HINCRBY", keys.servers(driver.fleet), "s1", -1)
        )
    (found,) = await differences(ledger, live, driver.fleet)
    assert found == f"{work.profile}: it was bound to s1/1, and s1/1 not to it; they were parted"
    assert (await driver.profile(work.profile)).phase == "held"
    assert (await driver.beat("s1/2")).code == "wait"
    await driver.pass_time(100_000)
    await driver.promote()
    assert (await driver.beat("s1/2")).code == "start"
    assert await differences(ledger, live, driver.fleet) == []


async def test_work_that_history_does_not_know_is_entered(ledger: Ledger, live: Live, driver: Driver) -> None:
    work = await at_work(ledger, live, driver)
    await record(ledger, live, driver.fleet)
    async with ledger.begin() as tx:
        await tx.execute(delete(assignments).where(assignments.c.profile_id == work.profile))
    assert await differences(ledger, live, driver.fleet) == [f"{work.profile}: history did not know that s1/1 works"]
    async with ledger.begin() as tx:
        (row,) = (await history.assignments_page(tx, profile=work.profile)).items
    assert (row.bot, row.epoch, row.ended_at) == ("s1/1", work.epoch, None)


async def test_work_that_history_holds_open_although_it_has_ended_is_ended(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    work = await at_work(ledger, live, driver)
    await record(ledger, live, driver.fleet)
    await driver.leave("s1/1")
    await record(ledger, live, driver.fleet)
    async with ledger.begin() as tx:
        again = update(assignments).where(assignments.c.profile_id == work.profile)
        await tx.execute(again.values(ended_at=None, reason=None))
    assert await differences(ledger, live, driver.fleet) == [
        f"{work.profile}: history did not know that s1/1 has ended"
    ]
    async with ledger.begin() as tx:
        (row,) = (await history.assignments_page(tx, profile=work.profile)).items
    assert row.ended_at is not None
    assert row.reason == "lost: its end was not recorded"


async def test_a_history_that_is_behind_is_not_mended(
    ledger: Ledger, live: Live, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_module, "RECORDED_WITHIN", 0.2)
    await at_work(ledger, live, driver)
    step = await compare(ledger, live, driver.fleet)
    assert (step.differences, step.skipped) == ([], compare_module.BEHIND)
    async with ledger.begin() as tx:
        assert (await tx.execute(events.select().where(events.c.fleet == driver.fleet))).all() == []


async def test_everything_is_compared_in_bounded_steps(
    ledger: Ledger, live: Live, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_module, "STEP", 2)
    for number in range(5):
        await make_profile(ledger, driver.fleet, f"p{number}")
    await apply(ledger, live, driver.fleet)
    counts, after = [], ""
    while True:
        step = await compare(ledger, live, driver.fleet, after)
        counts.append(step.count)
        if step.next is None:
            break
        after = step.next
    assert counts[:3] == [2, 2, 1]
    assert await differences(ledger, live, driver.fleet) == []


async def test_live_state_that_is_not_built_is_not_compared(ledger: Ledger, live: Live, policy: Fleet) -> None:
    await make_profile(ledger, policy.name)
    step = await compare(ledger, live, policy.name)
    assert (step.count, step.differences, step.next) == (0, [], None)
    assert "not built" in (step.skipped or "")


async def test_an_unknown_fleet_and_a_wrong_cursor_are_refused(ledger: Ledger, live: Live, driver: Driver) -> None:
    with pytest.raises(NotFoundError):
        await compare(ledger, live, "nowhere")
    for wrong in ("x", "live:", "live:x"):
        with pytest.raises(InvalidRequestError):
            await compare(ledger, live, driver.fleet, wrong)


async def test_a_comparison_reports_what_it_mended_until_the_next_finds_nothing(
    ledger: Ledger, live: Live, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "COMPARE_FIRST", 0.0)
    monkeypatch.setattr(rounds, "COMPARE_EVERY", 0.0)
    profile = await waiting_profile(ledger, live, driver)
    await live.read(("HSET", keys.profiles(driver.fleet), "prf_ghost", "- 0 1 1 0 o 0"))
    await live.read(("HINCRBY", keys.counts(driver.fleet), "po", 1))
    comparison = Comparison(ledger, live, driver.fleet)
    (incident,) = await after_a_whole_one(ledger, comparison, driver.fleet)
    assert incident.kind == "live_differs"
    assert incident.detail["number"] == 1
    assert profile not in incident.message
    (incident,) = await after_a_whole_one(ledger, comparison, driver.fleet)
    assert incident.closed_at is not None


async def test_whoever_compares_what_was_mended_is_reported_and_added_to_what_was_before(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    for number in range(2):
        await live.read(("HSET", keys.profiles(driver.fleet), f"prf_ghost{number}", "- 0 1 1 0 o 0"))
        await live.read(("HINCRBY", keys.counts(driver.fleet), "po", 1))
        assert len(await differences(ledger, live, driver.fleet)) == 1
        async with ledger.begin() as tx:
            (incident,) = await incidents.open_of(tx, driver.fleet, "live_differs")
        assert incident.detail["number"] == len(incident.detail["differences"]) == number + 1
        assert "prf_ghost0" in incident.message


async def test_a_comparison_that_left_something_out_ends_no_incident(
    ledger: Ledger, live: Live, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "COMPARE_FIRST", 0.0)
    monkeypatch.setattr(compare_module, "RECORDED_WITHIN", 0.0)
    await live.read(("HSET", keys.profiles(driver.fleet), "prf_ghost", "- 0 1 1 0 o 0"))
    await live.read(("HINCRBY", keys.counts(driver.fleet), "po", 1))
    await differences(ledger, live, driver.fleet)
    await at_work(ledger, live, driver)
    (incident,) = await after_a_whole_one(ledger, Comparison(ledger, live, driver.fleet), driver.fleet)
    assert incident.closed_at is None


async def test_an_owner_that_does_not_come_back_after_a_loss_is_ended_as_soon_as_nobody_may_come_any_more(
    ledger: Ledger, live: Live, driver: Driver, policy: Fleet
) -> None:
    work = await at_work(ledger, live, driver)
    await record(ledger, live, driver.fleet)
    comparison = Comparison(ledger, live, driver.fleet)
    await driver.forget_everything()
    await comparison.go_on()
    async with ledger.begin() as tx:
        policy = await fleets.get(tx, driver.fleet)
    await rebuild(ledger, live, policy)
    await comparison.go_on()
    while await record(ledger, live, driver.fleet):
        pass
    assert (await compare(ledger, live, driver.fleet, "history:")).skipped == compare_module.QUIET
    await driver.pass_time(deadline_after_ms(policy.ttl) + 1000)
    await comparison.go_on()
    async with ledger.begin() as tx:
        (row,) = (await history.assignments_page(tx, profile=work.profile)).items
    assert (row.bot, row.reason) == ("s1/1", "lost: its end was not recorded")


async def after_a_whole_one(ledger: Ledger, comparison: Comparison, fleet: str) -> list[incidents.Incident]:
    await comparison.go_on()
    async with ledger.begin() as tx:
        return (await incidents.page(tx, fleet)).items
