"""A bot with a spool on disk: how it pushes, what becomes of records that rota does not take, and whose a spool is."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rota import Bot, Job
from rota.errors import InvalidRequestError, SettingsError, SpoolError, SupersededError, UnavailableError
from rota.sdk import Superseded, disk
from rota.sdk.spool import Spool
from tests.unit.sdk_peer import KEY, PROFILE, Call, Peer, Wish, bot_at, eventually, serving

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


def waiting(folder: Path) -> int:
    """How many records are in the spool of a process that is gone."""
    spool = Spool(folder / FILE, most_aside=0)
    count = sum(box.count for box in spool.boxes())
    spool.close()
    return count


def files_beside(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.ndjson"))


# ---- what rota does not take


async def test_superseded_records_are_set_aside_and_reported(
    peer: Peer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bot = bot_at(peer, spool=folder, grace=60)
    ended = threading.Event()
    reported: list[Superseded] = []

    def give_away(_: Call) -> SupersededError:
        peer.wish = None
        return SupersededError()

    peer.script("push_data", give_away)

    @bot.superseded
    def report(what: Superseded) -> None:
        reported.append(what)
        raise RuntimeError("in the report")

    @bot.work
    async def watch(job: Job) -> None:
        try:
            job.push("too late")
            await asyncio.Event().wait()
        finally:
            job.push("even later")
            ended.set()

    async with serving(bot):
        await eventually(ended.is_set)
        await eventually(lambda: sum(what.count for what in reported) >= 2)
    lines = [json.loads(line) for what in reported if what.path for line in what.path.read_text().splitlines()]
    assert [record["data"] for line in lines for record in line["records"]] == ["too late", "even later"]
    assert {(line["profile"], line["epoch"], line["reason"]) for line in lines} == {(PROFILE, 1001, "superseded")}
    assert lines[0]["batch"] == 0, "it was on its way"
    assert {what.path.parent for what in reported if what.path} == {folder}
    assert "record(s) set aside in" in caplog.text
    assert "in the report" in caplog.text
    assert len(peer.said("push_data")) == 1
    assert waiting(folder) == 0


async def test_without_a_spool_the_report_says_that_they_are_lost(peer: Peer) -> None:
    bot = bot_at(peer)
    reported: list[Superseded] = []
    bot.superseded(reported.append)
    peer.script("push_data", SupersededError())

    @bot.work
    async def watch(job: Job) -> None:
        job.push("too late")
        await job.stopping.wait()

    async with serving(bot):
        await eventually(lambda: reported)
    assert reported == [Superseded(PROFILE, 1001, 1, None)]


async def test_what_rota_refuses_is_set_aside_and_the_rest_goes_on(
    peer: Peer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peer.script("push_data", InvalidRequestError("records.0.data: cannot be stored"))
    bot = bot_at(peer, spool=folder)
    flushed: list[bool] = []

    @bot.work
    async def watch(job: Job) -> None:
        job.push("bad")
        flushed.append(await job.flush())
        job.push("good")
        flushed.append(await job.flush())
        await job.stopping.wait()

    async with serving(bot):
        await eventually(lambda: len(flushed) >= 2)
    assert flushed == [False, True]
    assert peer.data == ["good"]
    (path,) = files_beside(folder)
    assert json.loads(path.read_text())["records"][0]["data"] == "bad"
    assert str(path) in caplog.text


# ---- pushing


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
async def test_push_waits_while_the_spool_is_full_and_flush_until_all_is_committed(
    peer: Peer, folder: Path, monkeypatch: pytest.MonkeyPatch, *, plain: bool
) -> None:
    monkeypatch.setattr(disk, "MOST_RECORDS", 10)
    away = threading.Event()

    def hold(call: Call) -> Any:
        return peer._push_data(call) if away.is_set() else AWAY

    peer.script("push_data", *[hold] * 10_000)
    bot = bot_at(peer, spool=folder)
    pushed: list[int] = []
    flushed: list[bool] = []

    async def watch(job: Job) -> None:
        for number in range(30):
            assert await job.push(number)
            pushed.append(number)
            if number == 5:
                flushed.append(await job.flush(0.05))
        flushed.append(await job.flush())
        await job.stopping.wait()

    def watch_plainly(job: Job) -> None:
        for number in range(30):
            assert job.push(number)
            pushed.append(number)
            if number == 5:
                flushed.append(bool(job.flush(0.05)))
        flushed.append(bool(job.flush()))
        job.stopping.wait()

    bot.work(watch_plainly if plain else watch)
    async with serving(bot):
        await eventually(lambda: len(peer.said("push_data")) >= 3 and len(pushed) >= 9)
        assert flushed == [False]
        away.set()
        await eventually(lambda: len(flushed) >= 2)
    assert flushed == [False, True]
    assert peer.data == list(range(30))


async def test_a_push_that_nobody_awaits_is_kept_and_its_hard_bound_is_an_error(
    peer: Peer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "MOST_RECORDS", 10)
    peer.script("push_data", *[AWAY] * 10_000)
    bot = bot_at(peer, spool=folder)
    caught: list[str] = []

    @bot.work
    async def watch(job: Job) -> None:
        try:
            for number in range(1000):
                job.push(number)
                await asyncio.sleep(0)
        except BufferError as error:
            caught.append(str(error))
        await job.stopping.wait()

    async with serving(bot):
        await eventually(lambda: caught)
        peer._scripts["push_data"].clear()
        await eventually(lambda: len(peer.data) >= 20)
    assert "await job.push" in caught[0]
    assert peer.data == list(range(len(peer.data)))


async def test_a_full_disk_is_an_error_of_push_and_what_was_taken_is_not_lost(
    peer: Peer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bot = bot_at(peer, spool=folder)
    caught: list[str] = []

    async def limit(pages: str) -> None:
        assert bot._duty
        place = bot._duty._outboxes._place
        assert isinstance(place, disk.Disk)
        await place.ask(lambda spool: spool._db.execute(f"PRAGMA max_page_count = {pages}").fetchone())

    @bot.work
    async def watch(job: Job) -> None:
        await job.push("before")
        await job.flush()
        await limit("1")
        job.push(["nobody waits", "x" * 100_000])
        try:
            await job.push(["not taken", "x" * 100_000])
        except SpoolError as error:
            caught.append(str(error))
        await limit("1000000")
        assert await job.push("after")
        await job.stopping.wait()

    async with serving(bot):
        await eventually(lambda: len(peer.data) >= 3)
    assert "the disk is full: make room" in caught[0]
    assert [data[0] if isinstance(data, list) else data for data in peer.data] == ["before", "nobody waits", "after"]
    assert [record.levelname for record in caplog.records if record.message.startswith("the spool")] == [
        "ERROR",
        "INFO",
    ]
    assert "can be written again" in caplog.text


# ---- the slot


async def test_two_bots_cannot_have_one_spool(
    peer: Peer, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(disk, "HELD_SECONDS", 0.2)
    bot, other, neighbour = (bot_at(peer, spool=folder, instance=slot) for slot in ("3", "3", "4"))
    for each in (bot, other, neighbour):
        each.work(print)
    async with serving(bot):
        await eventually(lambda: peer.said("heartbeat"))
        with pytest.raises(SpoolError, match="in use"):
            await other.serve()
        assert len(peer.said("auth")) == 1, "it must not take the slot"
        async with serving(neighbour):
            await eventually(lambda: len(peer.said("auth")) >= 2)
    assert "waiting for it" in caplog.text


async def test_a_process_waits_for_its_predecessor_to_let_the_spool_go(
    peer: Peer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bot, following = bot_at(peer, spool=folder), bot_at(peer, spool=folder)
    for each in (bot, following):
        each.work(print)
    async with serving(bot) as first:
        await eventually(lambda: peer.said("heartbeat"))
        async with serving(following):
            await eventually(lambda: "waiting for it" in caplog.text)
            bot.stop()
            await asyncio.wait_for(first, 10)
            await eventually(lambda: len(peer.said("auth")) >= 2)


async def test_a_broken_spool_ends_the_bot_with_a_message(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"something else" * 1000)
    bot = bot_at(peer, spool=tmp_path)
    bot.work(print)
    with pytest.raises(SpoolError, match="move it"):
        await bot.serve()
    assert not peer.calls


@pytest.mark.parametrize(
    ("options", "message"),
    [({"instance": None}, "ROTA_INSTANCE"), ({"spool_bytes": 1000}, "spool_bytes")],
)
def test_a_spool_that_cannot_be_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.delenv("ROTA_INSTANCE", raising=False)
    described: dict[str, Any] = {"hostname": "bot-farm-1", "instance": "3", "spool": folder} | options
    with pytest.raises(SettingsError, match=message):
        Bot("http://127.0.0.1:7682", KEY, **described)


async def test_the_environment_names_the_folder_of_the_spools(
    peer: Peer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROTA_SPOOL", str(folder))
    bot = bot_at(peer)
    bot.work(print)
    async with serving(bot):
        await eventually((folder / FILE).exists)
