"""A delivery's records are fixed before it is sent, one at a time for a profile, and no claim outlives a later one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rota.errors import NotFoundError
from rota.ledger import dead_letters, webhook_deliveries, webhooks
from rota.ledger.connection import Ledger
from rota.ledger.webhook_deliveries import Delivery
from tests.ledger.hooked import Hooked


@pytest.fixture
async def hooked(ledger: Ledger) -> Hooked:
    made = Hooked(ledger)
    await made.add_profiles(3)
    return made


async def claim(hooked: Hooked, webhook: str) -> list[Delivery]:
    async with hooked.ledger.begin() as tx:
        return await webhook_deliveries.claim(tx, webhook, 10)


async def fail(hooked: Hooked, delivery: Delivery, again_in: float | None) -> bool:
    async with hooked.ledger.begin() as tx:
        return await webhook_deliveries.failed(tx, delivery, status=500, error="answered 500", again_in=again_in)


async def pass_time(hooked: Hooked, delivery: Delivery) -> None:
    """The claim, or the pause after a failure, is over."""
    await hooked.execute("UPDATE webhook_deliveries SET due_at = now() WHERE id = :id", id=delivery.id)


async def test_records_and_id_stay_the_same_from_try_to_try(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    await hooked.push(0, 1, 2)
    await hooked.find()
    (first,) = await hooked.begin(webhook)
    await hooked.push(0, 3)
    assert await claim(hooked, webhook) == [], "it is claimed already"
    await pass_time(hooked, first)
    (second,) = await claim(hooked, webhook)
    assert (second.id, second.tries, second.attempts) == (first.id, 2, 2)
    assert await hooked.data(second) == await hooked.data(first) == [1, 2]


async def test_the_next_one_of_a_profile_waits_for_the_one_before(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    await hooked.push(0, 1)
    await hooked.find()
    (first,) = await hooked.begin(webhook)
    await hooked.push(0, 2)
    await hooked.push(1, 3)
    await hooked.find()
    (other,) = await hooked.begin(webhook)
    assert other.profile == hooked.profiles[1], "other profiles go on"
    assert await fail(hooked, first, again_in=3600)
    await hooked.find()
    assert await hooked.begin(webhook) == []
    await pass_time(hooked, first)
    (again,) = await claim(hooked, webhook)
    assert await hooked.deliver(again)
    (second,) = await hooked.begin(webhook)
    assert await hooked.data(second) == [2]


async def test_a_claim_that_was_overtaken_changes_nothing(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    await hooked.push(0, 1)
    await hooked.find()
    (stale,) = await hooked.begin(webhook)
    await pass_time(hooked, stale)
    (newer,) = await claim(hooked, webhook)
    assert not await hooked.deliver(stale)
    assert not await fail(hooked, stale, again_in=None)
    async with hooked.ledger.begin() as tx:
        await webhook_deliveries.release(tx, [stale])
    assert await claim(hooked, webhook) == []
    assert await hooked.deliver(newer)
    assert not await hooked.deliver(newer)


async def test_a_released_claim_may_be_taken_at_once(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    await hooked.push(0, 1)
    await hooked.find()
    (first,) = await hooked.begin(webhook)
    async with hooked.ledger.begin() as tx:
        await webhook_deliveries.release(tx, [first])
    (second,) = await claim(hooked, webhook)
    assert (second.id, second.tries) == (first.id, 1)


async def test_two_senders_never_claim_the_same(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    for profile in range(3):
        await hooked.push(profile, profile)
    await hooked.find()
    begun = [
        delivery for found in await asyncio.gather(*(hooked.begin(webhook) for _ in range(5))) for delivery in found
    ]
    assert sorted(delivery.profile for delivery in begun) == sorted(hooked.profiles)
    for delivery in begun:
        await pass_time(hooked, delivery)
    claimed = [one for found in await asyncio.gather(*(claim(hooked, webhook) for _ in range(5))) for one in found]
    assert sorted(one.id for one in claimed) == sorted(one.id for one in begun)


@pytest.mark.parametrize(("size", "number"), [(10, 100), (100_000, 2), (1_000_000, 1)])
async def test_a_message_is_bounded_in_records_and_bytes(hooked: Hooked, size: int, number: int) -> None:
    webhook = await hooked.add_webhook()
    for _ in range(3):
        await hooked.push(0, *["x" * size] * (50 if size < 1000 else 1))
    await hooked.find()
    (first,) = await hooked.begin(webhook)
    assert first.count == len(await hooked.data(first)) == number


@pytest.mark.parametrize("kinds", [[], ["alarm"]])
async def test_large_records_that_are_stored_small_are_all_sent_in_bounded_messages(
    hooked: Hooked, kinds: list[str]
) -> None:
    webhook = await hooked.add_webhook(kinds=kinds)
    for number in range(12):
        await hooked.push(0, [number, "x" * 200_000], kind="alarm")
    await hooked.push(0, 12, kind="alarm")
    await hooked.push(0, 13, kind="check")
    got = (await hooked.all_of(webhook, kinds))[0]
    assert [item if isinstance(item, int) else item[0] for item in got] == list(range(13 if kinds else 14))
    assert await hooked.execute("SELECT last_id = (SELECT max(id) FROM records) FROM webhook_positions")


async def test_what_is_given_up_makes_room_and_is_kept(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    await hooked.push(0, 1)
    await hooked.find()
    (first,) = await hooked.begin(webhook)
    await hooked.push(0, 2)
    assert await fail(hooked, first, again_in=None)
    (second,) = await hooked.begin(webhook)
    assert await hooked.data(second) == [2]
    async with hooked.ledger.begin() as tx:
        (letter,) = (await dead_letters.page(tx, webhook)).items
        assert letter == await dead_letters.get(tx, webhook, first.id)
        assert (await webhooks.get(tx, webhook)).dead == 1
    assert (letter.first, letter.last, letter.count, letter.attempts) == (first.from_id, first.to_id, 1, 1)
    assert (letter.last_status, letter.last_error) == (500, "answered 500")


async def test_a_dead_letter_is_replayed_under_its_old_id_beside_what_is_new(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    await hooked.push(0, 1)
    await hooked.find()
    (first,) = await hooked.begin(webhook)
    await fail(hooked, first, again_in=None)
    await hooked.push(0, 2)
    await hooked.find()
    (second,) = await hooked.begin(webhook)
    async with hooked.ledger.begin() as tx:
        assert await dead_letters.replay(tx, webhook, first.id) == 1
        with pytest.raises(NotFoundError):
            await dead_letters.replay(tx, webhook, first.id)
    (again,) = await claim(hooked, webhook)
    assert (again.id, again.tries, again.attempts, again.replayed) == (first.id, 1, 2, True)
    assert await hooked.data(again) == [1]
    await fail(hooked, again, again_in=None)
    async with hooked.ledger.begin() as tx:
        assert await dead_letters.replay(tx, webhook) == 1
    (again,) = await claim(hooked, webhook)
    assert await hooked.deliver(again)
    assert await hooked.execute("SELECT due_at = 'infinity' FROM webhook_positions"), "the newer one is under way still"
    assert await hooked.deliver(second)


async def test_dead_letters_are_paged_newest_first_and_discarded(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    died = []
    for number in range(5):
        await hooked.push(0, number)
        await hooked.find()
        (delivery,) = await hooked.begin(webhook)
        await fail(hooked, delivery, again_in=None)
        died.append(delivery.id)
    async with hooked.ledger.begin() as tx:
        first = await dead_letters.page(tx, webhook, limit=2)
        rest = await dead_letters.page(tx, webhook, limit=10, after=first.next)
        assert [letter.id for letter in [*first.items, *rest.items]] == sorted(died, reverse=True)
        assert await dead_letters.discard(tx, webhook, died[0]) == 1
        with pytest.raises(NotFoundError):
            await dead_letters.discard(tx, webhook, died[0])
        assert await dead_letters.discard(tx, webhook) == 4
        assert (await dead_letters.page(tx, webhook)).items == []


async def test_dead_letters_are_kept_within_bounds(hooked: Hooked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "KEPT", 2)
    webhook = await hooked.add_webhook()
    died = []
    for number in range(5):
        await hooked.push(0, number)
        await hooked.find()
        (delivery,) = await hooked.begin(webhook)
        await fail(hooked, delivery, again_in=None)
        died.append(delivery.id)
    await hooked.execute(
        "UPDATE webhook_deliveries SET dead_at = now() - interval '31 days' WHERE id = :id", id=died[4]
    )
    async with hooked.ledger.begin() as tx:
        assert not await dead_letters.prune(tx)
        kept = [letter.id for letter in (await dead_letters.page(tx, webhook)).items]
    assert kept == [died[3], died[2]]


async def test_a_removed_webhook_leaves_nothing_behind(hooked: Hooked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "STEP", 2)
    webhook, other = await hooked.add_webhook(), await hooked.add_webhook()
    for profile in range(3):
        await hooked.push(profile, profile)
    await hooked.find()
    await hooked.begin(webhook)
    async with hooked.ledger.begin() as tx:
        await webhooks.remove(tx, webhook)
    more = True
    while more:
        async with hooked.ledger.begin() as tx:
            more = await dead_letters.prune(tx)
    assert await hooked.execute("SELECT string_agg(id, ' ') FROM webhooks") == other
    assert await hooked.execute("SELECT count(*) FROM webhook_secrets") == 1
    assert await hooked.execute("SELECT count(*) FROM webhook_positions") == 3
    assert await hooked.execute("SELECT count(*) FROM webhook_deliveries") == 0


async def test_a_batch_whose_records_were_removed_is_told_of_in_the_next_message(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    await hooked.push(0, 1, 2)
    await hooked.find()
    (first,) = await hooked.begin(webhook)
    await hooked.execute("DELETE FROM records")
    assert await hooked.data(first) == []
    async with hooked.ledger.begin() as tx:
        assert await webhook_deliveries.vanished(tx, first)
        assert (await webhooks.get(tx, webhook)).lost == 2
    await hooked.push(0, 3)
    await hooked.find()
    (second,) = await hooked.begin(webhook)
    assert (second.lost, await hooked.data(second)) == (2, [3])


async def test_webhooks_with_something_to_do_take_turns(hooked: Hooked) -> None:
    made = sorted([await hooked.add_webhook() for _ in range(3)])
    await hooked.push(0, 1)
    await hooked.find()

    async def ready(after: str = "", *busy: str) -> list[str]:
        async with hooked.ledger.begin() as tx:
            return await webhook_deliveries.ready(tx, busy=busy, after=after, most=10)

    assert await ready() == made
    assert await ready(made[0]) == [made[1], made[2], made[0]]
    assert await ready("", made[1]) == [made[0], made[2]]
    async with hooked.ledger.begin() as tx:
        await webhooks.change(tx, made[0], paused=True)
        await webhooks.note_failure(tx, made[1], status=429, error="answered 429", pause=60, gone=False)
    assert await ready() == [made[2]]
    for delivery in await hooked.begin(made[2]):
        await hooked.deliver(delivery)
    await hooked.begin(made[2])
    assert await ready() == []


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(["push 0", "push 1", "find", "begin", "deliver", "fail", "die", "crash", "lose claim"]))
)
async def test_whatever_happens_each_profile_gets_all_in_order_and_at_least_once(  # noqa: C901 - a branch for each
    ledger: Ledger, steps: list[str]
) -> None:
    """A receiver that drops doubles by id sees every record once, in order, unless its message died."""
    hooked = Hooked(ledger)
    await hooked.execute("TRUNCATE webhooks, webhook_touches, records, batches CASCADE")
    await hooked.add_profiles(2)
    webhook = await hooked.add_webhook()
    pushed: dict[int, list[int]] = {0: [], 1: []}
    seen: dict[str, list[Any]] = {}
    order: dict[int, list[str]] = {0: [], 1: []}
    held: list[Delivery] = []
    number = 0

    async def receive(delivery: Delivery) -> None:
        data = await hooked.data(delivery)
        if delivery.id in seen:
            assert seen[delivery.id] == data, "the same id says the same"
        else:
            order[hooked.profiles.index(delivery.profile)].append(delivery.id)
        seen[delivery.id] = data

    for step in [*steps, *["find", "lose claim", "begin", "deliver", "deliver", "deliver"] * 4]:
        if step.startswith("push"):
            number += 1
            profile = int(step[-1])
            await hooked.push(profile, number)
            pushed[profile].append(number)
        elif step == "find":
            await hooked.find()
        elif step == "begin":
            held += [*await claim(hooked, webhook), *await hooked.begin(webhook)]
        elif step == "lose claim":
            await hooked.execute("UPDATE webhook_deliveries SET due_at = now() WHERE dead_at IS NULL")
        elif step == "crash":
            held.clear()
        elif held:
            delivery = held.pop(0)
            await receive(delivery)
            if step == "deliver":
                await hooked.deliver(delivery)
            else:
                await fail(hooked, delivery, None if step == "die" else 0)
    for profile, numbers in pushed.items():
        got = [item for message in order[profile] for item in seen[message]]
        assert got == numbers
    assert await hooked.execute("SELECT count(*) FROM webhook_deliveries WHERE dead_at IS NULL") == 0
