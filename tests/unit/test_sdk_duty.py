"""Each row of the instruction table, from the bot's side, and how a bot ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from rota import Job
from rota.errors import (
    SettingsError,
)
from rota.sdk.lease import now
from tests.unit.sdk_peer import PROFILE, Answer, Call, Peer, Wish, bot_at, eventually, lost, serving


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as running:
        yield running


async def until_stopping(job: Job) -> None:
    await job.stopping.wait()


async def test_a_bot_enters_the_roster_with_its_key_and_then_names_its_token(peer: Peer) -> None:
    bot = bot_at(peer, labels={"region": "eu"}, version="1.4.2")
    bot.work(until_stopping)
    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
    auth = peer.said("auth")[0]
    assert auth.secret == "enrol_key"
    assert auth.body == {
        "hostname": "bot-farm-1",
        "instance": "3",
        "version": "1.4.2",
        "labels": {"region": "eu"},
    }
    assert {call.secret for call in peer.said("heartbeat")} == {"token-1"}
    first, then = (call.body for call in peer.said("heartbeat")[:2])
    wait = then.pop("wait")
    assert first | {"wait": 0} == then | {"wait": 0} == {"ended": None, "status": "", "accepting": True, "wait": 0}
    assert 0 < wait <= peer.ttl / 4


async def test_wait_leaves_the_bot_idle_and_it_beats_at_the_interval_that_it_is_told(peer: Peer) -> None:
    bot = bot_at(peer)
    bot.work(until_stopping)
    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 5)
        peer.interval = 20
        await eventually(lambda: len(peer.said("heartbeat")) >= 6)
        heard = len(peer.said("heartbeat"))
        with pytest.raises(AssertionError, match="never happened"):
            await eventually(lambda: len(peer.said("heartbeat")) > heard, seconds=0.3)
    first, last = (peer.said("heartbeat")[at].at for at in (0, 4))
    assert last - first >= 4 * 0.044


@pytest.mark.parametrize("at_work", [False, True])
async def test_a_beat_that_was_held_for_its_whole_wait_is_followed_by_the_next_at_once(
    peer: Peer, monkeypatch: pytest.MonkeyPatch, *, at_work: bool
) -> None:
    passed = 0.0

    def hold(call: Call) -> Answer:
        nonlocal passed
        passed += call.body["wait"]
        return peer._heartbeat(call)

    for module in ("duty", "session"):
        monkeypatch.setattr(f"rota.sdk.{module}.now", lambda: now() + passed)
    peer.interval, peer.ttl, peer.wish = 20, 90, Wish() if at_work else None
    peer.script("heartbeat", *[hold] * 8)
    bot = bot_at(peer)
    bot.work(until_stopping)
    async with serving(bot):
        # The ninth is answered early, and the tenth has to wait.
        await eventually(lambda: len(peer.said("heartbeat")) == 9)
        with pytest.raises(AssertionError, match="never happened"):
            await eventually(lambda: len(peer.said("heartbeat")) > 9, seconds=0.3)
    waits = [call.body["wait"] for call in peer.said("heartbeat")[2:9]]
    assert all(18 <= wait <= 22 for wait in waits)


async def test_start_begins_the_work_and_after_the_confirmation_orders_are_waited_for_at_once(peer: Peer) -> None:
    peer.wish, peer.interval, peer.ttl = Wish(), 20, 90
    bot = bot_at(peer)
    jobs: list[Job] = []

    @bot.work
    async def watch(job: Job) -> None:
        jobs.append(job)
        job.status("analyzing")
        await job.stopping.wait()

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 3)
        job = jobs[0]
        assert (job.profile, job.name, job.epoch, job.revision) == (PROFILE, "acme", 1001, 1)
        assert job.config == {"url": "http://site"}
    confirmed, waiting = (call.body for call in peer.said("heartbeat")[1:3])
    assert confirmed["working"] == waiting["working"] == {"profile": PROFILE, "epoch": 1001, "revision": 1}
    assert confirmed["wait"] == 0 < waiting["wait"]
    assert len(jobs) == 1


async def test_a_lost_start_is_said_again_and_begins_the_work_once(peer: Peer) -> None:
    peer.wish, peer.ttl = Wish(), 3
    peer.script("heartbeat", lost(), lost())
    bot = bot_at(peer)
    begun: list[int] = []

    @bot.work
    async def watch(job: Job) -> None:
        begun.append(job.epoch)
        await job.stopping.wait()

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 6)
        assert begun == [1001]


async def test_continue_leaves_the_work_alone_and_reports_its_status(peer: Peer) -> None:
    peer.wish = Wish()
    bot = bot_at(peer)

    @bot.work
    async def watch(job: Job) -> None:
        job.status("x" * 100)
        await job.stopping.wait()

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 5)
    assert peer.said("heartbeat")[4].body["status"] == "x" * 64


async def test_reconfigure_hands_the_job_its_new_configuration_and_is_confirmed(peer: Peer) -> None:
    peer.wish = Wish()
    bot = bot_at(peer)
    seen: list[Any] = []

    @bot.work
    async def watch(job: Job) -> None:
        while not job.stopping:
            seen.append((job.revision, job.config["url"]))
            if await job.reconfigured.wait():
                job.reconfigured.clear()

    async with serving(bot):
        await eventually(lambda: seen)
        peer.wish = Wish(revision=2, config={"url": "http://other"})
        await eventually(lambda: peer.said("heartbeat")[-1].body.get("working", {}).get("revision") == 2)
        await eventually(lambda: len(seen) == 2)
    assert seen == [(1, "http://site"), (2, "http://other")]


async def test_stop_lets_the_work_end_flushes_it_and_then_says_that_it_has_ended(peer: Peer) -> None:
    peer.wish, peer.interval = Wish(), 0.2
    bot = bot_at(peer)

    @bot.work
    async def watch(job: Job) -> None:
        await job.stopping.wait()
        job.push("the last words")

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
        peer.wish.stop = True
        await eventually(lambda: peer.wish is None)
    paths = [(call.path, call.body.get("working") is None) for call in peer.calls]
    assert paths.index(("push_data", True)) < len(paths) - paths[::-1].index(("heartbeat", True)) - 1
    assert peer.data == ["the last words"]
    assert peer.said("push_data")[0].body["epoch"] == 1001


async def test_work_that_does_not_heed_stopping_is_cancelled_after_the_grace(peer: Peer) -> None:
    peer.wish = Wish()
    bot = bot_at(peer, grace=0.1)
    ended: list[str] = []

    @bot.work
    async def watch(job: Job) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled" if job.stopping else "?")

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
        peer.wish.stop = True
        await eventually(lambda: peer.wish is None)
    assert ended == ["cancelled"]


@pytest.mark.parametrize("other", [None, Wish(profile="prf_other", epoch=2000)], ids=["unbound", "other work"])
async def test_stop_for_work_that_rota_knows_nothing_of_ends_it_at_once(peer: Peer, other: Wish | None) -> None:
    peer.wish = Wish()
    bot = bot_at(peer, grace=60)
    ended: list[str] = []

    @bot.work
    async def watch(job: Job) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(job.profile)

    async with serving(bot) as task:
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
        peer.wish = other
        await eventually(lambda: ended, seconds=5)
        assert not task.done()
        if other is not None:
            await eventually(
                lambda: (peer.said("heartbeat")[-1].body.get("working") or {}).get("profile") == "prf_other"
            )
        bot.stop()
        bot.stop()


async def test_exit_ends_the_bot_with_a_leave(peer: Peer) -> None:
    peer.script("heartbeat", peer.instruct("wait"), peer.instruct("exit"))
    bot = bot_at(peer)
    bot.work(until_stopping)
    await asyncio.wait_for(bot.serve(), 10)
    assert [call.path for call in peer.calls] == ["auth", "heartbeat", "heartbeat", "leave"]
    assert peer.said("leave")[0].body["reason"] == "shutdown"


async def test_work_that_comes_back_is_called_again_after_growing_pauses(peer: Peer) -> None:
    peer.wish = Wish()
    bot = bot_at(peer)
    begun: list[float] = []

    @bot.work
    async def watch(job: Job) -> None:
        begun.append(asyncio.get_running_loop().time())

    async with serving(bot):
        await eventually(lambda: len(begun) == 3)
    assert 1.0 <= begun[1] - begun[0] < 1.9
    assert 2.0 <= begun[2] - begun[1] < 3.9
    idle = [call for call in peer.said("heartbeat") if call.body.get("working") is None]
    assert len(idle) > 10, "it goes on beating"


async def test_work_that_raises_is_reported_as_a_crash_and_the_bot_comes_back(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.wish = Wish()
    bot = bot_at(peer)

    @bot.work
    async def watch(job: Job) -> None:
        job.push("before the fall")
        raise ValueError("no such site")

    async with serving(bot):
        await eventually(lambda: len(peer.said("auth")) == 2)
    crash = peer.said("leave")[0].body
    assert crash == {"reason": "crash", "detail": "ValueError: no such site"}
    assert peer.data[0] == "before the fall"
    assert "Traceback" in caplog.text
    assert "working" not in peer.said("auth")[1].body


async def test_work_that_calls_sys_exit_is_a_crash_of_that_work_alone(peer: Peer) -> None:
    peer.wish = Wish()
    bot = bot_at(peer)

    @bot.work
    async def watch(job: Job) -> None:
        raise SystemExit(3)

    async with serving(bot):
        await eventually(lambda: peer.said("leave"))
        assert peer.said("leave")[0].body == {"reason": "crash", "detail": "SystemExit: 3"}


# ---- the end


async def test_stop_of_the_bot_takes_nothing_new_lets_the_work_end_and_leaves(peer: Peer) -> None:
    peer.wish, peer.interval = Wish(), 20
    bot = bot_at(peer)
    go = asyncio.Event()

    @bot.work
    async def watch(job: Job) -> None:
        await job.stopping.wait()
        await go.wait()
        job.push("goodbye")

    async with serving(bot) as task:
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
        bot.stop()
        await eventually(lambda: peer.said("heartbeat")[-1].body["accepting"] is False)
        assert peer.said("heartbeat")[-1].body["working"]["profile"] == PROFILE
        go.set()
        await asyncio.wait_for(task, 10)
    assert [call.path for call in peer.calls][-2:] == ["push_data", "leave"]
    assert peer.said("leave")[0].body["reason"] == "shutdown"


async def test_cancelling_serve_cancels_the_work_and_leaves(peer: Peer) -> None:
    peer.wish = Wish()
    bot = bot_at(peer, grace=60)
    ended: list[str] = []

    @bot.work
    async def watch(job: Job) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(job.profile)

    async with serving(bot) as task:
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()
    assert ended == [PROFILE]
    assert peer.calls[-1].path == "leave"


async def test_a_bot_without_work_says_what_is_missing(peer: Peer) -> None:
    with pytest.raises(SettingsError, match=r"@bot\.work"):
        await bot_at(peer).serve()
