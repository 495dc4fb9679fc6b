"""Each row of the code table, from the bot's side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from rota import Job
from rota.errors import (
    InvalidKeyError,
    InvalidRequestError,
    RateLimitedError,
    RotaError,
    ServerNotAllowedError,
    SettingsError,
    SlotContestedError,
    SupersededError,
    UnavailableError,
    UnknownBotError,
)
from tests.unit.sdk_peer import PROFILE, Answer, Call, Peer, Wish, bot_at, eventually, lost, serving


def peer_has_heard(peer: Peer, auths: int) -> bool:
    return len(peer.said("auth")) == auths


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as running:
        yield running


async def until_stopping(job: Job) -> None:
    await job.stopping.wait()


@pytest.mark.parametrize("refusal", [InvalidKeyError(), ServerNotAllowedError()], ids=lambda e: str(e.code))
async def test_a_refused_bot_stops_and_says_why(peer: Peer, refusal: RotaError) -> None:
    peer.script("auth", refusal)  # type: ignore[arg-type]
    bot = bot_at(peer)
    bot.work(until_stopping)
    with pytest.raises(type(refusal)) as raised:
        await bot.serve()
    assert str(raised.value) == str(refusal)
    assert [call.path for call in peer.calls] == ["auth"]


async def test_a_description_that_rota_does_not_take_stops_the_bot(peer: Peer) -> None:
    peer.script("auth", InvalidRequestError("labels.region: not known here"))
    bot = bot_at(peer)
    bot.work(until_stopping)
    with pytest.raises(SettingsError, match=r"labels\.region"):
        await bot.serve()


async def test_unknown_bot_brings_the_bot_back_with_its_lease_and_leaves_the_work_alone(peer: Peer) -> None:
    peer.wish = Wish()
    bot = bot_at(peer)
    begun: list[Job] = []

    @bot.work
    async def watch(job: Job) -> None:
        begun.append(job)
        await job.stopping.wait()

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
        peer.script("heartbeat", UnknownBotError())
        await eventually(lambda: len(peer.said("auth")) == 2)
        heard = len(peer.said("heartbeat"))
        await eventually(lambda: len(peer.said("heartbeat")) >= heard + 3)
        assert not begun[0].stopping
    assert peer.said("auth")[1].body["working"] == {
        "profile": PROFILE,
        "epoch": 1001,
        "revision": 1,
        "lease": "lease-1001",
    }
    assert peer.said("heartbeat")[-1].secret == "token-2"
    assert len(begun) == 1


async def test_unknown_bot_ends_the_work_at_once_when_the_assignment_does_not_come_back(peer: Peer) -> None:
    peer.wish = Wish()
    bot = bot_at(peer, grace=60)
    ended: list[int] = []

    @bot.work
    async def watch(job: Job) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(job.epoch)

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
        peer.wish = None
        peer.script("heartbeat", UnknownBotError())
        await eventually(lambda: ended, seconds=5)
        await eventually(lambda: peer.said("heartbeat")[-1].body.get("working") is None)


async def test_a_bot_without_an_instance_comes_back_into_the_slot_that_rota_drew(peer: Peer) -> None:
    bot = bot_at(peer, instance=None)
    bot.work(until_stopping)
    async with serving(bot):
        await eventually(lambda: peer.said("heartbeat"))
        peer.script("heartbeat", UnknownBotError())
        await eventually(lambda: len(peer.said("auth")) == 2)
    assert "instance" not in peer.said("auth")[0].body
    assert peer.said("auth")[1].body["instance"] == "0a1b2c3d"


async def test_work_that_fails_while_the_bot_comes_back_is_still_reported(peer: Peer) -> None:
    peer.wish = Wish()
    bot = bot_at(peer)
    coming, failed = threading.Event(), threading.Event()

    def slow_auth(call: Call) -> Answer:
        coming.set()
        assert failed.wait(5)
        return peer._auth(call)

    @bot.work
    async def watch(job: Job) -> None:
        await eventually(coming.is_set)
        asyncio.get_running_loop().call_later(0.2, failed.set)
        raise ValueError("meanwhile")

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
        peer.script("auth", slow_auth)
        peer.script("heartbeat", UnknownBotError())
        await eventually(lambda: peer.said("leave"))
        assert peer.said("leave")[0].body == {"reason": "crash", "detail": "ValueError: meanwhile"}


async def test_two_processes_in_one_slot_do_not_fight_in_a_hot_loop(peer: Peer) -> None:
    peer.script("heartbeat", *[UnknownBotError()] * 50)
    peer.interval = 5
    bot = bot_at(peer)
    bot.work(until_stopping)
    async with serving(bot):
        await eventually(lambda: len(peer.said("auth")) == 3)
    gaps = [call.at for call in peer.said("auth")]
    assert gaps[2] - gaps[1] >= 1.0


async def test_a_contested_slot_ends_the_work_at_once_and_is_asked_for_again_after_the_pause(peer: Peer) -> None:
    peer.wish = Wish()
    bot = bot_at(peer, grace=60)
    ended: list[int] = []

    @bot.work
    async def watch(job: Job) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(job.epoch)

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
        peer.wish = None
        peer.script("heartbeat", UnknownBotError())
        peer.script("auth", SlotContestedError(retry_after=1.0))
        await eventually(lambda: ended, seconds=5)
        await eventually(lambda: len(peer.said("auth")) == 3)
    refused, again = (call.at for call in peer.said("auth")[1:])
    assert again - refused >= 1.0


async def test_a_lease_that_comes_with_the_assignment_is_the_newest_proof(peer: Peer) -> None:
    peer.wish = Wish()
    bot = bot_at(peer)
    bot.work(until_stopping)
    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
        for number in (2, 3):
            peer.signed.append(f"lease-{number}")
            peer.script("heartbeat", UnknownBotError())
            await eventually(partial(peer_has_heard, peer, number))
    assert [call.body["working"]["lease"] for call in peer.said("auth")[1:]] == ["lease-1001", "lease-2"]


async def test_superseded_ends_the_work_at_once_and_drops_its_data(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.wish = Wish()
    bot = bot_at(peer, grace=60)
    ended: list[bool] = []
    peer.script("push_data", SupersededError())

    @bot.work
    async def watch(job: Job) -> None:
        try:
            job.push("too late")
            await asyncio.Event().wait()
        finally:
            ended.append(bool(job.stopping))
            job.push("even later")

    async with serving(bot):
        await eventually(lambda: ended, seconds=5)
        peer.wish = None
        heard = len(peer.said("heartbeat"))
        await eventually(lambda: len(peer.said("heartbeat")) > heard + 1)
    assert len(peer.said("push_data")) == 1
    assert "1 record(s) dropped" in caplog.text


@pytest.mark.parametrize(
    "trouble",
    [
        UnavailableError(retry_after=0.01),
        RateLimitedError(retry_after=0.01),
        Answer({"what": "is this"}),
        Answer({}, 502),
        Answer({}, 301, {"Location": "https://elsewhere/bot/heartbeat"}),
        lost(),
    ],
    ids=["unavailable", "rate_limited", "no reply of rota", "a proxy's error", "moved", "lost"],
)
async def test_trouble_leaves_the_work_alone_while_the_lease_lasts(peer: Peer, trouble: Any) -> None:
    peer.wish, peer.ttl = Wish(), 6
    bot = bot_at(peer)
    begun: list[Job] = []

    @bot.work
    async def watch(job: Job) -> None:
        begun.append(job)
        await job.stopping.wait()

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
        peer.script("heartbeat", trouble, trouble)
        heard = len(peer.said("heartbeat"))
        await eventually(lambda: len(peer.said("heartbeat")) >= heard + 4)
        assert not begun[0].stopping
    assert len(begun) == 1
    assert len(peer.said("auth")) == 1


async def test_retry_after_is_honoured(peer: Peer) -> None:
    peer.script("heartbeat", UnavailableError(retry_after=0.7))
    bot = bot_at(peer)
    bot.work(until_stopping)
    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
    first, second = peer.said("heartbeat")[:2]
    assert second.at - first.at >= 0.69


async def test_a_bot_whose_rota_is_not_there_yet_waits_for_it(peer: Peer) -> None:
    peer.down = True
    bot = bot_at(peer)
    bot.work(until_stopping)
    async with serving(bot):
        await eventually(lambda: peer.refused >= 1)
        peer.down = False
        await eventually(lambda: peer.said("heartbeat"))
