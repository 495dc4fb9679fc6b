"""Room for pushed records: who waits while too much is on its way, however many they are, and who is told to."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rota import Job
from rota.errors import UnavailableError
from rota.sdk import disk, outbox
from tests.unit.sdk_peer import Call, Peer, Wish, bot_at, eventually, serving
from tests.unit.test_sdk_push import work_once


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as running:
        running.wish = Wish()
        yield running


def held_back(peer: Peer) -> threading.Event:
    """Rota takes nothing until this is set."""
    open_again = threading.Event()
    peer.ttl = 6

    def hold(call: Call) -> Any:
        return peer._push_data(call) if open_again.is_set() else UnavailableError(retry_after=0.01)

    peer.script("push_data", *[hold] * 1000)
    return open_again


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
async def test_push_waits_while_too_much_is_on_its_way(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, *, plain: bool
) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING_RECORDS", 10)
    open_again = held_back(peer)
    bot = bot_at(peer)
    pushed: list[int] = []

    async def watch(job: Job) -> None:
        for number in range(30):
            assert await job.push(number)
            pushed.append(number)
        await job.stopping.wait()

    def watch_plainly(job: Job) -> None:
        for number in range(30):
            assert job.push(number)
            pushed.append(number)
        job.stopping.wait()

    bot.work(watch_plainly if plain else watch)
    async with serving(bot):
        await eventually(lambda: len(peer.said("push_data")) >= 3)
        assert len(pushed) == 9
        open_again.set()
        await eventually(lambda: len(peer.data) >= 30)
    assert peer.data == list(range(30))


async def test_a_push_that_nobody_awaits_fails_before_it_eats_the_memory(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING_RECORDS", 10)

    async def work(job: Job) -> None:
        for number in range(100):
            job.push(number)

    await work_once(peer, work, until=lambda: peer.said("leave"))
    assert "await job.push" in peer.said("leave")[0].body["detail"]
    assert peer.data == list(range(20))


@pytest.mark.parametrize("forgetful", ["tasks", "timeouts"])
async def test_pushes_that_are_left_alone_one_by_one_are_bounded_as_well(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, forgetful: str
) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING_RECORDS", 10)
    open_again = held_back(peer)
    caught: list[int] = []

    async def handle(job: Job, number: int) -> None:
        later = job.push(number)
        if forgetful == "timeouts":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(later, 0.001)

    async def work(job: Job) -> None:
        for number in range(100):
            try:
                await asyncio.create_task(handle(job, number))
            except BufferError:
                caught.append(number)
        open_again.set()

    await work_once(peer, work, until=lambda: len(peer.data) >= 20)
    assert peer.data == list(range(20))
    assert caught == list(range(20, 100))


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("way", ["gathered", "tasks"])
async def test_pushes_that_are_awaited_wait_however_many_and_never_fail(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str, *, spooled: bool
) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING_RECORDS", 10)
    monkeypatch.setattr(disk, "MOST_RECORDS", 10)
    open_again = held_back(peer)
    bot = bot_at(peer, spool=tmp_path) if spooled else bot_at(peer)
    went_on: list[int] = []
    failed: list[BaseException] = []

    async def one(job: Job, number: int) -> None:
        await job.push(number)
        went_on.append(number)

    @bot.work
    async def watch(job: Job) -> None:
        pushes = [job.push(n) if way == "gathered" else one(job, n) for n in range(500)]
        found = await asyncio.gather(*pushes, return_exceptions=True)
        failed.extend(error for error in found if isinstance(error, BaseException))
        await job.stopping.wait()

    async with serving(bot):
        await eventually(lambda: len(peer.said("push_data")) >= 3)
        assert len(went_on) < 10
        open_again.set()
        await eventually(lambda: len(peer.data) >= 500)
    assert failed == []
    assert peer.data == list(range(500))
    assert sorted(went_on) == (list(range(500)) if way == "tasks" else [])


async def test_threads_of_a_plain_function_wait_for_room_and_never_fail(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING_RECORDS", 2)
    open_again = held_back(peer)
    bot = bot_at(peer)
    failed: list[BaseException] = []

    @bot.work
    def watch(job: Job) -> None:
        def push(first: int) -> None:
            try:
                for number in range(first, first + 5):
                    job.push(number)
            except BufferError as error:
                failed.append(error)

        threads = [threading.Thread(target=push, args=(first,)) for first in range(0, 100, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        job.stopping.wait()

    async with serving(bot):
        await eventually(lambda: len(peer.said("push_data")) >= 3)
        open_again.set()
        await eventually(lambda: len(peer.data) >= 100)
    assert failed == []
    assert sorted(peer.data) == list(range(100))


async def test_work_that_is_stopping_pushes_on_without_waiting_up_to_twice_as_much(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_WAITING_RECORDS", 10)
    open_again = held_back(peer)
    bot = bot_at(peer)
    begun: list[Job] = []
    pushed: list[int] = []

    @bot.work
    async def watch(job: Job) -> None:
        begun.append(job)
        await job.stopping.wait()
        for number in range(30):
            await job.push(number)
            pushed.append(number)

    async with serving(bot) as task:
        await eventually(lambda: begun)
        bot.stop()
        await eventually(lambda: len(peer.said("push_data")) >= 3)
        assert len(pushed) == 19
        open_again.set()
        await task
    assert peer.data == list(range(30))
