"""Searches: every record once and in order, whatever is asked for and however small the pages and windows are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rota.errors import InvalidRequestError
from rota.ledger import accounts, profiles, records, search, tables
from rota.ledger.connection import Ledger
from rota.ledger.search import Position, Record, Scope
from rota.ledger.sieve import Sieve

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
KINDS, BOTS = ("check", "price"), ("s1/1", "s1/2")


async def insert(ledger: Ledger, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as a push would leave them."""
    bare = {
        "epoch": 1,
        "batch": 0,
        "position": 0,
        "bot": "s1/1",
        "kind": "check",
        "at": NOW,
        "received_at": NOW,
        "data": 1,
    }
    async with ledger.begin() as tx:
        await tx.execute(tables.records.insert(), [{**bare, **row} for row in rows])


async def account_with(ledger: Ledger, name: str, number: int) -> tuple[str, list[str]]:
    async with ledger.begin() as tx:
        account = (await accounts.create(tx, name)).id
        made = [
            await profiles.create(
                tx, account=account, fleet="default", name=f"{name}{n}", config={}, labels={}, priority=0, wanted=False
            )
            for n in range(number)
        ]
    return account, [profile.id for profile in made]


@pytest.fixture
async def filled(ledger: Ledger) -> tuple[str, list[str]]:
    """An account with three profiles among those of another, and 400 records in the order of their ids."""
    chance = random.Random(1)
    account, own = await account_with(ledger, "acme", 3)
    _, others = await account_with(ledger, "other", 2)
    rows = [
        {
            "profile_id": chance.choice([*own, *others]),
            "kind": chance.choice(KINDS),
            "bot": chance.choice(BOTS),
            "epoch": 1 + n // 100,
            "at": NOW - timedelta(hours=chance.randrange(48)),
            "received_at": NOW - timedelta(seconds=400 - n),
            "data": {"n": n, "deep": [{"price": n % 50}]},
        }
        for n in range(400)
    ]
    await insert(ledger, rows)
    return account, own


async def walk(ledger: Ledger, scope: Scope, sieve: Sieve, limit: int, *, newest_first: bool = False) -> list[Record]:
    """All pages."""
    found: list[Record] = []
    after: Position | None = None
    while True:
        async with ledger.begin() as tx:
            page = await records.page(tx, scope, sieve, limit=limit, after=after, newest_first=newest_first)
        found += page.items
        after = Position.read(str(page.position))
        assert len(page.items) <= limit
        if not page.more:
            return found


async def everything(ledger: Ledger) -> list[Record]:
    async with ledger.begin() as tx:
        rows = await tx.execute(tables.records.select().order_by(tables.records.c.id))
        return [Record(*[*row[:-1], ""]) for row in rows]


SIEVES: list[tuple[Sieve, Any]] = [
    (Sieve(), lambda n, row: True),
    (Sieve(kind="price"), lambda n, row: row.kind == "price"),
    (Sieve(bot="s1/2", epoch=2), lambda n, row: (row.bot, row.epoch) == ("s1/2", 2)),
    (
        Sieve(since=NOW - timedelta(seconds=300), until=NOW - timedelta(seconds=100)),
        lambda n, row: NOW - timedelta(seconds=300) <= row.received_at < NOW - timedelta(seconds=100),
    ),
    (
        Sieve(at_since=NOW - timedelta(hours=20), at_until=NOW - timedelta(hours=10)),
        lambda n, row: NOW - timedelta(hours=20) <= row.at < NOW - timedelta(hours=10),
    ),
    (Sieve(where="$.deep[*].price ? (@ > 40)"), lambda n, row: n % 50 > 40),
    (Sieve(where="$.n >= 100 && $.n < 120"), lambda n, row: 100 <= n < 120),
    (Sieve(kind="nothing"), lambda n, row: False),
]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(("limit", "window"), [(500, 1), (7, 10), (40, 4096)])
async def test_every_record_that_is_wanted_comes_once_and_in_order(
    ledger: Ledger,
    filled: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    newest_first: bool,
    limit: int,
    window: int,
) -> None:
    monkeypatch.setattr(search, "FIRST_WINDOW", window)
    account, own = filled
    rows = await everything(ledger)
    for scope, owners in ((Scope(profile=own[1]), {own[1]}), (Scope(account=account), set(own))):
        for sieve, wants in SIEVES[:: 1 if window == 10 else 3]:
            wanted = [row.id for n, row in enumerate(rows) if row.profile in owners and wants(n, row)]
            found = [record.id for record in await walk(ledger, scope, sieve, limit, newest_first=newest_first)]
            assert found == (wanted[::-1] if newest_first else wanted), (scope, sieve)
            async with ledger.begin() as tx:
                assert (await records.count_kept(tx, scope, sieve)).count == len(wanted)


async def test_what_arrives_meanwhile_neither_doubles_nor_hides_anything(ledger: Ledger) -> None:
    account, (first, second) = await account_with(ledger, "acme", 2)
    for newest_first in (False, True):
        for scope in (Scope(profile=first), Scope(account=account)):
            await insert(ledger, [{"profile_id": profile} for profile in (first, second) * 3])
            before = {row.id for row in await everything(ledger) if scope.account or row.profile == first}
            found: list[int] = []
            after = None
            for _ in range(1000):
                async with ledger.begin() as tx:
                    page = await records.page(tx, scope, limit=2, after=after, newest_first=newest_first)
                found += [record.id for record in page.items]
                after = page.position
                if not page.more or (scope.profile and not newest_first and set(found) >= before):
                    break
                await insert(ledger, [{"profile_id": first}, {"profile_id": second}])
            assert len(found) == len(set(found))
            assert set(found) >= before
            assert found == sorted(found, reverse=newest_first)


