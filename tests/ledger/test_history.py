"""History: the same events in any order, any number of times, lead to the same assignments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

from rota.ledger import fleets, history
from rota.ledger.connection import Ledger
from rota.ledger.history import HistoryEvent

START = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def event(number: int, kind: str, epoch: int, bot: str = "s1/1", reason: str | None = None) -> HistoryEvent:
    return HistoryEvent(f"{number}-0", START + timedelta(seconds=number), kind, bot, "prf_1", epoch, reason)


STORY = [
    event(1, "granted", 10),
    event(2, "working", 10),
    event(5, "died", 10, reason="silent"),
    event(6, "resumed", 10),
    event(8, "released", 10, reason="stopped"),
    event(9, "granted", 20, "s1/2"),
    event(10, "working", 20, "s1/2"),
]


async def assignments(ledger: Ledger) -> list[tuple[int, str, object, object]]:
    async with ledger.begin() as tx:
        page = await history.assignments_page(tx, profile="prf_1")
    return [(item.epoch, item.bot, item.ended_at, item.reason) for item in page.items]


EXPECTED = [(20, "s1/2", None, None), (10, "s1/1", START + timedelta(seconds=8), "released: stopped")]


async def test_a_story_becomes_assignments_with_reasons(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        await history.record(tx, "default", STORY, recorded_to="10-0")
        assert (await fleets.get(tx, "default")).recorded_to == "10-0"
    assert await assignments(ledger) == EXPECTED


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(STORY)), max_size=3))
async def test_repeating_parts_of_a_story_changes_nothing(ledger: Ledger, cuts: list[int]) -> None:
    async with ledger.begin() as tx:
        await history.record(tx, "default", STORY, recorded_to="10-0")
    for cut in cuts:
        async with ledger.begin() as tx:
            await history.record(tx, "default", STORY[cut:], recorded_to="10-0")
    assert await assignments(ledger) == EXPECTED
    async with ledger.begin() as tx:
        assert len((await history.events_page(tx, "default")).items) == len(STORY)


async def test_events_are_paged_newest_first(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        await history.record(tx, "default", STORY, recorded_to="10-0")
        first = await history.events_page(tx, "default", limit=4)
        second = await history.events_page(tx, "default", limit=4, after=first.next)
    assert [item.id for item in first.items + second.items] == [item.id for item in reversed(STORY)]


async def test_a_new_owner_closes_an_assignment_whose_end_was_never_heard_of(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        await history.record(tx, "default", [STORY[0], STORY[5]], recorded_to="9-0")
    assert (await assignments(ledger))[1][3] == "superseded"


async def test_history_tells_for_every_moment_who_worked_for_whom(ledger: Ledger) -> None:
    async with ledger.begin() as tx:
        await history.record(tx, "default", STORY, recorded_to="10-0")

    async def who(second: float, **of: str) -> list[int]:
        async with ledger.begin() as tx:
            page = await history.assignments_page(tx, at=START + timedelta(seconds=second), **of)  # type: ignore[arg-type]
        return [item.epoch for item in page.items]

    assert [await who(second, profile="prf_1") for second in (0, 1, 7, 8, 8.5)] == [[], [10], [10], [], []]
    assert [await who(second, profile="prf_1") for second in (9, 1000)] == [[20], [20]]
    assert [await who(second, bot="s1/2") for second in (7, 9)] == [[], [20]]
