"""Drains in the ledger: ordered, changed, undone; what makes no sense is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rota.errors import ConflictError, InvalidRequestError, NotFoundError
from rota.ledger import drains, fleets
from rota.ledger.connection import Ledger


async def test_a_drain_is_ordered_and_ordering_again_changes_its_deadline_alone(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        first = await drains.order(tx, "default", "bot-farm-1")
        assert (first.subject, first.deadline, first.is_of_a_bot) == ("bot-farm-1", None, False)
    async with ledger.begin() as tx:
        again = await drains.order(tx, "default", "bot-farm-1", within=600)
        assert again.created_at == first.created_at
        assert again.deadline is not None
        left = again.deadline - datetime.now(UTC)
        assert timedelta(seconds=590) < left <= timedelta(seconds=600)
        assert (await drains.order(tx, "default", "bot-farm-1")).deadline is None
        assert len(await drains.all_of(tx, "default")) == 1


async def test_a_drain_is_undone_once(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        await drains.order(tx, "default", "bot-farm-1/7")
        await drains.undo(tx, "default", "bot-farm-1/7")
        with pytest.raises(NotFoundError, match="bot-farm-1/7 is not being drained in fleet default"):
            await drains.undo(tx, "default", "bot-farm-1/7")


async def test_drains_of_another_fleet_are_left_alone(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        await fleets.create(tx, "other")
        for fleet in ("default", "other"):
            await drains.order(tx, fleet, "h")
        assert await drains.forget(tx, "other", ["h", "nobody"]) == 1
        assert await drains.forget(tx, "other", []) == 0
        assert [drain.fleet for drain in await drains.all_of(tx, "default")] == ["default"]
        with pytest.raises(NotFoundError):
            await drains.order(tx, "nofleet", "h")


async def test_drains_are_paged_by_subject(ledger: Ledger) -> None:
    subjects = ["a", "a/1", "a/2", "b", "c"]
    async with ledger.begin() as tx:
        for subject in reversed(subjects):
            await drains.order(tx, "default", subject)
        found: list[str] = []
        after = None
        while True:
            page = await drains.page(tx, "default", limit=2, after=after)
            found += [drain.subject for drain in page.items]
            after = page.next
            if after is None:
                break
        assert found == subjects
        assert [drain.subject for drain in await drains.all_of(tx, "default")] == subjects
        bots = [drain for drain in await drains.all_of(tx, "default") if drain.is_of_a_bot]
        assert [drain.subject for drain in bots] == ["a/1", "a/2"]


@pytest.mark.parametrize(
    "subject", ["", "two words", "bot-farm-*", "a/b/c", "a/", "/b", "UPPER", "ü", "a\n", "x" * 254]
)
async def test_what_is_neither_a_hostname_nor_a_bot_is_refused(ledger: Ledger, subject: str) -> None:
    async with ledger.begin() as tx:
        with pytest.raises(InvalidRequestError) as refused:
            await drains.order(tx, "default", subject)
    assert [wrong.field for wrong in refused.value.fields] == ["subject"]


@pytest.mark.parametrize("within", [-1, drains.LONGEST + 1, float("nan"), float("inf")])
async def test_a_deadline_that_makes_no_sense_is_refused(ledger: Ledger, within: float) -> None:
    async with ledger.begin() as tx:
        with pytest.raises(InvalidRequestError) as refused:
            await drains.order(tx, "default", "h", within=within)
    assert [wrong.field for wrong in refused.value.fields] == ["within"]


async def test_drains_are_found_by_their_names(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        for subject in ("a", "a/1", "b"):
            await drains.order(tx, "default", subject)
        found = await drains.named(tx, "default", ["a", "b", "c"])
        assert {name: drain.subject for name, drain in found.items()} == {"a": "a", "b": "b"}
        assert await drains.named(tx, "default", []) == {}


async def test_no_more_drains_are_taken_than_are_carried_out(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drains, "MOST", 2)
    async with ledger.begin() as tx:
        for subject in ("a", "b"):
            await drains.order(tx, "default", subject)
        with pytest.raises(ConflictError, match="2 drains under way"):
            await drains.order(tx, "default", "c")
        assert (await drains.order(tx, "default", "b", within=60)).deadline is not None
