"""Scripts that are called in one moment go in one round trip, and each caller gets its own answer."""

from __future__ import annotations

import asyncio

import pytest

from rota.errors import UnavailableError
from rota.live import snapshot
from rota.live.scripts import TOGETHER, Live
from tests.live.driver import Driver


async def test_a_crowd_that_comes_in_at_once_comes_in_whole(driver: Driver) -> None:
    crowd = [f"s1/{number}" for number in range(2 * TOGETHER + 1)]
    assert await asyncio.gather(*(driver.auth(bot) for bot in crowd)) == [None] * len(crowd)
    assert (await snapshot.totals(driver.live, driver.fleet)).bots_total == len(crowd)
    assert (await driver.beat(crowd[-1])).code == "wait"


async def test_scripts_that_the_store_forgot_are_taught_again(driver: Driver) -> None:
    await driver.live.read(("SCRIPT", "FLUSH"))
    await asyncio.gather(*(driver.auth(f"s1/{number}") for number in range(3)))
    assert (await snapshot.totals(driver.live, driver.fleet)).bots_total == 3


async def test_who_gives_up_does_not_keep_the_others_from_their_answers(driver: Driver) -> None:
    first, second = (asyncio.create_task(driver.auth(f"s1/{number}")) for number in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is None
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_everybody_hears_that_the_store_is_away() -> None:
    away = Live("redis://127.0.0.1:1/0", timeout=1)
    calls = (away.call_together("leave", "default", "s1/1", b"", "shutdown") for _ in range(3))
    told = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in told] == [UnavailableError] * 3
    await away.aclose()
