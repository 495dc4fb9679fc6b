"""Pushes that arrive together are committed together, answered one by one, bounded, and never lost with a full disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text

from rota import storable
from rota.errors import UnavailableError
from rota.ledger import partitions, pushes
from rota.ledger.connection import Ledger, Transaction
from rota.live.scripts import Live
from rota.web import push, sightings
from tests.conformance.fleet import Fleet
from tests.conformance.site import Json


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many commits and script calls there were."""
    count = {"commits": 0, "resolve": 0}
    take, call = pushes.take, Live.call

    async def counted_take(tx: Transaction, batches: Any) -> Any:
        count["commits"] += 1
        return await take(tx, batches)

    async def counted_call(self: Live, verb: str, *arguments: Any) -> Any:
        count["resolve"] += verb == "resolve"
        return await call(self, verb, *arguments)

    monkeypatch.setattr(pushes, "take", counted_take)
    monkeypatch.setattr(Live, "call", counted_call)
    return count


async def crowd(bots: Fleet, number: int) -> list[Json]:
    return [await bots.work(str(at), f"p{at}") for at in range(number)]


async def test_pushes_of_one_moment_share_their_commits_and_their_looks_at_live_state(
    bots: Fleet, counted: dict[str, int]
) -> None:
    await crowd(bots, 12)
    sent = [bots.push(str(at), [{"data": n}], batch=n) for at in range(12) for n in range(10)]
    answers = await asyncio.gather(*sent)
    assert {answer.text for answer in answers} == {'{"accepted":1,"duplicate":false}'}
    assert counted["commits"] <= 60
    assert counted["resolve"] <= 60