async def test_a_search_by_time_misses_nothing_although_the_clock_was_set_back(ledger: Ledger) -> None:
    _, (profile,) = await account_with(ledger, "acme", 1)
    back, step = search.TIME_SLACK - timedelta(minutes=1), timedelta(minutes=1)
    before = [NOW + n * step for n in range(90)]
    times = [*before, *(before[-1] - back + n * step for n in range(1, 90))]
    await insert(ledger, [{"profile_id": profile, "received_at": at, "position": n} for n, at in enumerate(times)])
    for since in times[::7]:
        until = since + 10 * step
        for sieve in (Sieve(since=since), Sieve(until=since), Sieve(since=since, until=until)):
            found = await walk(ledger, Scope(profile=profile), sieve, 50)
            assert [one.received_at for one in found] == [
                at for at in times if (not sieve.since or at >= sieve.since) and (not sieve.until or at < sieve.until)
            ]


async def test_an_account_does_not_see_deleted_profiles_or_those_of_others(
    ledger: Ledger, filled: tuple[str, list[str]]
) -> None:
    account, own = filled
    async with ledger.begin() as tx:
        await profiles.delete(tx, own[0], account=account)
    found = await walk(ledger, Scope(account=account), Sieve(), 100)
    assert {record.profile for record in found} == set(own[1:])


async def test_a_page_ends_early_where_its_data_is_large(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PAGE_BYTES", 2_000)
    _, (profile,) = await account_with(ledger, "acme", 1)
    await insert(ledger, [{"profile_id": profile, "data": "x" * size} for size in (10, 1_500, 900, 5_000, 10, 10)])
    async with ledger.begin() as tx:
        page = await records.page(tx, Scope(profile=profile), limit=100)
    assert [len(record.data) for record in page.items] == [10, 1_500, 900]
    assert page.more
    for newest_first in (False, True):
        found = await walk(ledger, Scope(profile=profile), Sieve(), 100, newest_first=newest_first)
        assert [len(record.data) for record in found][:: -1 if newest_first else 1] == [10, 1_500, 900, 5_000, 10, 10]


async def test_a_slow_path_goes_on_in_smaller_windows(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    _, (profile,) = await account_with(ledger, "acme", 1)
    heavy = {"x": [[n] * 40 for n in range(40)]}
    await insert(ledger, [{"profile_id": profile, "data": heavy} for _ in range(300)])
    monkeypatch.setattr(search, "STATEMENT_SECONDS", 0.05)
    sieve = Sieve(where='$.** ? (@.type() == "number" && @ == 7)')
    found = await walk(ledger, Scope(profile=profile), sieve, 100)
    assert len(found) == 300


async def test_a_path_that_takes_too_long_on_one_record_is_refused(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (profile,) = await account_with(ledger, "acme", 1)
    await insert(ledger, [{"profile_id": profile, "data": [[n] * 200 for n in range(500)]}])
    monkeypatch.setattr(search, "STATEMENT_SECONDS", 0.02)
    with pytest.raises(InvalidRequestError, match="on one record"):
        await walk(ledger, Scope(profile=profile), Sieve(where="$.** ? (exists (@.** ? (@ == -1)))"), 100)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("$.price >> 10", r"wrong at character 10, at '> 10'"),
        ("$.a ? (@ > 1", r"ends too early, after character 12"),
        ("$.a ? (@ > 1) ) ", r"wrong at character 15, at '\) '"),
        ("", "ends too early|not a JSONPath"),
        ('$.a like_regex "("', "regular expression"),
        ("x" * 3000, "at most 2000 characters"),
        ('$.a.datetime() > "2026-01-01T00:00:00Z".datetime()', "not possible with this data"),
    ],
)
async def test_a_bad_path_is_refused_with_its_place(ledger: Ledger, path: str, says: str) -> None:
    _, (profile,) = await account_with(ledger, "acme", 1)
    await insert(ledger, [{"profile_id": profile, "data": {"a": "2026-01-01"}}])
    with pytest.raises(InvalidRequestError, match=says) as refused:
        await walk(ledger, Scope(profile=profile), Sieve(where=path), 100)
    assert [wrong.field for wrong in refused.value.fields] == ["where"]


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("$.ok", 2),
        ("$.ok == true", 1),
        ("$ ? (@.ok == false)", 1),
        ("exists ($.ok)", 2),
        ("!($.ok == true)", 2),
        ("$", 3),
        ("strict $.ok == true", 1),
        ("$.missing", 0),
        ('$.ok.type() == "boolean"', 2),
    ],
)
async def test_a_path_finds_something_or_compares(ledger: Ledger, path: str, number: int) -> None:
    _, (profile,) = await account_with(ledger, "acme", 1)
    await insert(ledger, [{"profile_id": profile, "data": data} for data in ({"ok": True}, {"ok": False}, 5)])
    assert len(await walk(ledger, Scope(profile=profile), Sieve(where=path), 100)) == number


async def test_heads_name_the_newest_position_of_each_profile(ledger: Ledger, filled: tuple[str, list[str]]) -> None:
    _, own = filled
    rows = await everything(ledger)
    async with ledger.begin() as tx:
        found = await records.heads(tx, [*own, "prf_none"])
        assert await records.heads(tx, own, recent=True) == found
        await tx.execute(tables.records.update().values(received_at=NOW - timedelta(days=2)))
        assert await records.heads(tx, own, recent=True) == {}
    assert {profile: head.id for profile, head in found.items()} == {
        profile: max(row.id for row in rows if row.profile == profile) for profile in own
    }


@pytest.mark.parametrize("text", ["x", "1", "-1-2", "1-2-3-4", "9" * 30 + "-1", "1-1 "])
def test_a_position_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        Position.read(text)
