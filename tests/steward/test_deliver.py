"""Records reach receivers in order and at least once, whatever the receiver says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rota.hooks.signature import new_secret
from rota.ledger import dead_letters, webhooks
from rota.steward import deliver
from rota.steward.deliver import AT_ONCE_TO_ONE, FAILING, Courier
from rota.steward.lead import Steward
from tests.hooks.receiver import OK, Answer, Received, Receiver, answer, is_signed_by
from tests.ledger.hooked import Hooked
from tests.steward.receiving import SETTLED, by_profile, seen, until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "PAUSE", 0.02)
    monkeypatch.setattr(deliver, "FIRST_DELAY", 0.02)


async def test_records_come_signed_in_order_and_as_documented(
    hooked: Hooked, courier: Courier, receiver: Receiver
) -> None:
    secret = new_secret()
    webhook = await hooked.add_webhook(receiver.url, secret)
    await courier.lead(True)
    await hooked.push(0, {"price": 12.50, "big": 12345678901234567890123}, None, "ü\u2028")
    await receiver.until(lambda: len(receiver.delivered) >= 1)
    (got,) = receiver.delivered
    assert is_signed_by(secret, got)
    assert got.id.startswith("msg_")
    assert got.json["type"] == "records.pushed"
    assert got.json["timestamp"] == got.data["records"][-1]["received_at"]
    assert (got.data["webhook"], got.data["profile"]) == (webhook, hooked.profiles[0])
    assert (got.data["count"], got.data["missing"]) == (3, 0)
    assert [record["data"] for record in got.data["records"]] == [
        {"price": 12.50, "big": 12345678901234567890123},
        None,
        "ü\u2028",
    ]
    first = got.data["records"][0]
    assert set(first) == {"id", "epoch", "batch", "position", "bot", "kind", "at", "received_at", "data"}
    assert (first["position"], first["bot"], first["kind"]) == (0, "s/1", "record")
    await until(hooked, SETTLED)
    assert (await seen(hooked, webhook)).last_success_at is not None


async def test_many_profiles_go_on_side_by_side_within_bounds_and_each_in_order(
    hooked: Hooked, courier: Courier, receiver: Receiver
) -> None:
    await hooked.add_profiles(20)
    webhook = await hooked.add_webhook(receiver.url)
    under_way: set[str] = set()

    async def slowly(received: Received) -> Answer:
        assert received.data["profile"] not in under_way, "the one before is not delivered yet"
        under_way.add(received.data["profile"])
        await asyncio.wait([asyncio.create_task(receiver.until(lambda: receiver.most_at_once > 3))], timeout=0.05)
        under_way.remove(received.data["profile"])
        return OK

    receiver.decide = slowly
    for number in range(3):
        for profile in range(23):
            await hooked.push(profile, number)
    await courier.lead(True)
    for number in range(3, 6):
        for profile in range(23):
            await hooked.push(profile, number)
    await until(hooked, SETTLED)
    assert by_profile(receiver.received) == {profile: [0, 1, 2, 3, 4, 5] for profile in hooked.profiles}
    assert 3 < receiver.most_at_once <= AT_ONCE_TO_ONE
    assert (await seen(hooked, webhook)).waiting == 0


async def test_a_failed_message_is_tried_again_and_nothing_of_its_profile_overtakes_it(
    hooked: Hooked, courier: Courier, receiver: Receiver
) -> None:
    webhook = await hooked.add_webhook(receiver.url)
    refused = hooked.profiles[0]

    async def decide(received: Received) -> Answer:
        tries = sum(one.id == received.id for one in receiver.received)
        return answer(500) if received.data["profile"] == refused and tries < 3 else OK

    receiver.decide = decide
    await courier.lead(True)
    await hooked.push(0, 1)
    await receiver.until(lambda: len(receiver.received) >= 1)
    await hooked.push(0, 2)
    await hooked.push(1, 3)
    await until(hooked, SETTLED)
    assert by_profile(receiver.delivered) == {refused: [1, 2], hooked.profiles[1]: [3]}
    assert by_profile(receiver.received, once=False)[refused] == [1, 2]
    well = await seen(hooked, webhook)
    assert (well.failures, well.failing_since, well.dead) == (0, None, 0)


async def test_410_ends_it_until_somebody_enables_it(hooked: Hooked, courier: Courier, receiver: Receiver) -> None:
    webhook = await hooked.add_webhook(receiver.url)

    async def gone(_received: Received) -> Answer:
        return answer(410)

    receiver.decide = gone
    await courier.lead(True)
    await hooked.push(0, 1)
    await until(hooked, "SELECT state = 'gone' FROM webhooks")
    receiver.decide = receiver._agree
    await hooked.push(0, 2)
    await until(hooked, "SELECT NOT EXISTS (SELECT FROM webhook_touches)")
    assert len(receiver.received) == 1
    async with hooked.ledger.begin() as tx:
        await webhooks.change(tx, webhook, paused=False)
    await until(hooked, SETTLED)
    assert by_profile(receiver.delivered) == {hooked.profiles[0]: [1, 2]}


async def test_a_paused_one_gets_all_that_came_meanwhile_when_it_is_enabled(
    hooked: Hooked, courier: Courier, receiver: Receiver
) -> None:
    webhook = await hooked.add_webhook(receiver.url, paused=True)
    await courier.lead(True)
    await hooked.push(0, 1)
    await until(hooked, "SELECT EXISTS (SELECT FROM webhook_positions WHERE due_at <= now())")
    assert receiver.received == []
    async with hooked.ledger.begin() as tx:
        await webhooks.change(tx, webhook, paused=False)
    await receiver.until(lambda: len(receiver.delivered) >= 1)


async def test_a_receiver_that_asks_for_a_pause_gets_one(hooked: Hooked, courier: Courier, receiver: Receiver) -> None:
    webhook = await hooked.add_webhook(receiver.url)

    async def busy(_received: Received) -> Answer:
        return answer(429, retry_after="600")

    receiver.decide = busy
    await courier.lead(True)
    await hooked.push(0, 1)
    await until(hooked, "SELECT not_before > now() + interval '9 minutes' FROM webhooks")
    assert await hooked.execute("SELECT due_at > now() + interval '9 minutes' FROM webhook_deliveries")
    await hooked.push(1, 2)
    await until(hooked, "SELECT NOT EXISTS (SELECT FROM webhook_touches)")
    assert len(receiver.received) == 1, "other profiles' messages wait, too"
    receiver.decide = receiver._agree
    async with hooked.ledger.begin() as tx:
        await webhooks.change(tx, webhook, paused=False)
    await until(hooked, SETTLED)


async def test_an_endpoint_that_keeps_failing_is_asked_by_one_message_at_a_time(
    hooked: Hooked, courier: Courier, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert FAILING + AT_ONCE_TO_ONE == 13
    monkeypatch.setattr(deliver, "ASK_AT_LEAST_EVERY", 0.1)
    await hooked.add_profiles(10)
    webhook = await hooked.add_webhook(receiver.url)

    async def fail(_received: Received) -> Answer:
        return answer(500)

    receiver.decide = fail
    await courier.lead(True)
    for profile in range(13):
        await hooked.push(profile, profile)
    await until(hooked, "SELECT failures > 13 FROM webhooks")
    told = await seen(hooked, webhook)
    assert told.failing_since is not None
    assert told.not_before is not None
    assert told.last_error == "answered 500 Internal Server Error"
    receiver.most_at_once = 0
    known = len(receiver.received)
    await receiver.until(lambda: len(receiver.received) > known + 1)
    assert receiver.most_at_once == 1


async def test_what_fails_for_a_day_is_a_dead_letter_and_its_profile_goes_on(
    hooked: Hooked, courier: Courier, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "LONGEST_DELAY", 0.01)
    webhook = await hooked.add_webhook(receiver.url)

    async def decide(received: Received) -> Answer:
        return answer(500) if received.data["records"][0]["data"] == "poison" else OK

    receiver.decide = decide
    await courier.lead(True)
    await hooked.push(0, "poison")
    await receiver.until(lambda: len(receiver.received) >= 3)
    await hooked.push(0, "wholesome")
    await hooked.execute("UPDATE webhook_deliveries SET since = now() - interval '25 hours'")
    await until(hooked, "SELECT EXISTS (SELECT FROM webhook_deliveries WHERE dead_at IS NOT NULL)")
    await until(hooked, SETTLED)
    assert by_profile(receiver.delivered) == {hooked.profiles[0]: ["wholesome"]}
    async with hooked.ledger.begin() as tx:
        (letter,) = (await dead_letters.page(tx, webhook)).items
        assert letter.attempts >= deliver.LEAST_TRIES
        await dead_letters.replay(tx, webhook, letter.id)
    receiver.decide = receiver._agree
    await until(hooked, SETTLED)
    assert receiver.delivered[-1].id == letter.id
    assert receiver.delivered[-1].data["records"][0]["data"] == "poison"


async def test_records_that_were_removed_are_told_of(hooked: Hooked, courier: Courier, receiver: Receiver) -> None:
    webhook = await hooked.add_webhook(receiver.url)

    async def fail(_received: Received) -> Answer:
        return answer(500)

    receiver.decide = fail
    await courier.lead(True)
    await hooked.push(0, 1, 2, 3)
    await until(hooked, "SELECT tries > 0 AND last_status = 500 FROM webhook_deliveries")
    await hooked.execute("DELETE FROM records WHERE position < 2")
    receiver.decide = receiver._agree
    await until(hooked, SETTLED)
    assert receiver.delivered[-1].data["missing"] == 2
    assert (await seen(hooked, webhook)).lost == 2


async def test_a_sender_that_stops_gives_back_what_it_was_at(
    hooked: Hooked, courier: Courier, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "END_WITHIN", 0.05)
    await hooked.add_webhook(receiver.url)
    never = asyncio.Event()

    async def hang(_received: Received) -> Answer:
        await never.wait()
        return OK

    receiver.decide = hang
    await courier.lead(True)
    await hooked.push(0, 1)
    await receiver.until(lambda: len(receiver.received) >= 1)
    await courier.lead(False)
    assert await hooked.execute("SELECT due_at <= now() AND tries = 0 FROM webhook_deliveries")
    receiver.decide = receiver._agree
    await courier.lead(True)
    await until(hooked, SETTLED)
    assert [one.id for one in receiver.received] == [receiver.received[0].id] * 2
    never.set()


async def test_the_steward_that_leads_sends_and_stops_when_it_stops(
    hooked: Hooked, courier: Courier, receiver: Receiver, live: Any
) -> None:
    await hooked.add_webhook(receiver.url)
    stop = asyncio.Event()
    running = asyncio.create_task(Steward(hooked.ledger, live, courier).run(stop))
    await hooked.push(0, 1)
    await receiver.until(lambda: len(receiver.delivered) >= 1)
    stop.set()
    await running
    await hooked.push(0, 2)
    assert courier._running is None
