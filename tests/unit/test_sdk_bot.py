"""The public face: how a bot is described, how it runs, and how its process ends."""

from __future__ import annotations

import asyncio
import functools
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import rota
import rota.sdk
from rota import Bot, Job
from rota.errors import InvalidKeyError, SettingsError
from rota.sdk import EXIT_LEASE_OVER
from rota.sdk.shift import is_async
from tests.unit.sdk_peer import KEY, Peer, Wish, bot_at, eventually, serving, start_bot


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as running:
        yield running


def ended(process: subprocess.Popen[str]) -> str:
    """What the process had to say, once it has ended."""
    output, errors = process.communicate(timeout=30)
    return output + errors


# ---- how it is described


def test_rota_itself_hands_out_bot_and_job() -> None:
    assert rota.Bot is rota.sdk.Bot
    assert rota.Job is rota.sdk.Job


async def test_the_environment_says_what_is_not_passed(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTA_URL", peer.url + "/")
    monkeypatch.setenv("ROTA_ENROLMENT_KEY", "enrol_environment")
    monkeypatch.setenv("ROTA_INSTANCE", "7")
    monkeypatch.setattr(socket, "gethostname", lambda: "Bot-Farm-9")
    bot = Bot()
    bot.work(print)
    async with serving(bot):
        await eventually(lambda: peer.said("heartbeat"))
    auth = peer.said("auth")[0]
    assert auth.secret == "enrol_environment"
    assert auth.body == {"hostname": "bot-farm-9", "instance": "7", "version": "", "labels": {}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": ""}, "ROTA_URL"),
        ({"url": "127.0.0.1:7682"}, "http://"),
        ({"url": "ftp://rota"}, "http://"),
        ({"key": ""}, "ROTA_ENROLMENT_KEY"),
        ({"key": "enrol_…"}, "ROTA_ENROLMENT_KEY"),
        ({"key": "enrol_key\n"}, "ROTA_ENROLMENT_KEY"),
        ({"hostname": "no spaces"}, "hostname of this bot"),
        ({"instance": "a/b"}, "instance of this bot"),
        ({"labels": {"region": "no spaces"}}, "labels.region of this bot"),
        ({"version": "v" * 65}, "version of this bot"),
    ],
)
def test_a_bot_that_cannot_be_is_refused_in_one_line(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROTA_URL", "ROTA_ENROLMENT_KEY", "ROTA_INSTANCE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match=message) as error:
        Bot(**({"url": "http://127.0.0.1:7682", "key": KEY} | options))
    assert "\n" not in str(error.value)


def test_the_key_is_in_no_description_of_the_bot() -> None:
    assert KEY not in repr(Bot("http://127.0.0.1:7682", KEY))


def test_async_work_is_known_by_what_it_is() -> None:
    async def work(job: Job, more: int = 0) -> None: ...

    class Worker:
        async def __call__(self, job: Job) -> None: ...

        def plain(self, job: Job) -> None: ...

    assert is_async(work)
    assert is_async(functools.partial(work, more=1))
    assert is_async(Worker())
    assert not is_async(Worker().plain)
    assert not is_async(print)


async def test_a_plain_function_that_gives_an_awaitable_is_told_so(peer: Peer) -> None:
    peer.wish = Wish()
    bot = bot_at(peer)

    async def work() -> None: ...

    awaitable = work()

    @bot.work
    def watch(job: Job) -> Any:
        return awaitable

    async with serving(bot):
        await eventually(lambda: peer.said("leave"))
    assert "async def" in peer.said("leave")[0].body["detail"]
    awaitable.close()


async def test_a_bot_serves_once_at_a_time_and_may_serve_again(peer: Peer) -> None:
    bot = bot_at(peer)
    bot.work(print)
    for auths in (1, 2):
        async with serving(bot):
            await eventually(lambda: len(peer.said("auth")) >= auths)  # noqa: B023 - used within this turn
            with pytest.raises(RuntimeError, match="running already"):
                await bot.serve()


# ---- how its process ends

