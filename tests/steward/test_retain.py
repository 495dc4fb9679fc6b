"""Records are kept as long as fleet and account say, partitions go as a whole, and no batch comes in twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from rota.errors import InvalidRequestError
from rota.ledger import accounts, fences, fleets, partitions, pushes, records, retention
from rota.ledger.connection import Ledger
from rota.ledger.fleets import Fleet
from rota.ledger.lines import lines
from rota.ledger.pushes import Batch, Pushed
from rota.steward.partition import partition
from rota.steward.retain import Retention, retain
from tests.steward.conftest import make_profile

EPOCH = 10


@pytest.fixture
async def two(ledger: Ledger, policy: Fleet) -> tuple[str, str]:
    """Two profiles of one fleet, the second one of an account of its own."""
    first = await make_profile(ledger, policy.name, "first")
    second = await make_profile(ledger, policy.name, "second")
    async with ledger.begin() as tx:
        client = await accounts.create(tx, "client")
        await tx.execute(text("UPDATE profiles SET account_id = :a WHERE id = :p"), {"a": client.id, "p": second})
        await fences.raise_to(tx, [(first, EPOCH), (second, EPOCH)])
    return first, second


async def push(ledger: Ledger, profile: str, number: int, size: int = 1, epoch: int = EPOCH) -> pushes.Outcome:
    batch = Batch(profile, epoch, number, "s1/1", lines([{"data": number}] * size))
    (outcome,) = await pushes.commit(ledger, [batch])
    return outcome


async def make_days(ledger: Ledger, profiles: tuple[str, ...], days: int, each: int = 3) -> None:
    """A partition for each of so many days past, with records of every profile in it."""
    async with ledger.begin() as tx:
        await partitions.drop(tx, "records_first")
        await partitions.ensure(tx)
        today = (await tx.execute(text("SELECT date_trunc('day', now(), 'UTC')"))).scalar_one()
        for ago in range(days, 0, -1):
            begin = today - timedelta(days=ago)
            await partitions._make(tx, begin)
            for profile in profiles:
                await tx.execute(
                    text(
                        "INSERT INTO records (profile_id, epoch, batch, position, bot, kind, received_at) "
                        "SELECT :p, 1, :ago, n, 's1/1', 'check', CAST(:at AS timestamptz) FROM generate_series(1, :n) n"
                    ),
                    {"p": profile, "ago": ago, "at": begin + timedelta(hours=12), "n": each},
                )


async def whole_pass(ledger: Ledger) -> None:
    async for _ in retain(ledger):
        pass


async def held(ledger: Ledger) -> dict[str, int]:
    """How many records each profile has."""
    async with ledger.begin() as tx:
        rows = await tx.execute(text("SELECT profile_id, count(*) FROM records GROUP BY profile_id"))
        return {row[0]: row[1] for row in rows}


async def past_partitions(ledger: Ledger) -> int:
    async with ledger.begin() as tx:
        now = (await tx.execute(text("SELECT now()"))).scalar_one()
        return sum(one.end is not None and one.end < now for one in await partitions.all_of(tx))


async def test_without_limits_everything_is_kept(ledger: Ledger, two: tuple[str, str]) -> None:
    await make_days(ledger, two, 5)
    await whole_pass(ledger)
    assert await held(ledger) == {two[0]: 15, two[1]: 15}


async def test_partitions_that_are_over_for_everybody_are_dropped(
    ledger: Ledger, policy: Fleet, two: tuple[str, str]
) -> None:
    await make_days(ledger, two, 9)
    async with ledger.begin() as tx:
        await fleets.set_policy(tx, policy.name, keep_days=4)
    await whole_pass(ledger)
    assert await past_partitions(ledger) in (4, 5)
    # Those of four days ago are over only when it is past noon.
    assert set((await held(ledger)).values()) <= {9, 12}


async def test_who_keeps_longer_keeps_the_partition_and_the_others_rows_are_deleted(
    ledger: Ledger, policy: Fleet, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP", 4)
    await make_days(ledger, two, 9)
    async with ledger.begin() as tx:
        await fleets.set_policy(tx, policy.name, keep_days=2)
        client = next(one for one in (await accounts.page(tx)).items if one.name == "client")
        await accounts.set_limits(tx, client.id, {"keep_days": 0})
    await whole_pass(ledger)
    assert await past_partitions(ledger) == 9
    left = await held(ledger)
    assert left[two[1]] == 27
    assert left[two[0]] in (3, 6)
    async with ledger.begin() as tx:
        await accounts.set_limits(tx, client.id, {"keep_days": None})
    await whole_pass(ledger)
    assert await past_partitions(ledger) in (2, 3)


async def test_the_newest_records_of_each_profile_are_kept(
    ledger: Ledger, policy: Fleet, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP", 4)
    await make_days(ledger, two, 5)
    async with ledger.begin() as tx:
        newest = [item.id for item in await records.newest(tx, two[0], 7)]
        await fleets.set_policy(tx, policy.name, keep_records=7)
    await whole_pass(ledger)
    assert await held(ledger) == {two[0]: 7, two[1]: 7}
    async with ledger.begin() as tx:
        assert [item.id for item in await records.newest(tx, two[0], 50)] == newest
    await whole_pass(ledger)
    assert await past_partitions(ledger) == 3, "empty partitions go with the next pass"


async def test_rows_that_were_there_before_the_partitions_are_deleted_one_by_one(
    ledger: Ledger, policy: Fleet, two: tuple[str, str]
) -> None:
    async with ledger.begin() as tx:
        await tx.execute(
            text(
                "INSERT INTO records (profile_id, epoch, batch, position, bot, kind, received_at) "
                "SELECT :p, 1, n, 0, 's1/1', 'check', now() - n * interval '1 day' FROM generate_series(30, 1, -1) n"
            ),
            {"p": two[0]},
        )
        await fleets.set_policy(tx, policy.name, keep_days=10)
    await whole_pass(ledger)
    assert await held(ledger) == {two[0]: 9}


async def age_batches(ledger: Ledger, numbers: list[int]) -> None:
    async with ledger.begin() as tx:
        await tx.execute(
            text("UPDATE batches SET received_at = now() - interval '8 days' WHERE batch = ANY(:n)"), {"n": numbers}
        )


async def known_batches(ledger: Ledger, profile: str) -> list[int]:
    async with ledger.begin() as tx:
        query = text("SELECT batch FROM batches WHERE profile_id = :p ORDER BY batch")
        return list((await tx.execute(query, {"p": profile})).scalars())


async def test_forgotten_batches_are_still_duplicates_and_still_count(
    ledger: Ledger, two: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP", 3)
    mine, others = two
    for number in (3, 4, 5, 6, 8, 9):
        await push(ledger, mine, number, size=2)
    await push(ledger, others, 0)
    await age_batches(ledger, [3, 4, 5, 6, 8])
    await whole_pass(ledger)
    assert await known_batches(ledger, mine) == [8, 9], "what lies behind a gap may still be on its way"
    assert await known_batches(ledger, others) == [0]
    async with ledger.begin() as tx:
        assert await records.count(tx) == 13
        assert await records.count(tx, fleet_profiles=[mine]) == 12
    for number in (3, 4, 5, 6, 8, 9):
        assert await push(ledger, mine, number, size=2) == Pushed(0, duplicate=True)
    assert await push(ledger, mine, 7) == Pushed(1, duplicate=False)
    assert await push(ledger, mine, 2) == Pushed(1, duplicate=False), "it was never taken"
    await age_batches(ledger, [7, 8])
    await whole_pass(ledger)
    assert await push(ledger, mine, 7) == Pushed(0, duplicate=True)


async def test_a_run_goes_on_where_it_was_forgotten(ledger: Ledger, two: tuple[str, str]) -> None:
    for number in range(4):
        await push(ledger, two[0], number)
    for old in ([0, 1], [2, 3]):
        await age_batches(ledger, old)
        await whole_pass(ledger)
    assert await known_batches(ledger, two[0]) == []
    async with ledger.begin() as tx:
        fence = (await fences.hold(tx, [two[0]]))[two[0]]
    assert (fence.taken_from, fence.taken_to) == (0, 3)
    assert await push(ledger, two[0], 4) == Pushed(1, duplicate=False)


async def test_a_new_epoch_begins_with_no_batch_taken(ledger: Ledger, two: tuple[str, str]) -> None:
    for number in range(3):
        await push(ledger, two[0], number)
    await age_batches(ledger, [0, 1])
    await whole_pass(ledger)
    async with ledger.begin() as tx:
        await fences.raise_to(tx, [(two[0], EPOCH + 1)])
    assert await push(ledger, two[0], 0, epoch=EPOCH + 1) == Pushed(1, duplicate=False)
    await whole_pass(ledger)
    assert await known_batches(ledger, two[0]) == [0], "those of the old epoch are refused anyhow"
    async with ledger.begin() as tx:
        assert await records.count(tx) == 4


async def test_a_pass_that_fails_begins_anew(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = 0

    async def passes(_: Ledger) -> AsyncIterator[None]:
        nonlocal begun
        begun += 1
        yield
        if begun == 1:
            raise InvalidRequestError

    monkeypatch.setattr("rota.steward.retain.RETAIN_FIRST", 0.0)
    monkeypatch.setattr("rota.steward.retain.retain", passes)
    duty = Retention(ledger)
    with pytest.raises(InvalidRequestError):
        await duty.go_on()
    await duty.go_on()
    await duty.go_on()
    assert begun == 2


async def test_partitions_are_made_ahead_once(ledger: Ledger) -> None:
    for _ in range(2):
        await partition(ledger)
    async with ledger.begin() as tx:
        there = await partitions.all_of(tx)
        now = (await tx.execute(text("SELECT now()"))).scalar_one()
    ends = [one.end for one in there if one.end is not None]
    assert there[0].begin is None
    assert ends == sorted(set(ends))
    assert ends[-1] > now + timedelta(days=partitions.DAYS_AHEAD)
    assert [one.begin for one in there[1:]] == ends[:-1], "without a gap"


@pytest.mark.parametrize("limits", [{"keep_days": -1}, {"keep_days": 36_501}, {"keep_records": 10_000_001}])
async def test_limits_that_make_no_sense_are_refused(ledger: Ledger, limits: dict[str, int]) -> None:
    async with ledger.begin() as tx:
        owner = await accounts.default(tx)
        with pytest.raises(InvalidRequestError):
            await accounts.set_limits(tx, owner.id, limits)
        with pytest.raises(InvalidRequestError):
            await fleets.set_policy(tx, "default", **limits)
