"""Pushes: once per batch, never under an old epoch, and what cannot be kept is named."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from rota.errors import InvalidRequestError, ProblemError, SupersededError
from rota.ledger import fences, pushes, records
from rota.ledger.connection import Ledger
from rota.ledger.profiles import Profile
from rota.ledger.pushes import Batch, Pushed, Row

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def batch_of(profile: str, epoch: int, number: int, *data: Any) -> Batch:
    rows = [Row("check", None, None if item is None else json.dumps(item)) for item in data]
    return Batch(profile, epoch, number, "s1/1", rows)


async def push(ledger: Ledger, profile: str, epoch: int, batch: int, *data: Any) -> Pushed:
    async with ledger.begin() as tx:
        (outcome,) = await pushes.take(tx, [batch_of(profile, epoch, batch, *data)])
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


async def test_what_postgresql_cannot_keep_is_refused_and_nothing_is_stored(ledger: Ledger, profile: Profile) -> None:
    await fence(ledger, profile.id, 10)
    with pytest.raises(InvalidRequestError, match="cannot be kept"):
        await push(ledger, profile.id, 10, 1, "fine", "\x00")
    assert await push(ledger, profile.id, 10, 1, "fine") == Pushed(1, duplicate=False)


async def test_a_record_without_a_time_happened_when_it_was_committed(ledger: Ledger, profile: Profile) -> None:
    await fence(ledger, profile.id, 10)
    async with ledger.begin() as tx:
        await pushes.take(tx, [Batch(profile.id, 10, 1, "s1/1", [Row("a", None, "1"), Row("b", NOW, "2")])])
        first, second = (await records.page(tx, profile.id)).items
    assert first.at == first.received_at == second.received_at
    assert second.at == NOW
