"""Incidents about webhooks: raised while something is wrong, in the fleets whose profiles it concerns, then closed."""

from __future__ import annotations

from typing import Any

import pytest

from rota.ledger import accounts, dead_letters, fleets, webhook_deliveries, webhooks
from rota.ledger.connection import Ledger
from rota.steward import webhook_troubles as module
from rota.steward.webhook_troubles import webhook_troubles
from tests.ledger.hooked import Hooked


@pytest.fixture
async def hooked(ledger: Ledger) -> Hooked:
    made = Hooked(ledger)
    await made.add_profiles(1)
    return made


async def seen(hooked: Hooked, fleet: str = "default") -> dict[str, Any]:
    async with hooked.ledger.begin() as tx:
        found = await webhook_troubles(tx, fleet)
    return {kind: (one.subject, one.message) for kind, sightings in found.items() for one in sightings}


async def fail(hooked: Hooked, webhook: str, *, gone: bool = False) -> None:
    async with hooked.ledger.begin() as tx:
        await webhooks.note_failure(tx, webhook, status=500, error="answered 500.", pause=0, gone=gone)


async def test_a_receiver_that_fails_for_long_is_an_incident_until_it_is_well(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook(label="orders")
    await hooked.push(0, 1)
    await hooked.find()
    await fail(hooked, webhook)
    assert await seen(hooked) == {}, "a moment's failure is none"
    await hooked.execute("UPDATE webhooks SET failing_since = now() - interval '11 minutes'")
    ((kind, (subject, message)),) = (await seen(hooked)).items()
    assert (kind, subject) == (module.FAILING, webhook)
    assert f"Webhook orders ({webhook}) takes nothing: answered 500. Records of 1 profile wait" in message
    async with hooked.ledger.begin() as tx:
        await webhooks.note_success(tx, webhook, 200, every=0)
    assert await seen(hooked) == {}


async def test_a_receiver_that_is_gone_is_an_incident_at_once_until_it_is_enabled_or_deleted(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    await fail(hooked, webhook, gone=True)
    assert "410" in (await seen(hooked))[module.FAILING][1]
    async with hooked.ledger.begin() as tx:
        await webhooks.change(tx, webhook, paused=False)
    assert await seen(hooked) == {}
    await fail(hooked, webhook, gone=True)
    async with hooked.ledger.begin() as tx:
        await webhooks.remove(tx, webhook)
    assert await seen(hooked) == {}


async def test_dead_letters_are_an_incident_until_they_are_sent_or_discarded(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    await hooked.push(0, 1)
    await hooked.find()
    (delivery,) = await hooked.begin(webhook)
    async with hooked.ledger.begin() as tx:
        await webhook_deliveries.failed(tx, delivery, status=None, error="no answer", again_in=None)
    assert f"1 message to webhook {webhook} was given up" in (await seen(hooked))[module.DEAD][1]
    async with hooked.ledger.begin() as tx:
        await dead_letters.discard(tx, webhook)
    assert await seen(hooked) == {}


async def test_lost_records_are_told_of_for_a_day(hooked: Hooked) -> None:
    webhook = await hooked.add_webhook()
    await hooked.push(0, 1, 2)
    await hooked.find()
    (delivery,) = await hooked.begin(webhook)
    async with hooked.ledger.begin() as tx:
        await webhook_deliveries.vanished(tx, delivery)
    assert "2 records" in (await seen(hooked))[module.LOST][1]
    await hooked.execute("UPDATE webhooks SET lost_at = now() - interval '25 hours'")
    assert await seen(hooked) == {}


async def test_a_clients_webhook_concerns_the_fleets_of_its_profiles_alone(hooked: Hooked) -> None:
    async with hooked.ledger.begin() as tx:
        await fleets.create(tx, "other", interval=30, ttl=90)
        owner = (await accounts.create(tx, "acme")).id
    webhook = await hooked.add_webhook(account=owner)
    await fail(hooked, webhook, gone=True)
    assert await seen(hooked) == {}
    await hooked.add_profiles(1, account=owner)
    assert module.FAILING in await seen(hooked)
    assert await seen(hooked, "other") == {}
