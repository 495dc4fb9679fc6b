"""From process to process: what was pushed outlives kill -9, and the slot's next process delivers it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rota import Job
from rota.errors import UnavailableError
from rota.sdk.spool import Spool
from tests.unit.sdk_peer import PROFILE, Answer, Call, Peer, Wish, bot_at, eventually, serving, start_bot

AWAY = UnavailableError(retry_after=0.01)
FILE = "bot-farm-1~3.spool"


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as running:
        running.wish = Wish()
        running.ttl = 6
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spools"


def told(process: subprocess.Popen[str]) -> list[int]:
    """What the killed process had said that it pushed."""
    assert process.stdout
    # Not communicate(): it passes over what readline() has read ahead.
    return [int(line) for line in process.stdout.read().split()]


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(30)


async def printed(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout
    while await asyncio.to_thread(process.stdout.readline) != f"{line}\n":
        assert process.poll() is None, process.stderr.read() if process.stderr else ""


def waiting(folder: Path) -> int:
    """How many records are in the spool of a process that is gone."""
    spool = Spool(folder / FILE, most_aside=0)
    count = sum(box.count for box in spool.boxes())
    spool.close()
    return count


COUNTS = {
    "async": """async def watch(job):
    for n in range(FIRST, 10**9):
        await job.push(n)
        print(n, flush=True)""",
    "plain": """def watch(job):
    for n in range(FIRST, 10**9):
        job.push(n)
        print(n, flush=True)""",
}
PATIENT = "async def watch(job):\n    print('begun', flush=True)\n    await job.stopping.wait()"
PUSHES_ONE = PATIENT.replace("print", "await job.push('last'); print")


@pytest.mark.parametrize("kind", COUNTS)
async def test_what_push_has_returned_for_outlives_kill_9_and_arrives_once_in_order_under_its_epoch(
    peer: Peer, folder: Path, kind: str
) -> None:
    def unheard(call: Call) -> Answer:
        return Answer(peer._push_data(call).body, lost=True)

    # The first batch is stored and its answer lost; from the second on nothing gets through.
    peer.script("push_data", unheard, *[AWAY] * 10_000)
    processes = []
    for first in (0, 1_000_000):
        process = start_bot(peer, COUNTS[kind].replace("FIRST", str(first)), spool=str(folder))
        await printed(process, str(first + 150))
        kill(process)
        processes.append(process)
    pushed = [
        n
        for process, first in zip(processes, (0, 1_000_000), strict=True)
        for n in [*range(first, first + 151), *told(process)]
    ]
    peer._scripts["push_data"].clear()
    last = start_bot(peer, PATIENT, spool=str(folder))
    # The first two deaths came soon after the start of the work: see the test of that.
    await eventually(lambda: len(peer.data) >= len(pushed))
    last.terminate()
    await asyncio.to_thread(last.communicate, timeout=30)
    assert peer.data == sorted(peer.data)
    assert set(pushed) <= set(peer.data)
    assert len(set(peer.data)) == len(peer.data) <= len(pushed) + 2  # each was killed before it could say so
    assert {(profile, epoch) for profile, epoch, _ in peer.stored} == {(PROFILE, 1001)}
    assert sorted(batch for _, _, batch in peer.stored) == list(range(len(peer.stored)))
    bodies: dict[int, list[Any]] = {}
    for call in peer.said("push_data"):
        assert bodies.setdefault(call.body["batch"], call.body["records"]) == call.body["records"]
    assert waiting(folder) == 0


async def test_the_next_process_claims_what_it_finds_and_begins_again_under_the_same_epoch(
    peer: Peer, folder: Path
) -> None:
    first = start_bot(peer, PUSHES_ONE, spool=str(folder))
    await printed(first, "begun")  # what it pushed is on disk, and before it the claim
    kill(first)
    second = start_bot(peer, PATIENT, spool=str(folder))
    await printed(second, "begun")
    claimed = peer.said("auth")[1].body["working"]
    assert claimed == {"profile": PROFILE, "epoch": 1001, "revision": 1, "lease": "lease-1001"}
    idle = next(call for call in peer.calls[peer.calls.index(peer.said("auth")[1]) :] if call.path == "heartbeat")
    assert (idle.body.get("working"), idle.body["ended"]) == (None, {"profile": PROFILE, "epoch": 1001})
    second.terminate()
    await asyncio.to_thread(second.communicate, timeout=30)
    assert peer.said("leave"), "nothing is left: the profile need not wait"
    third = start_bot(peer, PATIENT, spool=str(folder))
    await printed(third, "begun")
    assert "working" not in peer.said("auth")[2].body, "it had left"
    kill(third)


async def test_an_assignment_that_does_not_come_back_gets_its_last_records_before_the_first_heartbeat(
    peer: Peer, folder: Path
) -> None:
    peer.script("push_data", *[AWAY] * 1000)
    first = start_bot(peer, PUSHES_ONE, spool=str(folder))
    await printed(first, "begun")
    kill(first)
    assert peer.wish
    peer.wish.stop = True
    peer._scripts["push_data"].clear()
    bot = bot_at(peer, spool=folder)
    bot.work(print)
    async with serving(bot):
        await eventually(lambda: peer.wish is None)
    after = [call.path for call in peer.calls[peer.calls.index(peer.said("auth")[1]) :]]
    assert after[:3] == ["auth", "push_data", "heartbeat"]
    assert peer.data == ["last"]


async def test_a_process_that_is_told_to_end_ends_in_time_and_leaves_the_rest_to_the_next(
    peer: Peer, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rota.sdk.shift.FLUSH_SECONDS", 0.1)
    monkeypatch.setattr("rota.sdk.duty.FLUSH_SECONDS", 0.1)
    peer.script("push_data", *[AWAY] * 1000)

    async def run(data: str, until: Callable[[], bool]) -> None:
        bot = bot_at(peer, spool=folder)

        @bot.work
        async def watch(job: Job) -> None:
            await job.push(data)
            await job.stopping.wait()
            job.push(f"{data}, goodbye")

        async with serving(bot):
            await eventually(until)

    await run("first", lambda: bool(peer.said("push_data")))
    assert "2 record(s) of epoch 1001 stay in" in caplog.text
    assert not peer.said("leave"), "its assignment is kept for the next process"
    assert waiting(folder) == 2
    peer._scripts["push_data"].clear()
    await run("second", lambda: len(peer.data) == 3)
    assert peer.data == ["first", "first, goodbye", "second", "second, goodbye"]
    assert {epoch for _, epoch, _ in peer.stored} == {1001}
    assert peer.said("leave")


async def test_work_that_ends_its_process_again_and_again_is_reported_as_a_crash(peer: Peer, folder: Path) -> None:
    deadly = "async def watch(job):\n    await job.push(os.getpid())\n    os.kill(os.getpid(), signal.SIGKILL)"
    processes = []
    for _ in range(2):
        process = start_bot(peer, deadly, spool=str(folder))
        await asyncio.to_thread(process.wait, 30)
        processes.append(process.pid)
    bot = bot_at(peer, spool=folder)
    begun: list[int] = []

    @bot.work
    async def watch(job: Job) -> None:
        begun.append(job.epoch)

    async with serving(bot):
        await eventually(lambda: peer.said("leave"))
        assert begun == []
    crash = peer.said("leave")[0].body
    assert crash["reason"] == "crash"
    assert "2 processes in a row" in crash["detail"]
    paths = [call.path for call in peer.calls[peer.calls.index(peer.said("auth")[2]) :]]
    assert paths[: paths.index("leave")] == ["auth"] + ["push_data"] * paths[: paths.index("leave")].count("push_data")
    assert peer.data == processes, "its records come first"


async def test_a_crash_that_could_not_be_reported_is_reported_by_whoever_comes_back(
    peer: Peer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.sdk.duty.LEAVE_SECONDS", 0.1)
    peer.script("leave", AWAY, *[AWAY] * 20)
    bot = bot_at(peer, spool=folder)

    @bot.work
    async def watch(job: Job) -> None:
        raise ValueError("no such site")

    async with serving(bot):
        await eventually(lambda: len(peer.said("leave")) >= 1)
        await eventually(lambda: len(peer.said("auth")) >= 2)
        peer._scripts["leave"].clear()
        heard = len(peer.said("leave"))
        await eventually(lambda: len(peer.said("leave")) > heard)
    assert peer.said("leave")[heard].body == {"reason": "crash", "detail": "ValueError: no such site"}
    assert peer.said("auth")[1].body["working"]["epoch"] == 1001
