"""The way of pushed records: in order, once, in batches that rota takes, whatever happens on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from rota import Job
from rota.errors import (
    BodyTooLargeError,
    FieldError,
    InvalidRequestError,
    RateLimitedError,
    UnavailableError,
    UnknownBotError,
)
from tests.unit.sdk_peer import PROFILE, Answer, Call, Peer, Wish, bot_at, eventually, lost, serving


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as running:
        running.wish = Wish()
        yield running


def batches(peer: Peer) -> list[int]:
    return [call.body["batch"] for call in peer.said("push_data")]


async def work_once(peer: Peer, work: Any, *, until: Any) -> None:
    """Has a bot at this peer call `work` once, and waits for `until`."""
    bot = bot_at(peer)

    @bot.work
    async def watch(job: Job) -> None:
        await work(job)
        await job.stopping.wait()

    async with serving(bot):
        await eventually(until)


async def test_a_record_is_stored_as_it_was_pushed(peer: Peer) -> None:
    at = datetime(2026, 11, 23, 10, tzinfo=UTC)

    async def work(job: Job) -> None:
        assert await job.push({"ok": True, "ms": 1.5, "tags": ["ä", None]}, kind="check", at=at)
        assert await job.push("now")

    before = datetime.now(UTC)
    await work_once(peer, work, until=lambda: len(peer.data) == 2)
    call = peer.said("push_data")[0]
    assert call.secret == "token-1"
    assert (call.body["profile"], call.body["epoch"], call.body["batch"]) == (PROFILE, 1001, 0)
    first, second = [record for key in peer.stored for record in peer.stored[key]]
    assert first == {
        "kind": "check",
        "at": "2026-11-23T10:00:00Z",
        "data": {"ok": True, "ms": 1.5, "tags": ["ä", None]},
    }
    assert second["kind"] == "record"
    assert before <= datetime.fromisoformat(second["at"]) <= datetime.now(UTC)


@pytest.mark.parametrize(
    "trouble",
    [
        UnavailableError(retry_after=0.01),
        RateLimitedError(retry_after=0.01),
        Answer({}, 500),
        Answer({"accepted": "many"}),
        lost(),
    ],
    ids=["unavailable", "rate_limited", "error", "no reply of rota", "lost"],
)
async def test_the_same_batch_is_sent_until_rota_has_it(peer: Peer, trouble: Any) -> None:
    peer.ttl = 6

    async def work(job: Job) -> None:
        job.push(0)
        await eventually(lambda: peer.said("push_data"))
        for number in range(1, 5):
            job.push(number)

    peer.script("push_data", trouble, trouble)
    await work_once(peer, work, until=lambda: len(peer.data) == 5)
    first, second, third, *_ = peer.said("push_data")
    assert first.body == second.body == third.body
    assert peer.data == [0, 1, 2, 3, 4]
    assert sorted(set(batches(peer))) == list(range(max(batches(peer)) + 1))


async def test_a_batch_whose_answer_was_lost_is_stored_once(peer: Peer) -> None:
    def stored_but_lost(call: Call) -> Answer:
        answer = peer._push_data(call)
        return Answer(answer.body, lost=True)

    peer.ttl = 6
    peer.script("push_data", stored_but_lost)

    async def work(job: Job) -> None:
        for number in range(3):
            job.push(number)
            assert await job.flush()

    await work_once(peer, work, until=lambda: len(peer.data) == 3)
    assert peer.data == [0, 1, 2]
    assert batches(peer) == [0, 0, 1, 2]


async def test_a_second_run_under_the_same_epoch_goes_on_counting(peer: Peer) -> None:
    bot = bot_at(peer)

    @bot.work
    async def watch(job: Job) -> None:
        await job.push("one more")

    async with serving(bot):
        await eventually(lambda: len(peer.data) >= 2)
    assert batches(peer) == [0, 1]


async def test_another_epoch_counts_from_zero_and_what_is_left_of_the_old_one_is_still_sent(
    peer: Peer,
) -> None:
    bot = bot_at(peer)
    away = threading.Event()

    def hold(call: Call) -> Any:
        return peer._push_data(call) if away.is_set() else UnavailableError(retry_after=0.01)

    peer.script("push_data", *[hold] * 1000)
    peer.ttl = 3

    @bot.work
    async def watch(job: Job) -> None:
        job.push(job.epoch)
        await job.stopping.wait()

    async with serving(bot):
        await eventually(lambda: peer.said("push_data"))
        peer.wish = Wish(epoch=1002)  # rota has given the profile away and back
        await eventually(lambda: any(call.body["epoch"] == 1002 for call in peer.said("push_data")))
        away.set()
        await eventually(lambda: len(peer.data) >= 2)
    assert sorted(peer.stored) == [(PROFILE, 1001, 0), (PROFILE, 1002, 0)]


async def test_unknown_bot_waits_for_the_new_token_and_sends_the_same_batch(peer: Peer) -> None:
    peer.script("push_data", UnknownBotError())
    peer.interval = 20

    async def work(job: Job) -> None:
        job.push("still here")

    await work_once(peer, work, until=lambda: peer.data)
    assert [(call.secret, call.body["batch"]) for call in peer.said("push_data")] == [
        ("token-1", 0),
        ("token-2", 0),
    ]
    assert peer.said("auth")[1].body["working"]["epoch"] == 1001


async def test_a_batch_that_rota_finds_too_large_is_halved_until_it_is_taken(peer: Peer) -> None:
    def narrow(call: Call) -> Answer | BodyTooLargeError:
        return BodyTooLargeError() if call.size > 2_000 else peer._push_data(call)

    peer.script("push_data", *[narrow] * 100)

    async def work(job: Job) -> None:
        for number in range(40):
            job.push([number, "x" * 200])
        assert await job.flush()

    await work_once(peer, work, until=lambda: len(peer.data) == 40)
    assert [number for number, _ in peer.data] == list(range(40))
    assert [batch for _, _, batch in peer.stored] == list(range(len(peer.stored)))


async def test_a_record_that_rota_finds_too_large_on_its_own_is_dropped_and_the_rest_goes_on(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    def narrow(call: Call) -> Answer | BodyTooLargeError:
        return BodyTooLargeError() if call.size > 2_000 else peer._push_data(call)

    peer.script("push_data", *[narrow] * 100)

    async def work(job: Job) -> None:
        job.push("first")
        job.push("x" * 3_000)
        job.push("last")
        assert not await job.flush()

    await work_once(peer, work, until=lambda: len(peer.data) == 2)
    assert peer.data == ["first", "last"]
    assert "a record of 3" in caplog.text


@pytest.mark.parametrize("named", [True, False], ids=["the records that rota names", "else the whole batch"])
async def test_what_rota_refuses_as_invalid_is_dropped_loudly(
    peer: Peer, caplog: pytest.LogCaptureFixture, *, named: bool
) -> None:
    fields = (FieldError("records.1.data", "cannot be stored"),) if named else ()
    peer.script("push_data", InvalidRequestError("no", fields=fields))

    async def work(job: Job) -> None:
        for number in range(3):
            job.push(number)
        await job.flush()
        job.push("later")

    await work_once(peer, work, until=lambda: "later" in peer.data)
    assert peer.data == ([0, 2, "later"] if named else ["later"])
    assert [r.levelname for r in caplog.records if "refuses" in r.message] == ["ERROR"]


async def test_a_refusal_is_logged_in_one_sentence_for_each_place(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    fields = tuple(FieldError(f"records.{position}.data", "cannot be stored") for position in range(7))
    peer.script("push_data", InvalidRequestError("records.0.data: cannot be stored", fields=fields))

    async def work(job: Job) -> None:
        for number in range(8):
            job.push(number)

    await work_once(peer, work, until=lambda: peer.data)
    (told,) = [r.message for r in caplog.records if "refuses" in r.message]
    assert told == (
        f"profile {PROFILE}: rota refuses 7 record(s): "
        + "; ".join(f"records.{position}.data: cannot be stored" for position in range(5))
        + "; and 2 more; dropped"
    )


async def test_a_plain_function_pushes_flushes_and_sleeps_without_await(peer: Peer) -> None:
    bot = bot_at(peer)
    answers: list[bool] = []
    threads: list[str] = []

    @bot.work
    def watch(job: Job) -> None:
        threads.append(threading.current_thread().name)
        for number in range(50):
            job.push(number)
        answers.append(bool(job.flush()))
        answers.append(bool(job.sleep(0.01)))
        job.stopping.wait()
        answers.append(bool(job.sleep(60)))

    async with serving(bot):
        await eventually(lambda: len(answers) >= 2)
        assert peer.data == list(range(50))
        bot.stop()
        await eventually(lambda: len(answers) >= 3)
    assert answers == [True, True, False]
    assert threads == [f"rota work {PROFILE}"]


@pytest.mark.parametrize(
    ("data", "kind", "told"),
    [
        ({1, 2}, "x", "data: is of the type set"),
        ({"at": datetime.now(UTC)}, "x", "data.at: is of the type datetime"),
        ({"a": [1, float("nan")]}, "x", "data.a.1: is not a finite number"),
        (float("-inf"), "x", "data: is not a finite number"),
        ({"a": "\ud800"}, "x", "data.a: holds half of a surrogate pair"),
        ("\x00", "x", "data: holds a NUL"),
        (10**4300, "x", "data: is a number of more than 4300 digits"),
        ("y", "no spaces", "kind: String should match pattern"),
        ("y" * 1_100_000, "x", "a record of 11"),
    ],
    ids=["a set", "a datetime", "NaN", "Infinity", "half a pair", "NUL", "too long", "a bad kind", "over 1 MiB"],
)
async def test_what_cannot_be_pushed_is_a_value_error_where_it_is_pushed(
    peer: Peer, data: Any, kind: str, told: str
) -> None:
    caught: list[ValueError] = []

    async def work(job: Job) -> None:
        try:
            job.push(data, kind=kind)
        except ValueError as error:
            caught.append(error)
            await job.push("the next one")

    await work_once(peer, work, until=lambda: peer.data)
    assert str(caught[0]).startswith(told)
    assert "\n" not in str(caught[0])
    assert peer.data == ["the next one"]


async def test_forgetting_await_in_a_condition_is_an_error_and_not_a_yes(peer: Peer) -> None:
    caught: list[RuntimeError] = []

    async def work(job: Job) -> None:
        try:
            if job.sleep(1):
                pass
        except RuntimeError as error:
            caught.append(error)

    await work_once(peer, work, until=lambda: caught)


async def test_plain_work_that_does_not_heed_stopping_ends_with_its_next_push(peer: Peer) -> None:
    bot = bot_at(peer, grace=0.1)
    ended = threading.Event()

    @bot.work
    def watch(job: Job) -> None:
        try:
            while True:
                job.push("tick")
                threading.Event().wait(0.01)
        finally:
            ended.set()

    async with serving(bot):
        await eventually(lambda: peer.data)
        assert peer.wish
        peer.wish.stop = True
        await eventually(lambda: peer.wish is None)
        assert ended.is_set()


async def test_what_cannot_be_sent_before_the_end_is_dropped_loudly(
    peer: Peer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.sdk.shift.FLUSH_SECONDS", 0.1)
    monkeypatch.setattr("rota.sdk.duty.FLUSH_SECONDS", 0.1)
    peer.script("push_data", *[UnavailableError(retry_after=0.01)] * 1000)

    async def work(job: Job) -> None:
        job.push("never")

    await work_once(peer, work, until=lambda: peer.said("push_data"))
    assert "1 record(s) of epoch 1001 never reached rota" in caplog.text
    assert peer.calls[-1].path == "leave"
