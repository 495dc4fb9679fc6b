"""Long poll: a heartbeat is held until there is something new for its bot, and orders act at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sized
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from rota.live import bots as live_bots
from rota.live import snapshot
from rota.live.beats import Answer
from rota.live.bots import Newcomer
from rota.live.entries import DIGEST_BYTES, idle_entry
from rota.settings import Settings
from rota.web.app import open_state
from rota.web.tokens import TokenOwner
from tests.conformance.fleet import Fleet
from tests.conformance.site import Json, Site, connected
from tests.web.holding import WAIT, held, soon, until


@pytest.fixture
async def bots(site: Site) -> Fleet:
    return await Fleet.of(site)


@pytest.fixture
async def elsewhere(bots: Fleet, valkey_url: str, web_database_url: str) -> AsyncIterator[Fleet]:
    """The same bots, who speak with another worker on the same stores."""
    site = bots.site
    async with (
        open_state(Settings(), f"{valkey_url}?db=1", web_database_url) as state,
        connected(site.app, state) as wire,
    ):
        yield Fleet(replace(site, state=state, wire=wire), bots.key, bots.tokens)


async def test_a_start_reaches_an_idle_bot_at_once(bots: Fleet) -> None:
    await bots.auth("1")
    async with held(bots, "1") as (waiting,):
        profile = await bots.profile()
        told = await soon(waiting)
    assert (told["instruction"], told["assignment"]["profile"]) == ("start", profile)
    assert told["assignment"]["lease"]


async def test_a_stop_reaches_a_working_bot_at_once(bots: Fleet, site: Site) -> None:
    working = await bots.work()
    async with held(bots, "1", working=working) as (waiting,):
        await site.rest.post(f"/api/v1/profiles/{working['profile']}/stop")
        assert (await soon(waiting))["instruction"] == "stop"


async def test_a_new_configuration_reaches_a_working_bot_at_once(bots: Fleet, site: Site) -> None:
    working = await bots.work()
    async with held(bots, "1", working=working) as (waiting,):
        await site.rest.patch(f"/api/v1/profiles/{working['profile']}", json={"config": {"n": 2}})
        told = await soon(waiting)
    assert (told["instruction"], told["assignment"]["config"]) == ("reconfigure", {"n": 2})


async def test_a_drain_and_a_kill_reach_a_bot_at_once(bots: Fleet, site: Site) -> None:
    await bots.auth("1")
    await bots.auth("2")
    async with held(bots, "1", "2") as (first, _):
        await site.rest.post("/api/v1/bots/farm-1/1/drain")
        assert (await soon(first))["instruction"] == "exit"
    request = asyncio.create_task(bots.call("2", "heartbeat", json={"wait": WAIT}))
    await until(lambda: _number(bots, 1))
    await site.rest.post("/api/v1/bots/farm-1/2/kill")
    assert (await asyncio.wait_for(request, 5)).json()["code"] == "unknown_bot"


async def test_a_start_answers_as_many_bots_as_there_are_profiles(bots: Fleet) -> None:
    names = [str(number) for number in range(12)]
    for name in names:
        await bots.auth(name)
    async with held(bots, *names) as waiting:
        for number in range(3):
            await bots.profile(f"p{number}")
        await until(lambda: _done(waiting, 3))
        await asyncio.sleep(0.3)
        assert sum(task.done() for task in waiting) == 3
        assert bots.site.state.waiting.number == 9


async def test_a_beat_that_another_worker_holds_does_not_end_what_its_bot_has_begun_since(
    bots: Fleet, elsewhere: Fleet
) -> None:
    await bots.auth("1")
    async with held(bots, "1", accepting=False) as (stale,):
        profile = await elsewhere.profile()
        work = (await elsewhere.beat("1"))["assignment"]
        working = {"profile": profile, "epoch": work["epoch"], "revision": work["revision"]}
        assert (await elsewhere.beat("1", working))["instruction"] == "continue"
        assert not stale.done()
        await elsewhere.site.rest.post(f"/api/v1/profiles/{profile}/stop")
        assert (await soon(stale))["instruction"] == "stop"
        assert (await elsewhere.beat("1", working))["instruction"] == "stop"


async def test_a_heartbeat_at_another_worker_leaves_the_held_one_to_its_own_end(bots: Fleet, elsewhere: Fleet) -> None:
    await bots.auth("1")
    async with held(bots, "1") as (first,):
        assert (await elsewhere.beat("1"))["instruction"] == "wait"
        assert bots.site.state.waiting.number == 1
        bots.site.state.waiting.end()
        assert (await soon(first))["instruction"] == "wait"


async def test_many_starts_at_once_find_as_many_bots(bots: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota.web.waiting.TRIED_AT_ONCE", 1)
    monkeypatch.setattr("rota.web.waiting.MOST_TRIED", 2)
    names = [str(number) for number in range(12)]
    for name in names:
        await bots.auth(name)
    async with held(bots, *names) as waiting:
        await asyncio.gather(*(bots.profile(f"p{name}") for name in names))
        for task in waiting:
            assert (await soon(task))["instruction"] == "start"


async def test_a_profile_finds_the_one_bot_that_bears_its_labels(bots: Fleet) -> None:
    for number in range(20):
        await bots.auth(str(number), **({"labels": {"kind": "site"}} if number == 17 else {}))
    async with held(bots, *map(str, range(20))) as waiting:
        await bots.profile(labels={"kind": "site"})
        assert (await soon(waiting[17]))["instruction"] == "start"
        assert sum(task.done() for task in waiting) == 1


async def test_a_start_asks_the_one_bot_of_two_thousand_that_bears_its_labels_and_no_other(
    bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, told = bots.site.state, Counter[str]()
    owners = [TokenOwner("default", f"farm-1/{number}", number.to_bytes(DIGEST_BYTES)) for number in range(2001)]
    fitting = owners[1000].bot

    async def enter(owner: TokenOwner) -> None:
        labels = {"kind": "site" if owner.bot == fitting else "mail", "region": "eu"}
        newcomer = Newcomer(owner.bot, owner.digest, "", labels, "")
        await live_bots.auth(state.live, owner.fleet, newcomer, ttl=90, leased=None)

    def tell(bot: str, answer: object) -> None:
        told[f"{bot} {answer.code if isinstance(answer, Answer) else answer}"] += 1

    await asyncio.gather(*map(enter, owners))
    for owner in owners:
        entry = idle_entry(owner.digest, accepting=True, status="")
        state.waiting.beat(owner, entry, 99_000, partial(tell, owner.bot), idle=True, seconds=60)
    await until(lambda: _all_wait(bots, owners))
    asked: list[str] = []
    add = state.beats.add

    def note(fleet: str, bot: str, *rest: Any) -> None:
        asked.append(bot)
        add(fleet, bot, *rest)

    monkeypatch.setattr(state.beats, "add", note)
    await bots.profile(labels={"kind": "site"})
    await until(lambda: _any(told))
    assert asked == [fitting]
    assert told == {f"{fitting} start": 1}


async def test_a_profile_that_begins_to_wait_while_it_is_looked_at_finds_its_bot(
    bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, waiting = snapshot.profiles, bots.site.state.waiting
    begun: list[str] = []

    async def too_early(live: Any, fleet: str, ids: Any) -> Any:
        found = await read(live, fleet, ids)
        if begun:
            return found
        # What was read is older than the event of the profile's next waiting, which comes before the answer.
        begun.extend(ids)
        waiting._fleets[fleet].wanted.update(dict.fromkeys(ids))
        return {}

    monkeypatch.setattr("rota.web.waiting.snapshot", SimpleNamespace(profiles=too_early))
    await bots.auth("1")
    async with held(bots, "1") as (task,):
        profile = await bots.profile()
        assert (await soon(task))["instruction"] == "start"
        assert begun == [profile]


async def test_bots_of_other_labels_are_left_for_profiles_that_require_them(bots: Fleet) -> None:
    for number, labels in enumerate(({"kind": "site", "gpu": "yes"}, {"kind": "site"}, {})):
        await bots.auth(str(number), labels=labels)
    async with held(bots, "0", "1", "2") as (able, fitting, plain):
        # From the first on, their labels are known.
        for task, wanted in ((fitting, {"kind": "site"}), (plain, {}), (able, {"gpu": "yes"})):
            await bots.profile(f"p{len(wanted)}{'gpu' in wanted}", labels=wanted)
            assert (await soon(task))["instruction"] == "start"


async def test_a_bot_that_comes_back_with_other_labels_is_known_by_those(bots: Fleet) -> None:
    await bots.auth("1", labels={"kind": "mail"})
    async with held(bots, "1") as (earlier,):
        await bots.profile("first", labels={"kind": "site"})
        await bots.auth("1", labels={"kind": "site"})
        with pytest.raises(AssertionError, match="unknown_bot"):
            await earlier
    assert (await bots.beat("1"))["instruction"] == "start"
    await bots.call("1", "leave", json={})
    await bots.auth("1", labels={"kind": "book"})
    async with held(bots, "1") as (waiting,):
        await bots.profile("second", labels={"kind": "book"})
        assert (await soon(waiting))["assignment"]["name"] == "second"


async def test_without_news_the_answer_comes_when_the_wait_is_over(bots: Fleet) -> None:
    await bots.auth("1")
    began = time.monotonic()
    told = await bots.beat("1", wait=0.3)
    assert told["instruction"] == "wait"
    assert 0.25 <= time.monotonic() - began < 5
    working = await bots.work("2")
    told = await bots.beat("2", working, wait=0.3)
    assert (told["instruction"], told["assignment"]) == ("continue", working)


async def test_a_wait_ends_with_the_interval(bots: Fleet, site: Site) -> None:
    await bots.auth("1")
    await site.rest.patch("/api/v1/fleets/default", json={"interval": 0.5, "ttl": 2})
    await site.state.policies.refresh()
    began = time.monotonic()
    assert (await bots.beat("1", wait=50))["instruction"] == "wait"
    assert time.monotonic() - began < 5


async def test_bots_may_spread_their_waits_by_a_tenth_of_the_interval(
    bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    beat = bots.site.state.waiting.beat

    def note(*said: Any, seconds: float, **more: Any) -> Any:
        asked.append(seconds)
        return beat(*said, seconds=0, **more)

    monkeypatch.setattr(bots.site.state.waiting, "beat", note)
    await bots.auth("1")
    for wait in (12, 32, 50):
        assert (await bots.beat("1", wait=wait))["instruction"] == "wait"
    assert asked == pytest.approx([12, 32, 33])


async def test_what_is_new_already_is_answered_without_a_wait(bots: Fleet) -> None:
    await bots.profile()
    await bots.auth("1")
    told = await asyncio.wait_for(bots.beat("1", wait=WAIT), 5)
    assert told["instruction"] == "start"


async def test_a_bot_that_beats_again_has_its_earlier_heartbeat_answered(bots: Fleet) -> None:
    await bots.auth("1")
    async with held(bots, "1") as (first,):
        second = asyncio.create_task(bots.beat("1", wait=WAIT))
        assert (await soon(first))["instruction"] == "wait"
        assert not second.done()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)


@pytest.mark.parametrize("call", ["heartbeat", "heartbeats"])
async def test_a_newer_heartbeat_that_does_not_wait_has_the_held_one_answered(bots: Fleet, call: str) -> None:
    working = await bots.work()
    async with held(bots, "1", working=working) as (first,):
        beat = {"working": working}
        many = {"beats": [{**beat, "token": bots.tokens["1"]}]}
        newer = await bots.call("1", call, json=beat if call == "heartbeat" else many)
        assert '"continue"' in newer.text
        assert (await soon(first))["instruction"] == "continue"
        assert bots.site.state.waiting.number == 0


async def test_a_process_whose_slot_is_taken_hears_of_it_at_once(bots: Fleet) -> None:
    await bots.auth("1")
    request = asyncio.create_task(bots.call("1", "heartbeat", json={"wait": WAIT}))
    await until(lambda: _number(bots, 1))
    await bots.auth("1")
    assert (await asyncio.wait_for(request, 5)).json()["code"] == "unknown_bot"


async def test_the_end_of_a_worker_answers_all_who_wait(bots: Fleet, site: Site) -> None:
    working = await bots.work("1")
    await bots.auth("2")
    async with held(bots, "2") as (idle,), held(bots, "1", working=working) as (busy,):
        site.state.waiting.end()
        assert (await soon(idle))["instruction"] == "wait"
        assert (await soon(busy))["instruction"] == "continue"
    assert (await asyncio.wait_for(bots.beat("2", wait=WAIT), 5))["instruction"] == "wait"


async def test_held_heartbeats_outlast_the_loss_of_live_state(bots: Fleet, site: Site) -> None:
    await bots.auth("1")
    request = asyncio.create_task(bots.call("1", "heartbeat", json={"wait": WAIT}))
    await until(lambda: _number(bots, 1))
    await site.state.live.read(("FLUSHDB",))
    await site.build()
    assert (await asyncio.wait_for(request, 5)).json()["code"] == "unknown_bot"


async def _all_wait(bots: Fleet, owners: list[TokenOwner]) -> bool:
    """Whether all are held, and events are followed."""
    fleet = bots.site.state.waiting._fleets["default"]
    return bool(fleet.position) and len(fleet.held) == len(owners)


async def _any(found: Sized, number: int = 1) -> bool:
    return len(found) >= number


async def _number(bots: Fleet, number: int) -> bool:
    return bots.site.state.waiting.number == number


async def _done(tasks: list[asyncio.Task[Json]], number: int) -> bool:
    return sum(task.done() for task in tasks) >= number
