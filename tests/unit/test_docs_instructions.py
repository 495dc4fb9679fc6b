"""Each row of the table of instructions in `docs/protocol.md` is what a real store answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from rota.live import bots
from rota.live.scripts import Live
from rota.protocol import Working
from tests.live.conftest import build
from tests.live.driver import Driver
from tests.unit.test_docs_pages import codes, page, section, table

BOT = "host-1/1"
ROWS = table(section(page("protocol.md"), "## POST /bot/heartbeat"), "recorded", "the bot reports", "instruction")
AS_UNBOUND = "as unbound, at once"


@pytest.fixture
async def driver(valkey_url: str, fleet: str) -> AsyncIterator[Driver]:
    live = Live(valkey_url)
    await build(live, fleet)
    yield Driver(live, fleet)
    await live.aclose()


async def unbound(driver: Driver) -> Working:
    """A bot that was just let in, and work that is nobody's."""
    await driver.auth(BOT)
    return Working(profile="prf_1", epoch=1)


async def waiting(driver: Driver) -> Working:
    await driver.want("prf_2")
    return await unbound(driver)


async def draining(driver: Driver) -> Working:
    work = await waiting(driver)
    await bots.drain(driver.live, driver.fleet, BOT, draining=True)
    return work


async def wanted(driver: Driver) -> Working:
    return await driver.working(BOT)


async def changed(driver: Driver) -> Working:
    work = await wanted(driver)
    await driver.want("prf_1", revision=2)
    return work


async def stopped(driver: Driver) -> Working:
    work = await wanted(driver)
    await driver.want("prf_1", "stopped")
    return work


async def stopped_and_waiting(driver: Driver) -> Working:
    work = await stopped(driver)
    await driver.want("prf_2")
    return work


async def drained(driver: Driver) -> Working:
    work = await wanted(driver)
    await bots.drain(driver.live, driver.fleet, BOT, draining=True)
    return work


def nothing(_work: Working) -> None:
    return None


def ended_nothing(_work: Working) -> None:
    """Also reports nothing, and says that it has ended nothing."""
    return


def same(work: Working) -> Working:
    return work


def other(work: Working) -> Working:
    return Working(profile=work.profile, epoch=work.epoch - 1 or 7)


State = Callable[[Driver], Awaitable[Working]]
Report = Callable[[Working], Working | None]
CASES: dict[tuple[str, str], list[tuple[State, Report, bool, str]]] = {
    ("unbound", "nothing"): [
        (waiting, nothing, True, "start"),
        (unbound, nothing, True, "wait"),
        (waiting, nothing, False, "wait"),
        (draining, nothing, True, "exit"),
    ],
    ("unbound", "any work"): [(unbound, same, True, "stop"), (waiting, same, True, "stop")],
    ("bound to P/e, wanted", "nothing"): [(wanted, nothing, True, "start")],
    ("bound to P/e, wanted", "P/e, same revision"): [(wanted, same, True, "continue")],
    ("bound to P/e, wanted", "P/e, older revision"): [(changed, same, True, "reconfigure")],
    ("bound to P/e, any", "other work"): [(wanted, other, True, "stop"), (stopped, other, True, "stop")],
    ("bound to P/e, stop wanted", "P/e"): [(stopped, same, True, "stop"), (drained, same, True, "stop")],
    ("bound to P/e, stop wanted", "nothing"): [
        (stopped_and_waiting, nothing, True, "start"),
        (stopped, nothing, True, "wait"),
        (drained, nothing, True, "exit"),
    ],
    ("bound to P/e, stop wanted", "nothing, and `ended` is not P/e"): [
        (stopped, ended_nothing, True, "stop"),
        (drained, ended_nothing, True, "stop"),
    ],
}


def test_every_pair_of_what_is_recorded_and_reported_is_told_once() -> None:
    assert sorted((row[0], row[1]) for row in ROWS) == sorted(CASES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}; {row[1]}")
async def test_a_row_tells_what_the_store_answers(driver: Driver, row: list[str]) -> None:
    cases = CASES[row[0], row[1]]
    told = ROWS[0][2] if row[2] == AS_UNBOUND else row[2]
    assert set(codes(told)) == {instruction for *_, instruction in cases}
    for number, (state, report, accepting, instruction) in enumerate(cases):
        own = Driver(driver.live, f"{driver.fleet}-{number}")
        await build(own.live, own.fleet)
        work = await state(own)
        said = report(work)
        ended = ("-", 0) if report is ended_nothing else None
        answer = await own.beat(BOT, said, accepting=accepting, ended=ended)
        assert answer.code == instruction, (state, report)
