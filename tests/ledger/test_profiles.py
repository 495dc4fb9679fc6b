"""Profiles: versions, revisions, wishes, and who may see them."""

from __future__ import annotations

import asyncio

import pytest

from rota.errors import InvalidRequestError, NotFoundError
from rota.ledger import accounts, fences, outbox, profiles
from rota.ledger.connection import Ledger
from rota.ledger.profiles import Profile


async def test_a_new_profile_has_its_first_revision_and_a_row_in_the_outbox(ledger: Ledger, profile: Profile) -> None:
    assert (profile.revision, profile.version, profile.wanted) == (1, 1, False)
    async with ledger.begin() as tx:
        assert [row.profile for row in await outbox.pending(tx, "default", 10)] == [profile.id]


async def test_only_another_configuration_makes_a_new_revision(ledger: Ledger, profile: Profile) -> None:
    async with ledger.begin() as tx:
        same = await profiles.change(tx, profile.id, config={"url": "https://example.com"}, name="other")
        assert (same.revision, same.version, same.name) == (1, 2, "other")
        newer = await profiles.change(tx, profile.id, config={"url": "https://example.org"})
        assert (newer.revision, newer.version) == (2, 3)
        found = await profiles.revisions(tx, profile.id)
    assert [item.config["url"] for item in found.items] == ["https://example.com", "https://example.org"]


async def test_starting_a_started_profile_changes_nothing(ledger: Ledger, profile: Profile) -> None:
    async with ledger.begin() as tx:
        started = await profiles.set_wanted(tx, profile.id, wanted=True)
        again = await profiles.set_wanted(tx, profile.id, wanted=True)
    assert started.version == again.version == 2


async def test_concurrent_changes_get_distinct_versions(ledger: Ledger, profile: Profile) -> None:
    async def reprice(priority: int) -> int:
        async with ledger.begin() as tx:
            return (await profiles.change(tx, profile.id, priority=priority)).version

    versions = await asyncio.gather(*(reprice(priority) for priority in range(1, 9)))
    assert sorted(versions) == list(range(2, 10))


async def test_an_account_sees_its_own_profiles_alone(ledger: Ledger, profile: Profile) -> None:
    async with ledger.begin() as tx:
        other = await accounts.create(tx, "other")
        with pytest.raises(NotFoundError):
            await profiles.get(tx, profile.id, account=other.id)
        with pytest.raises(NotFoundError):
            await profiles.set_wanted(tx, profile.id, wanted=True, account=other.id)
        with pytest.raises(NotFoundError):
            await profiles.delete(tx, profile.id, account=other.id)
        assert (await profiles.page(tx, account=other.id)).items == []
        assert [item.id for item in (await profiles.page(tx)).items] == [profile.id]


async def test_a_deleted_profile_is_gone_but_its_wish_is_known(ledger: Ledger, profile: Profile) -> None:
    async with ledger.begin() as tx:
        await profiles.delete(tx, profile.id)
        with pytest.raises(NotFoundError):
            await profiles.get(tx, profile.id)
        (wish,) = await profiles.wishes(tx, [profile.id])
        assert wish.want == "deleted"
        assert (await profiles.all_wishes(tx, "default", after=None, limit=10)).items == []


async def test_a_wish_carries_the_epoch_that_was_fenced(ledger: Ledger, profile: Profile) -> None:
    async with ledger.begin() as tx:
        await fences.raise_to(tx, [(profile.id, 17)])
        await fences.raise_to(tx, [(profile.id, 5)])
        (wish,) = await profiles.wishes(tx, [profile.id])
    assert wish.epoch == 17


async def test_pages_follow_each_other_without_gaps(ledger: Ledger, profile: Profile) -> None:
    async with ledger.begin() as tx:
        for number in range(6):
            await profiles.create(tx, account=profile.account, name=f"p{number}", config={})
        seen, after = [], None
        while True:
            page = await profiles.page(tx, limit=3, after=after)
            seen += [item.id for item in page.items]
            after = page.next
            if after is None:
                break
    assert len(seen) == len(set(seen)) == 7
    assert seen == sorted(seen)


async def test_configurations_are_found_by_profile_and_revision(ledger: Ledger, profile: Profile) -> None:
    async with ledger.begin() as tx:
        found = await profiles.configs(tx, [(profile.id, 1), (profile.id, 2), ("prf_no", 1)])
    assert found == {(profile.id, 1): ("acme", {"url": "https://example.com"})}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"priority": 101}, "priority"),
        ({"labels": {"bad label": "x"}}, "labels"),
        ({"config": {"a": "\x00"}}, "config.a"),
        ({"config": {"a": [1.0, float("inf")]}}, "config"),
        ({"config": {"a": "x" * 70_000}}, "config"),
    ],
)
async def test_a_wrong_field_is_named(ledger: Ledger, profile: Profile, fields: dict[str, object], named: str) -> None:
    async with ledger.begin() as tx:
        with pytest.raises(InvalidRequestError) as raised:
            await profiles.change(tx, profile.id, **fields)  # type: ignore[arg-type]
    assert raised.value.fields[0].field.startswith(named)
