"""A process that is stopped, or held up, for longer than its lease: nothing of it works when the lease is over."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from rota.sdk import EXIT_LEASE_OVER
from rota.sdk.lease import now
from tests.unit.sdk_peer import NO_FUSE, Peer, Wish, eventually, lease_end, start_bot

TTL = 2.5
TELL = "print(time.clock_gettime(time.CLOCK_BOOTTIME), flush=True)"
WORKS = {
    "async, awaiting": f"async def watch(job):\n    while True:\n        {TELL}\n        await asyncio.sleep(0.002)",
    "async, computing": f"async def watch(job):\n    while True:\n        {TELL}\n        for _ in range(1000): pass",
    "plain, waiting": f"def watch(job):\n    while True:\n        {TELL}\n        time.sleep(0.002)",
    "plain, computing": f"def watch(job):\n    while True:\n        {TELL}\n        for _ in range(1000): pass",
}
HEEDFUL = {
    "stopping": "if job.stopping: break",
    "waiting for a flag": "if job.stopping.wait(0.05): break",
    "sleep": "job.sleep(0.05)",
    "status": "job.status('at work')",
    "push": "job.push(1)",
    "flush": "job.flush(0.05)",
}
"""What a plain function may ask of its job between two strokes."""


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as running:
        running.wish, running.interval, running.ttl = Wish(), 0.1, TTL
        yield running


class Told:
    """The moments that a process prints while it works, read all the time: a full pipe would hold it up."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.moments: list[float] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.moments += [float(line)] if re.fullmatch(r"\d+\.\d+\n", line) else []

    async def stop(self, peer: Peer) -> float:
        """Stops the process at work; when its lease ends."""
        # Work that computes on the loop lets no second heartbeat out.
        await eventually(lambda: peer.said("heartbeat") and self.moments)
        os.kill(self.process.pid, signal.SIGSTOP)
        return lease_end(peer)

    async def end(self) -> str:
        """Waits until the process has ended; what it had to say."""
        assert self.process.stderr
        errors = await asyncio.to_thread(self.process.stderr.read)
        await asyncio.to_thread(self.process.wait, 30)
        self._reader.join(30)
        return errors


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS)
async def test_a_stopped_process_is_dead_when_its_lease_ends_although_nobody_continues_it(
    peer: Peer, work: str
) -> None:
    told = Told(start_bot(peer, work))
    end = await told.stop(peer)
    await told.end()
    assert now() < end + 5  # until it is noticed here
    assert told.process.returncode == -signal.SIGKILL
    assert max(told.moments) < end


async def test_work_that_holds_the_interpreters_lock_is_dead_when_its_lease_ends(peer: Peer) -> None:
    process = start_bot(peer, "def watch(job):\n    job.sleep(0.3)\n    ctypes.PyDLL(None).sleep(60)")
    await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert now() < lease_end(peer) + 5


async def test_a_process_that_is_continued_within_its_lease_works_on(peer: Peer) -> None:
    told = Told(start_bot(peer, WORKS["plain, waiting"]))
    await eventually(lambda: len(peer.said("heartbeat")) >= 3)
    await told.stop(peer)
    beats = len(peer.said("heartbeat"))
    os.kill(told.process.pid, signal.SIGCONT)
    end = lease_end(peer)
    await eventually(lambda: now() > end + 0.5)
    assert told.process.poll() is None, "its renewed lease ends later"
    assert len(peer.said("heartbeat")) > beats


async def test_a_process_whose_work_has_ended_outlives_the_lease(peer: Peer) -> None:
    process = start_bot(peer, "async def watch(job):\n    await job.stopping.wait()")
    await eventually(lambda: len(peer.said("heartbeat")) >= 3)
    assert peer.wish
    peer.wish.stop = True
    await eventually(lambda: peer.said("heartbeat")[-1].body.get("ended"))
    os.kill(process.pid, signal.SIGSTOP)
    end = lease_end(peer)
    await eventually(lambda: now() > end + 0.5)
    assert process.poll() is None
    beats = len(peer.said("heartbeat"))
    os.kill(process.pid, signal.SIGCONT)
    await eventually(lambda: len(peer.said("heartbeat")) > beats)


@pytest.mark.parametrize("work", list(WORKS.values())[:2], ids=list(WORKS)[:2])
async def test_where_the_kernel_has_no_such_timer_async_work_does_nothing_when_it_is_continued(
    peer: Peer, work: str
) -> None:
    told = Told(start_bot(peer, work, first=NO_FUSE))
    end = await told.stop(peer)
    await eventually(lambda: now() > end + 0.2)
    os.kill(told.process.pid, signal.SIGCONT)
    errors = await told.end()
    assert max(told.moments) < end, "it worked after its lease was over"
    assert told.process.returncode == EXIT_LEASE_OVER, errors


@pytest.mark.parametrize("ask", HEEDFUL.values(), ids=HEEDFUL)
async def test_where_the_process_may_not_be_ended_no_call_of_the_job_lets_plain_work_go_on(
    peer: Peer, ask: str
) -> None:
    """A stroke is told with the moment before the call that let it happen."""
    work = f"""def watch(job):
    while True:
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        {ask}
        print(before, flush=True)
        time.sleep(0.005)"""
    told = Told(start_bot(peer, work, last_resort=False))
    end = await told.stop(peer)
    await eventually(lambda: now() > end + 0.2)
    peer.wish, beats = None, len(peer.said("heartbeat"))
    os.kill(told.process.pid, signal.SIGCONT)
    # It lives on, without its work.
    await eventually(
        lambda: len(peer.said("heartbeat")) > beats + 1 and "working" not in peer.said("heartbeat")[-1].body
    )
    told.process.terminate()
    errors = await told.end()
    assert told.process.returncode == 0, errors
    assert max(told.moments) < end, "a call that began beyond the lease let the work go on"


async def test_a_job_tells_how_much_of_its_lease_is_left(peer: Peer) -> None:
    told = Told(start_bot(peer, "def watch(job):\n    while True:\n        print(job.lease_left, flush=True)"))
    await eventually(lambda: len(told.moments) > 100)
    peer.down = True
    await told.end()
    assert max(told.moments) <= TTL
    assert 0 <= told.moments[-1] < 0.2 * TTL
