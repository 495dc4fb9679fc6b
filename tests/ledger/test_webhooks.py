"""Webhooks as they are registered: whose, with what secret, and in what state."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from rota.errors import ConflictError, InvalidRequestError, NotFoundError
from rota.hooks.signature import new_secret
from rota.ledger import accounts, webhooks
from rota.ledger.connection import Ledger
from rota.ledger.webhooks import Webhook

URL = "https://receiver.example/hook"


async def register(ledger: Ledger, **wish: object) -> Webhook:
    given = {"url": URL, "secret": new_secret(), **wish}
    if not ("account" in given or "fleet" in given):
        given["fleet"] = "default"
    async with ledger.begin() as tx:
        return await webhooks.create(tx, **given)  # type: ignore[arg-type]


async def test_a_webhook_is_a_clients_or_a_fleets(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        owner = (await accounts.create(tx, "acme")).id
    mine = await register(ledger, account=owner, kinds=["b", "a", "b"], label="orders")
    fleets = await register(ledger, fleet="default", paused=True)
    assert (mine.account, mine.fleet, mine.kinds, mine.label, mine.state) == (
        owner,
        None,
        ["a", "b"],
        "orders",
        "enabled",
    )
    assert (fleets.account, fleets.fleet, fleets.state) == (None, "default", "paused")
    async with ledger.begin() as tx:
        assert await webhooks.get(tx, mine.id, owner) == mine
        with pytest.raises(NotFoundError):
            await webhooks.get(tx, fleets.id, owner)
        assert [item.id for item in (await webhooks.page(tx, account=owner)).items] == [mine.id]
        assert [item.id for item in (await webhooks.page(tx, fleet="default")).items] == [fleets.id]
        first = await webhooks.page(tx, limit=1)
        second = await webhooks.page(tx, limit=1, after=first.next)
    assert {item.id for item in [*first.items, *second.items]} == {mine.id, fleets.id}


@pytest.mark.parametrize("wish", [{"account": "acc_none"}, {"fleet": "none"}])
async def test_whose_it_is_must_exist(ledger: Ledger, wish: dict[str, str]) -> None:
    with pytest.raises(NotFoundError):
        await register(ledger, **wish)


@pytest.mark.parametrize("wish", [{"fleet": None}, {"kinds": [""]}, {"kinds": ["no blanks"]}, {"kinds": ["x"] * 51}])
async def test_what_makes_no_sense_is_refused(ledger: Ledger, wish: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        await register(ledger, **wish)


async def test_there_is_a_bound_to_the_webhooks_of_one(ledger: Ledger) -> None:
    made = [await register(ledger) for _ in range(webhooks.MOST_OF_ONE)]
    with pytest.raises(ConflictError):
        await register(ledger)
    async with ledger.begin() as tx:
        await webhooks.remove(tx, made[0].id)
    await register(ledger)


async def test_a_removed_webhook_is_not_there(ledger: Ledger) -> None:
    made = await register(ledger)
    async with ledger.begin() as tx:
        await webhooks.remove(tx, made.id)
        with pytest.raises(NotFoundError):
            await webhooks.get(tx, made.id)
        with pytest.raises(NotFoundError):
            await webhooks.remove(tx, made.id)
        assert (await webhooks.page(tx)).items == []


async def test_a_change_changes_what_is_given(ledger: Ledger) -> None:
    made = await register(ledger, kinds=["a"], label="one")
    async with ledger.begin() as tx:
        changed = await webhooks.change(tx, made.id, url=URL + "2", kinds=[], paused=True)
        assert (changed.url, changed.kinds, changed.label, changed.state) == (URL + "2", [], "one", "paused")
        assert (await webhooks.change(tx, made.id, paused=False, label="")).state == "enabled"
        assert (await webhooks.get(tx, made.id)).label == ""
        with pytest.raises(NotFoundError):
            await webhooks.change(tx, made.id, account="acc_another", label="stolen")


async def test_secrets_overlap_for_as_long_as_is_asked(ledger: Ledger) -> None:
    first, second, third, fourth = (new_secret() for _ in range(4))
    made = await register(ledger, secret=first)
    async with ledger.begin() as tx:
        await webhooks.rotate(tx, made.id, second, overlap=3600)
    async with ledger.begin() as tx:
        await webhooks.rotate(tx, made.id, third, overlap=60)
        assert await webhooks.secrets_of(tx, made.id) == [third, second, first]
    async with ledger.begin() as tx:
        await tx.execute(text("UPDATE webhook_secrets SET expires_at = now() WHERE value = :value"), {"value": first})
    async with ledger.begin() as tx:
        assert await webhooks.secrets_of(tx, made.id) == [third, second]
        await webhooks.rotate(tx, made.id, fourth, overlap=0)
        assert await webhooks.secrets_of(tx, made.id) == [fourth], "a secret that leaked is good for nothing at once"
        with pytest.raises(InvalidRequestError):
            await webhooks.rotate(tx, made.id, new_secret(), overlap=8 * 86_400)
        with pytest.raises(NotFoundError):
            await webhooks.rotate(tx, made.id, new_secret(), overlap=0, account="acc_another")


async def test_a_failing_endpoint_is_seen_until_it_is_well(ledger: Ledger) -> None:
    made = await register(ledger)
    for _ in range(2):
        async with ledger.begin() as tx:
            await webhooks.note_failure(tx, made.id, status=500, error="answered 500", pause=0, gone=False)
    async with ledger.begin() as tx:
        await webhooks.note_failure(tx, made.id, status=429, error="answered 429", pause=120, gone=False)
        seen = await webhooks.get(tx, made.id)
    assert (seen.failures, seen.last_status, seen.last_error) == (3, 429, "answered 429")
    assert seen.failing_since is not None
    assert seen.not_before is not None
    async with ledger.begin() as tx:
        await webhooks.note_success(tx, made.id, 200, every=60)
        well = await webhooks.get(tx, made.id)
    assert (well.failures, well.failing_since, well.not_before, well.last_error) == (0, None, None, None)
    assert well.last_success_at is not None


async def test_one_that_is_gone_stays_so_until_it_is_enabled(ledger: Ledger) -> None:
    made = await register(ledger)
    async with ledger.begin() as tx:
        await webhooks.note_failure(tx, made.id, status=410, error="answered 410 Gone", pause=0, gone=True)
        assert (await webhooks.get(tx, made.id)).state == "gone"
        again = await webhooks.change(tx, made.id, paused=False)
    assert (again.state, again.failures, again.failing_since) == ("enabled", 0, None)
