"""Incidents: told once, open for as long as they are seen, and kept afterwards."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from rota.errors import InvalidRequestError
from rota.ledger import fleets, incidents
from rota.ledger.connection import Ledger
from rota.ledger.incidents import Sighting

KIND = "mass_silence"


def seen(subject: str, message: str = "3 bots fell silent", bots: int = 3) -> Sighting:
    return Sighting(subject, message, {"bots": bots})


async def test_an_incident_is_raised_once_kept_up_and_closed_when_it_is_not_seen_any_more(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        assert await incidents.observe(tx, "default", KIND, [seen("a"), seen("b")]) == incidents.Changed(["a", "b"], [])
    async with ledger.begin() as tx:
        changed = await incidents.observe(tx, "default", KIND, [seen("a", "now 5 bots", 5), seen("c")])
        assert changed == incidents.Changed(["c"], ["b"])
    async with ledger.begin() as tx:
        first, second = await incidents.open_of(tx, "default", KIND)
        assert (first.subject, first.message, first.detail) == ("a", "now 5 bots", {"bots": 5})
        assert first.raised_at < first.seen_at
        assert second.subject == "c"
        assert await incidents.observe(tx, "default", KIND, []) == incidents.Changed([], ["a", "c"])
        assert await incidents.open_of(tx, "default") == []
        over = (await incidents.page(tx, "default")).items
        assert [one.subject for one in over] == ["c", "b", "a"]
        assert all(one.closed_at is not None and one.raised_at <= one.closed_at for one in over)


async def test_what_comes_back_after_it_was_over_is_a_new_incident(ledger: Ledger) -> None:
    for sightings in ([seen("a")], [], [seen("a")], []):
        async with ledger.begin() as tx:
            await incidents.observe(tx, "default", KIND, sightings)
    async with ledger.begin() as tx:
        newest, oldest = (await incidents.page(tx, "default")).items
    assert newest.id > oldest.id
    assert newest.subject == oldest.subject


async def test_kinds_and_fleets_do_not_close_each_others_incidents(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        await fleets.create(tx, "other")
        await incidents.observe(tx, "default", KIND, [seen("a")])
        await incidents.observe(tx, "other", KIND, [seen("a")])
        assert await incidents.observe(tx, "default", "contested_slot", []) == incidents.Changed([], [])
        assert await incidents.observe(tx, "other", KIND, []) == incidents.Changed([], ["a"])
        assert [one.fleet for one in await incidents.open_of(tx, "default")] == ["default"]
        assert (await incidents.page(tx, "other", only_open=True)).items == []


async def test_two_that_look_at_once_raise_it_once(ledger: Ledger) -> None:
    async def look(number: int) -> None:
        async with ledger.begin() as tx:
            await incidents.observe(tx, "default", KIND, [seen("a", bots=number)])

    await asyncio.gather(*(look(number) for number in range(5)))
    async with ledger.begin() as tx:
        assert len(await incidents.open_of(tx, "default")) == 1
        assert (await tx.execute(text("SELECT count(*) FROM incidents"))).scalar_one() == 1


async def test_pages_lead_through_all_incidents_newest_first(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        await incidents.observe(tx, "default", KIND, [seen(f"s{number}") for number in range(7)])
        await incidents.observe(tx, "default", KIND, [seen(f"s{number}") for number in range(0, 7, 2)])
        for only_open, expected in ((False, list("6543210")), (True, list("6420"))):
            found: list[str] = []
            after = None
            while True:
                page = await incidents.page(tx, "default", only_open=only_open, limit=2, after=after)
                found += [one.subject.removeprefix("s") for one in page.items]
                after = page.next
                if after is None:
                    break
            assert found == expected
        with pytest.raises(InvalidRequestError, match="after"):
            await incidents.page(tx, "default", after="x")
