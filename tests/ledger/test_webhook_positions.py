"""No record that is committed is overlooked, in whatever order transactions begin, write and end."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from rota.ledger import accounts, profiles, webhook_deliveries, webhook_positions, webhooks
from rota.ledger.connection import Ledger
from tests.ledger.hooked import Hooked


@pytest.fixture
async def hooked(ledger: Ledger) -> Hooked:
    made = Hooked(ledger)
    await made.add_profiles(4)
    return made


async def test_without_webhooks_nothing_is_noted(hooked: Hooked) -> None:
    await hooked.push(0, 1)
    assert await hooked.execute("SELECT count(*) FROM webhook_touches") == 0


async def test_a_webhook_begins_with_what_comes_after_it(hooked: Hooked) -> None:
    await hooked.push(0, "before")
    webhook = await hooked.add_webhook()
    assert await hooked.all_of(webhook) == {}
    await hooked.push(0, "after")
    await hooked.push(2, "also")
    assert await hooked.all_of(webhook) == {0: ["after"], 2: ["also"]}
    assert await hooked.all_of(webhook) == {}


async def test_a_webhook_may_begin_with_what_is_kept(hooked: Hooked) -> None:
    await hooked.push(0, "first", "second")
    webhook = await hooked.add_webhook(from_start=True)
    await hooked.push(0, "third")
    assert await hooked.all_of(webhook) == {0: ["first", "second", "third"]}


async def test_of_a_profile_that_was_deleted_before_nothing_is_sent(hooked: Hooked) -> None:
    old = await hooked.add_webhook()
    await hooked.push(0, "first")
    await hooked.push(1, "of another")
    async with hooked.ledger.begin() as tx:
        await profiles.delete(tx, hooked.profiles[0])
    webhook = await hooked.add_webhook(from_start=True)
    await hooked.push(0, "its bot had not stopped yet")
    assert await hooked.all_of(webhook) == {1: ["of another"]}
    assert await hooked.all_of(old) == {0: ["first", "its bot had not stopped yet"], 1: ["of another"]}


async def test_a_clients_webhook_gets_the_clients_records_alone(hooked: Hooked) -> None:
    async with hooked.ledger.begin() as tx:
        owner = (await accounts.create(tx, "acme")).id
    await hooked.add_profiles(1, account=owner)
    mine, fleets = await hooked.add_webhook(account=owner), await hooked.add_webhook()
    await hooked.push(0, "another's")
    await hooked.push(4, "mine")
    assert await hooked.all_of(mine) == {4: ["mine"]}
    assert await hooked.all_of(fleets) == {0: ["another's"], 4: ["mine"]}


async def test_records_of_other_kinds_are_passed_over(hooked: Hooked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_deliveries, "WINDOW", 5)
    webhook = await hooked.add_webhook(kinds=["alarm"])
    for number in range(20):
        await hooked.push(0, number, kind="alarm" if number % 7 == 0 else "check")
    assert await hooked.all_of(webhook, ["alarm"]) == {0: [0, 7, 14]}
    assert await hooked.execute("SELECT last_id = (SELECT max(id) FROM records) FROM webhook_positions")


async def test_transactions_that_end_in_another_order_than_they_began_lose_nothing(hooked: Hooked) -> None:
    """Each is open while others commit and the steward looks; ids are not in the order of commits across profiles."""
    webhook = await hooked.add_webhook()
    await hooked.find()
    chance = random.Random(7)
    expected: dict[int, list[int]] = {}
    got: dict[int, list[int]] = {}
    number = 0
    for _round in range(25):
        open_ones: list[AsyncExitStack] = []
        for profile in chance.sample(range(4), chance.randint(1, 4)):
            stack = AsyncExitStack()
            tx = await stack.enter_async_context(hooked.ledger.begin())
            number += 1
            await hooked.push_in(tx, profile, number)
            expected.setdefault(profile, []).append(number)
            open_ones.append(stack)
        chance.shuffle(open_ones)
        for stack in open_ones:
            if chance.random() < 0.5:
                for profile, data in (await hooked.all_of(webhook)).items():
                    got.setdefault(profile, []).extend(data)
            await stack.aclose()
    for profile, data in (await hooked.all_of(webhook)).items():
        got.setdefault(profile, []).extend(data)
    assert got == expected


async def test_a_push_that_did_not_see_the_webhook_yet_is_found_by_the_sweep(hooked: Hooked) -> None:
    """It was under way when the webhook was made, and drew its ids afterwards."""
    async with hooked.ledger.begin() as making:
        made = await webhooks.create(making, url="https://receiver.example/", secret="whsec_x", fleet="default")
        async with hooked.ledger.begin() as tx:
            await hooked.push_in(tx, 1, "while it was made")
            assert await hooked.execute("SELECT count(*) FROM webhook_touches") == 0
    assert await hooked.all_of(made.id) == {1: ["while it was made"]}


async def test_the_sweep_waits_for_every_transaction_that_may_not_have_seen_the_webhook(hooked: Hooked) -> None:
    async with hooked.ledger.begin() as tx:
        await hooked.push_in(tx, 3, "held open")
        webhook = await hooked.add_webhook()
        # As if this transaction had looked for webhooks before there was one, and had not drawn its ids yet.
        await hooked.execute("UPDATE webhooks SET from_id = 0")
        async with hooked.ledger.begin() as other:
            assert await webhook_positions.sweep(other)
        async with hooked.ledger.begin() as other:
            assert not await webhook_positions.sweep(other)
        assert await hooked.execute("SELECT swept_to FROM webhooks") == ""
    assert await hooked.all_of(webhook) == {3: ["held open"]}
    assert await hooked.execute("SELECT swept_to FROM webhooks") is None


async def test_a_database_restored_on_another_server_is_swept(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook(from_start=True)
    await hooked.push(0, 1)
    await hooked.execute("UPDATE webhooks SET horizon = 9000000000000")
    assert await hooked.all_of(webhook) == {0: [1]}


async def test_a_note_that_comes_while_a_profile_is_looked_at_is_not_lost(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    await hooked.push(0, 1)
    await hooked.find()
    await hooked.execute("UPDATE webhook_positions SET last_id = last_id + 1000")
    looking = AsyncExitStack()
    tx = await looking.enter_async_context(hooked.ledger.begin())
    assert (await webhook_deliveries.begin(tx, webhook, [], 10))[0] == []
    await hooked.execute("UPDATE records SET id = id + 2000")
    await hooked.push(0, 2)
    handing_on = asyncio.create_task(hooked.find())
    await hooked.until_blocked()
    await looking.aclose()
    await handing_on
    assert await hooked.execute("SELECT due_at <= now() FROM webhook_positions")


async def test_many_writers_and_lookers_at_once_neither_lose_nor_block(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    got: dict[int, list[int]] = {}
    done = asyncio.Event()

    async def write(profile: int) -> None:
        for number in range(60):
            await hooked.push(profile, number)

    async def look() -> None:
        while not done.is_set():
            for profile, data in (await hooked.all_of(webhook)).items():
                got.setdefault(profile, []).extend(data)

    async def hand_on() -> None:
        while not done.is_set():
            await hooked.find()

    looking = [asyncio.create_task(look()), asyncio.create_task(hand_on())]
    await asyncio.gather(*(write(profile) for profile in range(4)))
    done.set()
    await asyncio.gather(*looking)
    for profile, data in (await hooked.all_of(webhook)).items():
        got.setdefault(profile, []).extend(data)
    assert got == {profile: list(range(60)) for profile in range(4)}


async def test_what_is_removed_unsent_is_counted_and_told(hooked: Hooked) -> None:
    webhook, other = await hooked.add_webhook(kinds=["alarm"]), await hooked.add_webhook()
    await hooked.push(0, 1, 2, 3, kind="alarm")
    await hooked.push(0, 4, kind="check")
    await hooked.push(1, 5, kind="alarm")
    await hooked.find()
    assert (await hooked.all_of(other))[1] == [5]
    query = text("DELETE FROM records WHERE profile_id = :id RETURNING profile_id, id, kind")
    async with hooked.ledger.begin() as tx:
        gone = [tuple(row) for row in await tx.execute(query, {"id": hooked.profiles[0]})]
        lost = await webhook_positions.lose_rows(tx, gone)
        assert await webhook_positions.lose_rows(tx, gone) == []
    assert {item.webhook: item.number for item in lost} == {webhook: 3}, "the other one has sent them"
    await hooked.push(0, 6, kind="alarm")
    await hooked.find()
    begun = {hooked.profiles.index(item.profile): item for item in await hooked.begin(webhook, ["alarm"])}
    assert (begun[0].lost, begun[1].lost) == (3, 0)
    assert await hooked.data(begun[0]) == [6]
    async with hooked.ledger.begin() as tx:
        assert (await webhooks.get(tx, webhook)).lost == 3
        assert (await webhooks.get(tx, other)).lost == 0


async def test_what_old_partitions_hold_is_counted_before_they_go(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook(from_start=True)
    await hooked.push(0, 1, 2)
    await hooked.execute("UPDATE records SET received_at = now() - interval '10 days'")
    await hooked.push(0, 3)
    await hooked.find()
    week = datetime.now(UTC) - timedelta(days=7)
    async with hooked.ledger.begin() as tx:
        assert [item.number for item in await webhook_positions.lose_before(tx, week)] == [2]
        assert await webhook_positions.lose_before(tx, week) == []
    await hooked.execute("DELETE FROM records WHERE received_at < :week", week=week)
    (begun,) = await hooked.begin(webhook)
    assert (begun.lost, await hooked.data(begun)) == (2, [3])


async def test_a_position_of_long_ago_finds_what_is_new(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    await hooked.push(0, 1)
    assert await hooked.all_of(webhook) == {0: [1]}
    await hooked.execute("UPDATE webhook_positions SET last_at = now() - interval '200 days'")
    await hooked.push(0, 2)
    assert await hooked.all_of(webhook) == {0: [2]}


async def test_a_sweep_goes_through_all_profiles_in_steps(hooked: Hooked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_positions, "SWEEP_STEP", 2)
    await hooked.add_profiles(3)
    for profile in range(0, 7, 2):
        await hooked.push(profile, profile)
    webhook = await hooked.add_webhook(from_start=True)
    assert await hooked.all_of(webhook) == {profile: [profile] for profile in range(0, 7, 2)}
    assert await hooked.execute("SELECT count(*) FROM webhook_positions") == 4