PATIENT = "async def watch(job):\n    await job.stopping.wait()\n    job.push('goodbye')"
STUBBORN = "async def watch(job):\n    try: await asyncio.sleep(600)\n    finally: job.push('goodbye')"
PLAIN = "def watch(job):\n    job.stopping.wait()\n    job.push('goodbye')"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("work", [PATIENT, PLAIN], ids=["async", "plain"])
async def test_a_signal_lets_the_work_end_and_the_process_ends_with_0(
    peer: Peer, work: str, number: signal.Signals
) -> None:
    peer.wish = Wish()
    process = start_bot(peer, work)
    await eventually(lambda: len(peer.said("heartbeat")) >= 2)
    process.send_signal(number)
    said = await asyncio.to_thread(ended, process)
    assert (process.returncode, said) == (0, "")
    assert peer.data == ["goodbye"]
    assert [call.body["reason"] for call in peer.said("leave")] == ["shutdown"]


async def test_work_that_outlasts_the_grace_is_cancelled_and_the_process_ends_with_0(peer: Peer) -> None:
    peer.wish = Wish()
    process = start_bot(peer, STUBBORN, grace=0.2)
    await eventually(lambda: len(peer.said("heartbeat")) >= 2)
    process.terminate()
    await asyncio.to_thread(ended, process)
    assert process.returncode == 0
    assert peer.data == ["goodbye"]


async def test_a_second_signal_cancels_at_once(peer: Peer) -> None:
    peer.wish = Wish()
    process = start_bot(peer, STUBBORN, grace=600)
    await eventually(lambda: len(peer.said("heartbeat")) >= 2)
    process.terminate()
    await eventually(lambda: peer.said("heartbeat")[-1].body["accepting"] is False)
    assert process.poll() is None
    process.terminate()
    await asyncio.to_thread(ended, process)
    assert process.returncode == 0
    assert peer.data == ["goodbye"]
    assert peer.said("leave")


DEAF = "def watch(job):\n    while True: time.sleep(0.01)"
DEAF_TASK = """
async def watch(job):
    while True:
        try: await asyncio.sleep(60)
        except asyncio.CancelledError: pass
"""


@pytest.mark.parametrize("work", [DEAF, DEAF_TASK], ids=["plain", "async"])
async def test_a_process_whose_work_does_not_end_says_no_goodbye_and_ends_itself(peer: Peer, work: str) -> None:
    peer.wish = Wish()
    hurry = "def hurry():\n    from rota.sdk import duty\n    duty.CANCEL_SECONDS = 0.2\nhurry()\n"
    process = start_bot(peer, f"{work.strip()}\n{hurry}", grace=0.1)
    await eventually(lambda: len(peer.said("heartbeat")) >= 2)
    process.terminate()
    said = await asyncio.to_thread(ended, process)
    assert process.returncode == EXIT_LEASE_OVER
    assert "the work goes on although the bot leaves" in said
    assert peer.said("leave") == [], "its profile must not be given away before the process has ended"


async def test_a_refused_bot_ends_with_a_message_that_says_what_to_do(peer: Peer) -> None:
    peer.script("auth", InvalidKeyError())
    process = start_bot(peer, PATIENT)
    said = await asyncio.to_thread(ended, process)
    assert process.returncode == 1
    assert said.rstrip().endswith(
        "InvalidKeyError: The key is unknown, expired or revoked; ask the operator for a new one."
    )


async def test_when_one_of_several_bots_is_refused_the_others_leave(peer: Peer) -> None:
    others = (
        "async def watch(job): await job.stopping.wait()\n"
        "from rota.sdk import run_bots\n"
        f"other = Bot({peer.url!r}, 'enrol_other', instance='4')\nother.work(watch)\n"
        "run_bots([bot, other])\n"
    )

    def refuse_the_second(call: Any) -> Any:
        return InvalidKeyError() if call.secret == "enrol_other" else peer._auth(call)

    peer.script("auth", refuse_the_second, refuse_the_second)
    process = start_bot(peer, others)
    said = await asyncio.to_thread(ended, process)
    assert process.returncode == 1
    assert "InvalidKeyError" in said
    assert [call.path for call in peer.calls][-1] == "leave"
