"""Pushes: once per batch, never under an old epoch, and what cannot be kept is named."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from rota.errors import InvalidRequestError, ProblemError, SupersededError
from rota.ledger import fences, partitions, pushes, records
from rota.ledger.connection import Ledger
from rota.ledger.lines import lines
from rota.ledger.profiles import Profile
from rota.ledger.pushes import Batch, MissingPartitionError, Pushed
from rota.ledger.search import Position
from rota.protocol import RecordFields

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def batch_of(profile: str, epoch: int, number: int, *data: Any) -> Batch:
    records: list[RecordFields] = [{"kind": "check", "data": item} for item in data]
    return Batch(profile, epoch, number, "s1/1", lines(records))


async def push(ledger: Ledger, profile: str, epoch: int, batch: int, *data: Any) -> Pushed:
    (outcome,) = await pushes.commit(ledger, [batch_of(profile, epoch, batch, *data)])
    if isinstance(outcome, ProblemError):
        raise outcome
    return outcome


async def fence(ledger: Ledger, profile: str, epoch: int) -> None:
    async with ledger.begin() as tx:
        await fences.raise_to(tx, [(profile, epoch)])


async def test_a_batch_is_stored_in_order(ledger: Ledger, profile: Profile) -> None:
    await fence(ledger, profile.id, 10)
    assert await push(ledger, profile.id, 10, 1, {"a": 1}, [1, "zwei"], None) == Pushed(3, duplicate=False)
    async with ledger.begin() as tx:
        page = await records.page(tx, profile.id)
        assert await records.count(tx) == 3
        assert [item.data for item in await records.newest(tx, profile.id, 1)] == [None]
    assert [item.data for item in page.items] == [{"a": 1}, [1, "zwei"], None]
    assert [item.position for item in page.items] == [0, 1, 2]


async def test_the_same_batch_again_stores_nothing(ledger: Ledger, profile: Profile) -> None:
    await fence(ledger, profile.id, 10)
    await push(ledger, profile.id, 10, 1, 1)
    assert await push(ledger, profile.id, 10, 1, 1, 2) == Pushed(0, duplicate=True)
    async with ledger.begin() as tx:
        assert len((await records.page(tx, profile.id)).items) == 1


async def test_the_same_batch_at_the_same_time_is_stored_once(ledger: Ledger, profile: Profile) -> None:
    await fence(ledger, profile.id, 10)
    told = await asyncio.gather(*(push(ledger, profile.id, 10, 1, 1, 2) for _ in range(6)))
    assert sum(item.accepted for item in told) == 2
    assert sum(item.duplicate for item in told) == 5


async def test_data_under_an_older_epoch_is_superseded(ledger: Ledger, profile: Profile) -> None:
    await fence(ledger, profile.id, 10)
    await fence(ledger, profile.id, 11)
    with pytest.raises(SupersededError):
        await push(ledger, profile.id, 10, 1, 1)


async def test_an_epoch_that_was_never_handed_out_is_refused(ledger: Ledger, profile: Profile) -> None:
    with pytest.raises(InvalidRequestError):
        await push(ledger, profile.id, 10, 1, 1)
    await fence(ledger, profile.id, 10)
    with pytest.raises(InvalidRequestError):
        await push(ledger, profile.id, 11, 1, 1)


async def test_a_new_grant_waits_for_a_push_that_passed_the_fence(ledger: Ledger, profile: Profile) -> None:
    """The check and the commit cannot be separated by a new grant."""
    await fence(ledger, profile.id, 10)
    async with ledger.begin() as tx:
        await pushes.take(tx, [batch_of(profile.id, 10, 1, 1)])
        raising = asyncio.create_task(fence(ledger, profile.id, 11))
        done, _ = await asyncio.wait([raising], timeout=0.3)
        assert not done, "the fence was raised between the check and the commit"
    await raising
    with pytest.raises(SupersededError):
        await push(ledger, profile.id, 10, 2, 1)


async def test_a_push_waits_for_a_grant_that_is_being_fenced(ledger: Ledger, profile: Profile) -> None:
    await fence(ledger, profile.id, 10)
    async with ledger.begin() as tx:
        await fences.raise_to(tx, [(profile.id, 11)])
        pushing = asyncio.create_task(push(ledger, profile.id, 10, 1, 1))
        done, _ = await asyncio.wait([pushing], timeout=0.3)
        assert not done
    with pytest.raises(SupersededError):
        await pushing


async def test_a_record_without_a_time_happened_when_it_was_committed(ledger: Ledger, profile: Profile) -> None:
    await fence(ledger, profile.id, 10)
    made = lines([{"kind": "a", "data": 1}, {"kind": "b", "data": 2, "at": NOW}])
    await pushes.commit(ledger, [Batch(profile.id, 10, 1, "s1/1", made)])
    async with ledger.begin() as tx:
        first, second = (await records.page(tx, profile.id)).items
    assert first.at == first.received_at == second.received_at
    assert second.at == NOW


UNCHECKED = b"1\tcheck\tnow\t%b\t"
"""A line that nobody has checked."""


@pytest.mark.parametrize(
    "data", [b'"\\\\u0000"', b"1e140000", b"[NaN]", b"[" * 20_000 + b"]" * 20_000, b'"\\\\ud800"', b"{"]
)
async def test_what_postgresql_refuses_costs_nobody_else_its_batch(
    ledger: Ledger, profile: Profile, data: bytes
) -> None:
    """The checks before the COPY may miss something: the guilty batch is refused, and its record is named."""
    await fence(ledger, profile.id, 10)
    group = [batch_of(profile.id, 10, number, number, "fine") for number in range(7)]
    group[3] = Batch(profile.id, 10, 3, "s1/1", [*lines([{"data": 3}]), UNCHECKED % data])
    outcomes = await pushes.commit(ledger, group)
    refused = outcomes.pop(3)
    assert outcomes == [Pushed(2, duplicate=False)] * 6
    assert isinstance(refused, InvalidRequestError)
    assert [wrong.field for wrong in refused.fields] == ["records.1"]
    async with ledger.begin() as tx:
        assert {item.batch for item in (await records.page(tx, profile.id)).items} == {0, 1, 2, 4, 5, 6}
    assert await push(ledger, profile.id, 10, 3, "fine") == Pushed(1, duplicate=False)


async def test_each_batch_of_a_group_has_its_own_answer(ledger: Ledger, profile: Profile) -> None:
    async with ledger.begin() as tx:
        await fences.raise_to(tx, [(profile.id, 10), ("prf_b", 5)])
    await push(ledger, profile.id, 10, 1, 1)
    group = [
        batch_of(profile.id, 10, 1, 1),
        batch_of(profile.id, 9, 2, 1),
        batch_of(profile.id, 10, 3, 1, 2),
        batch_of("prf_b", 6, 1, 1),
        batch_of("prf_b", 5, 1),
        batch_of(profile.id, 10, 3, 1, 2),
        batch_of("prf_c", 1, 1, 1),
    ]
    told = await pushes.commit(ledger, group)
    assert [type(one) for one in told if not isinstance(one, Pushed)] == [
        SupersededError,
        InvalidRequestError,
        InvalidRequestError,
    ]
    assert [told[at] for at in (0, 2, 4, 5)] == [
        Pushed(0, duplicate=True),
        Pushed(2, duplicate=False),
        Pushed(0, duplicate=False),
        Pushed(0, duplicate=True),
    ]


async def test_groups_and_grants_of_the_same_profiles_never_wait_for_each_other_in_a_circle(ledger: Ledger) -> None:
    """Both lock in one order; no data gets in under an epoch that was already raised when its push began."""
    names = [f"prf_{letter}" for letter in "cafebd"]
    async with ledger.begin() as tx:
        await fences.raise_to(tx, [(name, 1) for name in names])
    raised = dict.fromkeys(names, 1)

    async def grant(turn: int) -> None:
        some = names[turn % 3 :: 2] + names[: turn % 4]
        wanted = {name: raised[name] + 1 for name in some}
        async with ledger.begin() as tx:
            await fences.raise_to(tx, list(wanted.items()))
        for name, epoch in wanted.items():
            raised[name] = max(raised[name], epoch)

    async def offer(turn: int) -> None:
        before = dict(raised)
        shuffled = names[turn % 6 :] + names[: turn % 6]
        group = [batch_of(name, before[name] - turn % 2, turn, turn) for name in shuffled]
        for batch, outcome in zip(group, await pushes.commit(ledger, group), strict=True):
            if isinstance(outcome, Pushed):
                assert batch.epoch >= before[batch.profile]

    async with asyncio.timeout(60):
        for start in range(0, 120, 8):
            turns = range(start, start + 8)
            await asyncio.gather(*(one(turn) for turn in turns for one in (grant, offer)))
    async with ledger.begin() as tx:
        ids = {name: [item.id for item in await records.newest(tx, name, 500)] for name in names}
    assert all(ids.values())


async def test_ids_of_a_profile_rise_in_the_order_of_the_commits(ledger: Ledger, profile: Profile) -> None:
    """Whoever has read up to an id never misses a record that is committed later."""
    await fence(ledger, profile.id, 10)
    seen: list[int] = []
    pushing = asyncio.gather(*(push(ledger, profile.id, 10, number, *range(20)) for number in range(40)))
    while True:
        over = pushing.done()
        async with ledger.begin() as tx:
            found = await records.page(tx, profile.id, limit=500, after=Position(seen[-1]) if seen else None)
        seen += [item.id for item in found.items]
        if over and not found.items:
            break
    await pushing
    assert len(seen) == len(set(seen)) == 800


async def test_without_a_partition_nothing_is_taken_until_there_is_one(ledger: Ledger, profile: Profile) -> None:
    await fence(ledger, profile.id, 10)
    async with ledger.begin() as tx:
        await partitions.drop(tx, "records_first")
    with pytest.raises(MissingPartitionError):
        await push(ledger, profile.id, 10, 1, 1)
    async with ledger.begin() as tx:
        (made,) = await partitions.ensure(tx)
    assert await push(ledger, profile.id, 10, 1, 1) == Pushed(1, duplicate=False)
    async with ledger.begin() as tx:
        assert made in [one.name for one in await partitions.all_of(tx)]
