"""The lease rule: whatever happens, work has stopped `ttl` seconds after the last good heartbeat was sent."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from rota import Job
from rota.sdk import EXIT_LEASE_OVER
from rota.sdk.lease import Lease, Watchdog, now
from tests.unit.sdk_peer import NO_FUSE, Answer, Call, Peer, Wish, bot_at, eventually, lease_end, serving, start_bot

TTL = 2.5


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as running:
        running.wish, running.interval, running.ttl = Wish(), 0.1, TTL
        yield running


async def test_async_work_is_asked_then_cancelled_and_ends_before_the_lease(peer: Peer) -> None:
    bot = bot_at(peer, grace=60, last_resort=False)
    moments: dict[str, float] = {}

    @bot.work
    async def watch(job: Job) -> None:
        try:
            await job.stopping.wait()
            moments["asked"] = now()
            await asyncio.Event().wait()
        finally:
            moments["ended"] = now()

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 5)
        peer.down = True
        await eventually(lambda: "ended" in moments)
        end = lease_end(peer)
        assert end - 0.35 * TTL <= moments["asked"] <= moments["ended"] < end
        assert peer.refused >= 2, "it tried several times within the lease"
        peer.down = False


async def test_the_lease_counts_from_the_sending_and_not_from_the_answer(peer: Peer) -> None:
    bot = bot_at(peer, grace=60, last_resort=False)
    moments: dict[str, float] = {}

    def slow(call: Call) -> Answer:
        threading.Event().wait(0.2 * TTL)
        return peer._heartbeat(call)

    @bot.work
    async def watch(job: Job) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            moments["ended"] = now()

    peer.script("heartbeat", *[slow] * 100)
    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 4)
        peer.down = True
        await eventually(lambda: "ended" in moments)
        assert moments["ended"] < lease_end(peer)
        peer.down = False


async def test_plain_work_is_asked_to_stop_before_the_lease_ends(peer: Peer) -> None:
    bot = bot_at(peer, grace=60, last_resort=False)
    moments: dict[str, float] = {}

    @bot.work
    def watch(job: Job) -> None:
        job.stopping.wait()
        moments["ended"] = now()

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 5)
        peer.down = True
        await eventually(lambda: "ended" in moments)
        assert moments["ended"] < lease_end(peer)
        peer.down = False


async def test_plain_work_is_asked_to_stop_while_the_event_loop_is_blocked(peer: Peer) -> None:
    bot = bot_at(peer, grace=60, last_resort=False)
    moments: dict[str, float] = {}
    ended = threading.Event()

    @bot.work
    def watch(job: Job) -> None:
        job.stopping.wait()
        moments["ended"] = now()
        ended.set()

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 5)
        end = lease_end(peer)
        assert ended.wait(10), "the loop does not run meanwhile"
        assert moments["ended"] < end + peer.interval


async def test_the_bot_goes_on_after_the_lease_is_lost_and_rota_is_back(peer: Peer) -> None:
    bot = bot_at(peer, last_resort=False)
    begun: list[int] = []
    ended: list[int] = []

    @bot.work
    async def watch(job: Job) -> None:
        begun.append(job.epoch)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(job.epoch)

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 3)
        peer.down = True
        await eventually(lambda: ended)
        peer.wish = Wish(epoch=1002)
        peer.down = False
        await eventually(lambda: len(begun) >= 2)
    assert begun == [1001, 1002]


async def test_pushing_does_not_renew_the_lease(peer: Peer) -> None:
    peer.interval = 100
    bot = bot_at(peer, last_resort=False)
    moments: dict[str, float] = {}

    @bot.work
    async def watch(job: Job) -> None:
        try:
            while True:
                await job.push("tick")
                await asyncio.sleep(0.01)
        finally:
            moments["ended"] = now()

    async with serving(bot):
        await eventually(lambda: len(peer.said("heartbeat")) >= 2)
        peer.script("heartbeat", *[peer.instruct("nonsense")] * 100)
        await eventually(lambda: "ended" in moments)
        assert moments["ended"] < peer.said("heartbeat")[1].at + TTL


# ---- the last resort: the process ends itself, or on a busy machine the kernel does (test_sdk_suspended)


def ending(process: subprocess.Popen[str]) -> tuple[float, str]:
    """When the process ended, and what it had to say."""
    _, errors = process.communicate(timeout=30)
    return now(), errors


DEAF_WORKS = {
    "a plain function that ignores stopping": "def watch(job):\n    while True: time.sleep(0.01)",
    "a plain function that swallows its cancellation": """def watch(job):
    while True:
        try: job.sleep(0.01)
        except BaseException: time.sleep(0.01)""",
    "async work that ignores its cancellation": """async def watch(job):
    while True:
        try: await asyncio.sleep(60)
        except asyncio.CancelledError: pass""",
    "async work that blocks the event loop": "async def watch(job):\n    time.sleep(60)",
}


@pytest.mark.parametrize("work", list(DEAF_WORKS.values())[:3], ids=list(DEAF_WORKS)[:3])
async def test_work_that_rota_has_given_away_may_not_go_on_until_its_lease_ends(peer: Peer, work: str) -> None:
    peer.ttl = 6
    process = start_bot(peer, work, first=NO_FUSE)
    await eventually(lambda: len(peer.said("heartbeat")) >= 3)
    peer.wish, told_at = None, now()
    ended_at, _ = await asyncio.to_thread(ending, process)
    assert process.returncode == EXIT_LEASE_OVER
    assert ended_at < told_at + 3


@pytest.mark.parametrize("work", DEAF_WORKS.values(), ids=DEAF_WORKS)
async def test_a_process_whose_work_does_not_stop_ends_itself_when_the_lease_ends(peer: Peer, work: str) -> None:
    process = start_bot(peer, work, first=NO_FUSE)
    beats = 1 if "time.sleep(60)" in work else 3
    await eventually(lambda: len(peer.said("heartbeat")) >= beats)
    peer.down = True
    ended_at, errors = await asyncio.to_thread(ending, process)
    assert process.returncode == EXIT_LEASE_OVER
    assert ended_at < lease_end(peer) + 0.3  # until the ended process is noticed here
    assert "the work goes on although its lease is over; this process ends now" in errors


async def test_work_that_ignores_the_stop_of_its_client_does_not_keep_its_profile_for_ever(
    peer: Peer,
) -> None:
    process = start_bot(peer, DEAF_WORKS["a plain function that ignores stopping"], first=NO_FUSE, grace=0.1)
    await eventually(lambda: len(peer.said("heartbeat")) >= 3)
    assert peer.wish
    peer.wish.stop = True
    await asyncio.to_thread(ending, process)
    assert process.returncode == EXIT_LEASE_OVER


# ---- the parts


def test_the_watchdog_does_nothing_while_the_lease_is_renewed() -> None:
    done: list[str] = []
    watchdog = Watchdog(
        Lease(now(), 0.3),
        stop=lambda: done.append("stop"),
        cancel=lambda: done.append("cancel"),
        over=lambda: done.append("over"),
    )
    watchdog.start()
    deadline = time.monotonic() + 0.9
    while time.monotonic() < deadline:
        watchdog.renew(Lease(now(), 0.3))
        threading.Event().wait(0.01)
    watchdog.release()
    assert done == []


def test_the_watchdog_stops_then_cancels_then_ends() -> None:
    done: list[tuple[str, float]] = []
    over = threading.Event()
    lease = Lease(now(), 0.4)

    def end() -> None:
        done.append(("over", now()))
        over.set()

    watchdog = Watchdog(
        lease,
        stop=lambda: done.append(("stop", now())),
        cancel=lambda: done.append(("cancel", now())),
        over=end,
    )
    watchdog.start()
    assert over.wait(10)
    assert [what for what, _ in done] == ["stop", "cancel", "over"]
    moments = [moment for _, moment in done]
    assert moments[0] >= lease.stop_at
    assert moments[1] >= lease.cancel_at
    assert lease.exit_at <= moments[2]


def test_a_lease_that_is_cut_never_ends_later_than_before() -> None:
    lease = Lease(now() - 80, 90)
    assert lease.cut().ends_at == pytest.approx(min(lease.ends_at, now() + 9), abs=0.5)
    old = Lease(now() - 100, 90)
    assert old.cut().ends_at == old.ends_at
