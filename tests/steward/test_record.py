"""The event stream becomes history, without gaps or doubles, whenever the steward dies."""

from __future__ import annotations

import pytest

from rota.ledger import history, incidents
from rota.ledger.connection import Ledger
from rota.ledger.incidents import Incident
from rota.live import keys
from rota.live.scripts import Live
from rota.steward import record as record_module
from rota.steward.record import record
from tests.live.driver import Driver

DAY = ["incarnation", "waiting", "auth", "granted", "working"]
"""What is recorded of a bot that is brought to work in a new fleet."""


async def kinds(ledger: Ledger, fleet: str) -> list[str]:
    async with ledger.begin() as tx:
        page = await history.events_page(tx, fleet)
    return [event.kind for event in reversed(page.items)]


async def test_a_working_day_is_recorded_in_order_and_once(ledger: Ledger, live: Live, driver: Driver) -> None:
    work = await driver.working("s1/1")
    assert await record(ledger, live, driver.fleet) > 0
    await driver.leave("s1/1")
    await record(ledger, live, driver.fleet)
    assert await record(ledger, live, driver.fleet) == 0
    assert await kinds(ledger, driver.fleet) == [
        "incarnation",
        "waiting",
        "auth",
        "granted",
        "working",
        "left",
        "waiting",
    ]
    async with ledger.begin() as tx:
        (assignment,) = (await history.assignments_page(tx, profile=work.profile)).items
    assert (assignment.bot, assignment.epoch, assignment.reason) == ("s1/1", work.epoch, "left: shutdown")
    assert assignment.ended_at is not None
    assert assignment.started_at <= assignment.ended_at


async def test_a_steward_that_dies_before_its_commit_leaves_neither_gap_nor_double(
    ledger: Ledger, live: Live, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await driver.working("s1/1")

    class Died(BaseException):
        pass

    async def die(*_arguments: object, **_more: object) -> None:
        raise Died

    with monkeypatch.context() as broken:
        broken.setattr(history, "record", die)
        with pytest.raises(Died):
            await record(ledger, live, driver.fleet)
    assert await kinds(ledger, driver.fleet) == []
    await record(ledger, live, driver.fleet)
    assert await kinds(ledger, driver.fleet) == DAY


async def test_the_stream_is_trimmed_only_after_it_was_recorded(
    ledger: Ledger, live: Live, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "STEP", 60)
    monkeypatch.setattr(record_module, "KEPT_MS", 0)
    for number in range(250):
        await driver.auth(f"s1/{number}")
    steps = [await record(ledger, live, driver.fleet) for _ in range(6)]
    assert steps == [60, 60, 60, 60, 11, 0]
    (left,) = await live.read(("XLEN", keys.events(driver.fleet)))
    assert left < 251
    async with ledger.begin() as tx:
        recorded = (await history.events_page(tx, driver.fleet, limit=500)).items
    assert sorted(event.bot for event in recorded if event.bot) == sorted(f"s1/{number}" for number in range(250))


async def test_moves_that_were_dropped_unrecorded_are_told_of_once_and_the_rest_is_recorded(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    for number in range(4):
        await driver.auth(f"s1/{number}")
        if number < 2:
            await record(ledger, live, driver.fleet)
    (entries,) = await live.read(("XRANGE", keys.events(driver.fleet), "-", "+"))
    await live.read(("XTRIM", keys.events(driver.fleet), "MINID", entries[-3][0]))
    assert await gaps(ledger, driver.fleet) == []  # what was dropped had been recorded
    await live.read(("XTRIM", keys.events(driver.fleet), "MINID", entries[-1][0]))
    assert await record(ledger, live, driver.fleet) == 1
    (told,) = await gaps(ledger, driver.fleet)
    await driver.auth("s1/4")
    await record(ledger, live, driver.fleet)
    assert await gaps(ledger, driver.fleet) == [told]
    assert (await kinds(ledger, driver.fleet)).count("auth") == 4


async def gaps(ledger: Ledger, fleet: str) -> list[Incident]:
    async with ledger.begin() as tx:
        return await incidents.open_of(tx, fleet, "history_gap")