async def test_what_is_wrong_with_one_touches_none_of_the_others(
    bots: Fleet, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Poison that nobody has seen coming, a token that is gone, an old epoch, a repeated batch: all in one group."""
    monkeypatch.setattr(storable, "is_suspect", lambda _text: False)
    working = await crowd(bots, 5)
    await bots.push("4", [{"data": 0}], batch=1)
    bots.tokens["1"] = bots.tokens["1"][:-1] + ("x" if bots.tokens["1"][-1] != "x" else "y")
    sent = (
        bots.push("0", [{"data": "good"}, {"data": 2}]),
        bots.push("1", [{"data": 1}]),
        bots.push("2", [{"data": 1}], profile=working[2]["profile"], epoch=working[2]["epoch"] - 1),
        bots.push("3", [{"data": 1}, {"data": "\x00"}]),
        bots.push("4", [{"data": 0}], batch=1),
        bots.push("0", [{"data": 3}], batch=2),
    )
    good, unknown, old, poison, again, other = await asyncio.gather(*sent)
    assert good.json() == {"accepted": 2, "duplicate": False}
    assert other.json() == {"accepted": 1, "duplicate": False}
    assert again.json() == {"accepted": 0, "duplicate": True}
    assert (unknown.status_code, unknown.json()["code"]) == (401, "unknown_bot")
    assert (old.status_code, old.json()["code"]) == (409, "superseded")
    assert (poison.status_code, poison.json()["errors"][0]["field"]) == (422, "records.1")
    assert await bots.records(working[3]["profile"]) == []
    assert len(await bots.records(working[0]["profile"])) == 3


async def test_after_a_commit_of_which_nothing_is_known_all_are_told_to_come_back_and_stored_once(
    bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = await crowd(bots, 4)
    begin = Ledger.begin

    @asynccontextmanager
    async def answer_gets_lost(self: Ledger) -> AsyncIterator[Transaction]:
        async with begin(self) as tx:
            yield tx
        raise UnavailableError

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "begin", answer_gets_lost)
        answers = await asyncio.gather(*(bots.push(str(at), [{"data": at}]) for at in range(4)))
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "unavailable")}
    assert all("retry-after" in answer.headers for answer in answers)
    again = await asyncio.gather(*(bots.push(str(at), [{"data": at}]) for at in range(4)))
    assert {answer.status_code for answer in again} == {200}
    assert [len(await bots.records(one["profile"])) for one in working] == [1] * 4


@pytest.mark.parametrize(("bound", "most"), [("MOST_RECORDS", 25), ("MOST_BYTES", 20_000)])
async def test_above_the_bounds_bots_are_told_to_come_back(
    bots: Fleet, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(push, bound, most)
    working = await crowd(bots, 8)
    records = [{"data": "x" * 300}] * 10
    answers = await asyncio.gather(*(bots.push(str(at), records) for at in range(8)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(503, "unavailable")}
    assert {answer.headers["retry-after"] for answer in refused} == {"2"}
    assert refused != answers
    for at, answer in enumerate(answers):
        assert len(await bots.records(working[at]["profile"])) == (10 if answer.status_code == 200 else 0)
    waiting = bots.site.state.pushes
    assert (waiting._records, waiting._bytes) == (0, 0)
    for at, answer in enumerate(answers):
        if answer.status_code != 200:
            assert (await bots.push(str(at), records)).status_code == 200


async def test_a_body_that_takes_too_long_to_arrive_holds_no_room(bots: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "BODY_WITHIN", 0.05)
    await bots.work()
    first = [{"type": "http.request", "body": b"{" * 1000, "more_body": True}]

    async def receive() -> Json:
        return first.pop() if first else await asyncio.get_running_loop().create_future()

    waiting = bots.site.state.pushes
    with pytest.raises(UnavailableError, match="too long"):
        await waiting._read(receive)
    assert waiting._bytes == 0


async def test_a_missing_partition_is_made_at_once_and_is_an_incident(bots: Fleet) -> None:
    working = await bots.work()
    async with bots.site.state.ledger.begin() as tx:
        for one in await partitions.all_of(tx):
            await partitions.drop(tx, one.name)
    assert (await bots.push("1", [{"data": 1}])).json() == {"accepted": 1, "duplicate": False}
    assert len(await bots.records(working["profile"])) == 1
    (incident,) = (await bots.site.shown("fleets/default/incidents", open=True))["items"]
    assert (incident["kind"], incident["subject"]) == ("missing_partition", "ledger")


async def test_a_detached_partition_of_today_is_left_to_its_owner_and_another_takes_its_place(bots: Fleet) -> None:
    working = await bots.work()
    assert (await bots.push("1", [{"data": 1}], batch=1)).status_code == 200
    ledger = bots.site.state.ledger
    for taken in (2, 3):
        async with ledger.begin() as tx:
            (now,) = (await tx.execute(text("SELECT now()"))).one()
            there = [one for one in await partitions.all_of(tx) if one.end is not None and one.end > now]
            for one in there:
                await tx.execute(text(f"ALTER TABLE records DETACH PARTITION {one.name}"))
                if one.name == "records_first":
                    await tx.execute(text(f"CREATE TABLE records_{now:%Y%m%d} ()"))
        answer = await bots.push("1", [{"data": taken}], batch=taken)
        assert answer.json() == {"accepted": 1, "duplicate": False}
        async with ledger.begin() as tx:
            assert f"records_{now:%Y%m%d}_{taken}" in {one.name for one in await partitions.all_of(tx)}
            assert await partitions.ensure(tx) == [], "the steward has nothing left to do"
    assert len(await bots.records(working["profile"])) == 1
    (incident,) = (await bots.site.shown("fleets/default/incidents", open=True))["items"]
    assert incident["kind"] == "missing_partition"


TRIGGER = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$
"""


FULL = (
    TRIGGER,
    "CREATE TRIGGER full_disk BEFORE INSERT ON records FOR EACH ROW EXECUTE FUNCTION refuse()",
)
"""Has PostgreSQL say what it says when its disk is full."""


async def test_with_a_full_disk_nothing_is_lost_and_it_is_an_incident(bots: Fleet) -> None:
    working = await bots.work()
    async with bots.site.state.ledger.begin() as tx:
        for statement in FULL:
            await tx.execute(text(statement))
    for _ in range(2):
        answer = await bots.push("1", [{"data": 1}])
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "disk is full" in answer.json()["detail"]
        assert answer.headers["retry-after"] == "10"
    async with bots.site.state.ledger.begin() as tx:
        await tx.execute(text("DROP FUNCTION refuse CASCADE"))
    (incident,) = (await bots.site.shown("fleets/default/incidents", open=True))["items"]
    assert (incident["kind"], incident["subject"]) == ("disk_full", "ledger")
    assert (await bots.push("1", [{"data": 1}])).json() == {"accepted": 1, "duplicate": False}
    assert len(await bots.records(working["profile"])) == 1


async def test_an_incident_that_a_full_disk_swallows_is_raised_when_there_is_room(
    bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "TELL_AGAIN", 0.05)
    await bots.work()
    on_incidents = FULL[1].replace("full_disk", "fuller_disk").replace(" ON records ", " ON incidents ")
    async with bots.site.state.ledger.begin() as tx:
        for statement in (*FULL, on_incidents):
            await tx.execute(text(statement))
    for _ in range(2):
        assert (await bots.push("1", [{"data": 1}])).status_code == 503
    assert (await bots.site.shown("fleets/default/incidents"))["items"] == []
    async with bots.site.state.ledger.begin() as tx:
        await tx.execute(text("DROP FUNCTION refuse CASCADE"))
    async with asyncio.timeout(10):
        while True:
            if found := (await bots.site.shown("fleets/default/incidents", open=True))["items"]:
                break
            await asyncio.sleep(0.02)
    assert [one["kind"] for one in found] == ["disk_full"]
    assert found[0]["detail"]["met_at"] <= found[0]["raised_at"]
