"""Accounts, keys, enrolment, servers, fleets, secrets and sign-ins."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from rota.errors import ConflictError, InvalidKeyError, InvalidRequestError, NotFoundError, ServerNotAllowedError
from rota.ledger import accounts, enrolment, fleets, keys, secrets, servers, sign_ins
from rota.ledger.connection import Ledger


async def test_an_api_key_is_found_by_its_secret_until_it_is_revoked(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        key, secret = await keys.create_api_key(tx, role="operator")
        assert (await keys.authenticate(tx, secret)).id == key.id
        await keys.revoke_api_key(tx, key.id)
        await keys.revoke_api_key(tx, key.id)
        with pytest.raises(InvalidKeyError):
            await keys.authenticate(tx, secret)
        with pytest.raises(InvalidKeyError):
            await keys.authenticate(tx, "rota_\udcff wrong")


async def test_an_expired_key_is_refused(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        _, secret = await keys.create_api_key(tx, role="operator", expires_at=datetime.now(UTC) + timedelta(hours=1))
        await tx.execute(text("UPDATE api_keys SET expires_at = now() - interval '1 second'"))
        with pytest.raises(InvalidKeyError):
            await keys.authenticate(tx, secret)
        with pytest.raises(InvalidRequestError):
            await keys.create_api_key(tx, role="operator", expires_at=datetime(2020, 1, 1, tzinfo=UTC))


async def test_no_secret_stands_in_the_database(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        _, secret = await keys.create_api_key(tx, role="operator")
        row = (await tx.execute(text("SELECT api_keys::text FROM api_keys"))).scalar_one()
    assert secret not in row


async def test_a_clients_key_needs_an_account_and_an_operators_none(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        account = await accounts.create(tx, "acme")
        key, _ = await keys.create_api_key(tx, role="client", account=account.id)
        assert key.account == account.id
        with pytest.raises(InvalidRequestError):
            await keys.create_api_key(tx, role="client")
        with pytest.raises(InvalidRequestError):
            await keys.create_api_key(tx, role="operator", account=account.id)
        with pytest.raises(NotFoundError):
            await keys.create_api_key(tx, role="client", account="acc_no")
        with pytest.raises(ConflictError):
            await accounts.create(tx, "acme")


async def test_a_bot_is_admitted_by_key_and_hostname_and_the_best_match_wins(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        key, secret = await keys.create_enrolment_key(tx)
        await servers.add(tx, hostname="*", expected_bots=1, labels={"which": "any"})
        await servers.add(tx, hostname="bot-farm-*", expected_bots=1, labels={"which": "pattern"})
        await servers.add(tx, hostname="bot-farm-1", expected_bots=1, labels={"which": "exact"})
        found = [await enrolment.admit(tx, secret, host) for host in ("bot-farm-1", "bot-farm-22", "elsewhere")]
        assert [item.labels["which"] for item in found] == ["exact", "pattern", "any"]
        assert found[0].fleet.name == "default"
        await keys.revoke_enrolment_key(tx, key.id)
        with pytest.raises(InvalidKeyError):
            await enrolment.admit(tx, secret, "bot-farm-1")


async def test_an_unlisted_hostname_is_not_admitted_whatever_it_is_made_of(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        _, secret = await keys.create_enrolment_key(tx)
        await servers.add(tx, hostname="a_b*", expected_bots=1)
        for host in ("axb1", "a", "%", "*"):
            with pytest.raises(ServerNotAllowedError):
                await enrolment.admit(tx, secret, host)
        assert (await enrolment.admit(tx, secret, "a_b1")).labels == {}


async def test_servers_are_listed_once_and_changed_and_removed(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        server = await servers.add(tx, hostname="Bot-Farm-1", expected_bots=3)
        assert server.hostname == "bot-farm-1"
        with pytest.raises(ConflictError):
            await servers.add(tx, hostname="bot-farm-1", expected_bots=3)
        with pytest.raises(InvalidRequestError):
            await servers.add(tx, hostname="no spaces", expected_bots=3)
        assert (await servers.change(tx, server.id, expected_bots=5)).expected_bots == 5
        await servers.remove(tx, server.id)
        with pytest.raises(NotFoundError):
            await servers.remove(tx, server.id)


@pytest.mark.parametrize(("interval", "ttl"), [(0.1, 90), (30, 50), (30, 90_000), (4000, 9000)])
async def test_a_policy_that_makes_no_sense_is_refused(ledger: Ledger, interval: float, ttl: float) -> None:
    async with ledger.begin() as tx:
        with pytest.raises(InvalidRequestError):
            await fleets.set_policy(tx, "default", interval=interval, ttl=ttl)


async def test_a_new_incarnation_begins_the_record_of_events_anew(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        await fleets.set_incarnation(tx, "default", "a")
        await tx.execute(text("UPDATE fleets SET recorded_to = '5-0'"))
        await fleets.set_incarnation(tx, "default", "a")
        assert (await fleets.get(tx, "default")).recorded_to == "5-0"
        await fleets.set_incarnation(tx, "default", "b")
        assert (await fleets.get(tx, "default")).recorded_to is None


async def test_processes_that_make_a_secret_at_once_get_the_same(ledger: Ledger) -> None:
    async def make(number: int) -> str:
        async with ledger.begin() as tx:
            return await secrets.get_or_create(tx, "signing", lambda: f"secret {number}")

    assert len(set(await asyncio.gather(*(make(number) for number in range(6))))) == 1


async def test_a_sign_in_link_is_good_once(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        token = await sign_ins.create(tx)
        expired = await sign_ins.create(tx, lifetime=timedelta(seconds=-1))
        await sign_ins.use(tx, token)
        for wrong in (token, expired, "x"):
            with pytest.raises(InvalidKeyError):
                await sign_ins.use(tx, wrong)
