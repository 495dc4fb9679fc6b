"""Only the store's own answer is told to a heartbeat that waits, and only a bot's own token ends its wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from functools import partial
from typing import Any

import pytest
from httpx2 import Response

from tests.conformance.fleet import Fleet
from tests.conformance.site import Json, Site
from tests.web.holding import WAIT, follows, held, soon, until


@pytest.fixture
async def bots(site: Site) -> Fleet:
    return await Fleet.of(site)


@pytest.mark.parametrize("body", [{}, {"wait": WAIT}])
async def test_a_heartbeat_with_a_token_that_is_not_the_bots_leaves_its_held_one_alone(bots: Fleet, body: Json) -> None:
    await bots.auth("1")
    async with held(bots, "1") as (first,):
        assert (await _beat_as(bots, bots.tokens["1"][:-2] + "xx", body)).status_code == 401
        assert not first.done()
        assert bots.site.state.waiting.number == 1


async def test_heartbeats_with_an_unknown_token_that_come_at_once_are_all_refused(bots: Fleet) -> None:
    await bots.auth("1")
    forged = bots.tokens["1"][:-2] + "xx"
    answers = await asyncio.gather(*(_beat_as(bots, forged, {"wait": WAIT}) for _ in range(8)))
    assert [answer.json()["code"] for answer in answers] == ["unknown_bot"] * 8


async def test_a_process_that_lost_its_slot_is_refused_and_leaves_the_wait_of_the_new_one_alone(bots: Fleet) -> None:
    await bots.auth("1")
    lost = bots.tokens["1"]
    await bots.auth("1")
    async with held(bots, "1") as (waiting,):
        answers = await asyncio.gather(*(_beat_as(bots, lost, {"wait": WAIT}) for _ in range(3)))
        assert [answer.status_code for answer in answers] == [401] * 3
        assert not waiting.done()


async def test_a_store_that_hangs_is_no_answer_to_a_heartbeat_that_waits(fragile: Site) -> None:
    bots = await Fleet.of(fragile)
    await bots.auth("1")
    await fragile.state.live.read(("CLIENT", "PAUSE", 60_000, "WRITE"))
    bodies: list[Json] = [*({"wait": WAIT} for _ in range(3)), {}, {"wait": WAIT}]
    answers = await asyncio.gather(*(_beat_as(bots, bots.tokens["1"], body) for body in bodies))
    assert [answer.status_code for answer in answers] == [503] * 5


async def test_the_end_of_a_worker_is_no_answer_to_a_heartbeat_either(
    bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.web.waiting.LAST_ANSWERS", 0.1)
    await bots.auth("1")
    waiting, told = bots.site.state.waiting, _answers_on_demand(bots, monkeypatch, 2)
    first, second = (asyncio.create_task(bots.call("1", "heartbeat", json={"wait": WAIT})) for _ in range(2))
    await until(lambda: _any(told, 2))
    waiting.end()
    told[0]()
    assert (await asyncio.wait_for(first, 5)).json()["instruction"] == "wait"
    assert (await asyncio.wait_for(second, 5)).json()["code"] == "unavailable"


@pytest.mark.parametrize("at_work", [True, False])
async def test_what_happens_while_the_store_is_asked_is_told_at_once(
    bots: Fleet, site: Site, monkeypatch: pytest.MonkeyPatch, at_work: bool
) -> None:
    working = await bots.work() if at_work else await bots.auth("1") and None
    await bots.auth("2")
    async with held(bots, "2", accepting=False) as (other,):
        fleet = site.state.waiting._fleets["default"]
        await until(lambda: follows(fleet))
        told = _answers_on_demand(bots, monkeypatch, 1)
        task = asyncio.create_task(bots.beat("1", working, wait=WAIT))
        await until(lambda: _any(told))
        position = fleet.position
        if working:
            await site.rest.post(f"/api/v1/profiles/{working['profile']}/stop")
        else:
            await bots.profile()
        await until(lambda: follows(fleet, position))
        told[0]()
        assert (await soon(task))["instruction"] == ("stop" if at_work else "start")
        assert not other.done()


async def _any(found: Sized, number: int = 1) -> bool:
    return len(found) >= number


async def _beat_as(bots: Fleet, token: str, body: Json) -> Response:
    headers = {"authorization": f"Bearer {token}"}
    return await bots.site.wire.post("/bot/heartbeat", headers=headers, json=body)


def _answers_on_demand(bots: Fleet, monkeypatch: pytest.MonkeyPatch, number: int) -> list[Callable[[], None]]:
    """The store's answers to the next so many beats, each told when it is called."""
    told: list[Callable[[], None]] = []
    add: Any = bots.site.state.beats.add
    turns = iter(range(number))

    def late(*beat: Any) -> None:
        *rest, tell = beat
        if next(turns, None) is None:
            add(*beat)
        else:
            add(*rest, lambda answer: told.append(partial(tell, answer)))

    monkeypatch.setattr(bots.site.state.beats, "add", late)
    return told
