"""Pushed data: committed before the answer, once, never under an old epoch, and named where it is poison."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rota import storable
from rota.errors import UnavailableError
from rota.ledger.connection import Ledger, Transaction
from tests.conformance.fleet import Fleet
from tests.conformance.site import Json

TOO_DEEP = "[" * 100_000 + "]" * 100_000


def raw(record: str) -> str:
    """A batch whose second record is this text."""
    return '{"batch": 1,\n "records": [{"data": "ä"},\n {"kind": "m", "data": ' + record + '}, {"data": 3}]}'


POISON = [
    (r'"\u0000"', "records.1.data"),
    (r'{"a": [1, {"b\u0000": 1}]}', "records.1.data.a.1.(name)"),
    (r'{"a": "x\u0000y"}', "records.1.data.a"),
    (r'"\ud800"', "records.1.data"),
    (r'{"a": ["x", "\ud800y"]}', "records.1.data.a.1"),
    (r'{"\udc00": 1}', "records.1.data.(name)"),
    (r'{"b\n\ud800": "\u0000"}', "records.1.data.(name)"),
    ("1e400", "records.1.data"),
    ("-1e400", "records.1.data"),
    ("NaN", "records.1.data"),
    ("[Infinity]", "records.1.data.0"),
    ("9" * 4301, "records.1.data"),
    ("[-" + "9" * 5000 + "]", "records.1.data.0"),
    (TOO_DEEP, "records.1"),
    ('{"a":' * 198 + "1" + "}" * 198, "records.1.data.a"),
    ('{"' + "a" * 500 + r'": "\u0000"}', "records.1.data." + "a" * (storable.MAX_PLACE - 15) + "…"),
]


async def test_a_poisonous_record_is_named_and_the_others_can_be_sent_again(bots: Fleet) -> None:
    working = await bots.work()
    for data, field in POISON:
        answer = await bots.call("1", "push_data", content=raw(data).encode())
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
        assert [wrong["field"] for wrong in answer.json()["errors"]] == [field], data[:20]
        assert "line 1" not in answer.json()["detail"]
    assert await bots.records(working["profile"]) == []
    assert (await bots.push("1", [{"data": "ä"}, {"data": 3}])).json() == {"accepted": 2, "duplicate": False}


@pytest.mark.parametrize("poison", ['["\\u0000", "\\u0000"]', '"\\ud800"'], ids=["found by us", "found by the parser"])
async def test_all_poisonous_records_are_named_at_one_place_each_up_to_a_hundred(bots: Fleet, poison: str) -> None:
    await bots.work()
    for wanted in ({3, 7, 999}, set(range(0, 1000, 2))):
        records = ",".join(f'{{"data": {poison if at in wanted else 1}}}' for at in range(1000))
        answer = await bots.call("1", "push_data", content=f'{{"batch": 1, "records": [{records}]}}'.encode())
        assert answer.status_code == 422
        named = [int(wrong["field"].split(".")[1]) for wrong in answer.json()["errors"]]
        assert named == sorted(wanted)[:100]


async def test_a_half_of_a_surrogate_pair_is_refused_in_plain_words(bots: Fleet) -> None:
    await bots.work()
    answer = await bots.call("1", "push_data", content=raw(r'{"name": "x\ud800"}').encode())
    assert answer.json()["detail"] == (
        "records.1.data.name: holds half of a surrogate pair, which is no character and cannot be stored"
    )


async def test_unusual_values_are_kept_as_they_are(bots: Fleet) -> None:
    numbers = [2**63, -(2**63), 2**64, 10**400, -0.0, 0.1, 5e-324]
    others: list[Any] = ["", "\u2028", "\\u0000", "ü🚀", [[[[]]]], {"": {}}, None, True]
    working = await bots.work()
    assert (await bots.push("1", [{"data": value} for value in [*numbers, *others, 1.5e300]])).status_code == 200
    *found, large = [item["data"] for item in await bots.records(working["profile"])]
    assert found == [*numbers, *others]
    assert float(large) == 1.5e300


async def test_what_lies_just_within_the_limits_is_kept(bots: Fleet) -> None:
    working = await bots.work()
    deep = "[" * storable.MAX_DEPTH + "]" * storable.MAX_DEPTH
    long = "9" * storable.MAX_DIGITS
    for batch, data in enumerate((deep, '{"a":' * 197 + "1" + "}" * 197, long, "-" + long)):
        content = raw(data).replace('"batch": 1', f'"batch": {batch}').encode()
        assert (await bots.call("1", "push_data", content=content)).json()["accepted"] == 3
    found = await bots.records(working["profile"])
    assert found[1]["data"] == json.loads(deep)
    assert [found[at]["data"] for at in (7, 10)] == [int(long), -int(long)]


async def test_fractions_are_kept_as_doubles(bots: Fleet) -> None:
    """As `docs/protocol.md` says among its limits."""
    working = await bots.work()
    sent = ["1e-400", "-0.0", "0.1000000000000000055511151231257827", "1E2", "12345678901234567890.5"]
    records = ",".join(f'{{"data": {text}}}' for text in sent)
    answer = await bots.call("1", "push_data", content=f'{{"batch": 1, "records": [{records}]}}'.encode())
    assert answer.status_code == 200
    found = [item["data"] for item in await bots.records(working["profile"])]
    assert repr(found[:3]) == "[0.0, 0.0, 0.1]"
    assert [float(number) for number in found[3:]] == [100.0, 12345678901234567890.5]


async def test_data_under_a_grant_that_the_live_store_forgot_is_taken_from_the_bot_that_had_it(bots: Fleet) -> None:
    working = await bots.work("1")
    await bots.site.record()
    await bots.auth("2")
    await bots.site.lose_live_state()
    for bot in ("1", "2"):
        await bots.auth(bot)
    named = {"profile": working["profile"], "epoch": working["epoch"]}
    assert (await bots.push("2", [{"data": "of another"}], **named)).json()["code"] == "superseded"
    assert (await bots.push("1", [{"data": "kept"}], **named)).json() == {"accepted": 1, "duplicate": False}
    newer = named | {"epoch": working["epoch"] + 1}
    refused = await bots.push("1", [{"data": "odd"}], **newer)
    assert (refused.status_code, "never granted" in refused.text) == (422, True)
    assert [record["data"] for record in await bots.records(working["profile"])] == ["kept"]


async def test_data_under_a_grant_that_history_never_heard_of_is_taken(bots: Fleet) -> None:
    working = await bots.work("1")
    await bots.site.lose_live_state()
    await bots.auth("1")
    named = {"profile": working["profile"], "epoch": working["epoch"]}
    assert (await bots.push("1", [{"data": 1}], **named)).status_code == 200
    await bots.site.rest.delete(f"/api/v1/profiles/{working['profile']}")
    assert (await bots.push("1", [{"data": 2}], batch=2, **named)).json()["code"] == "superseded"


async def test_broken_json_is_not_blamed_on_a_record(bots: Fleet) -> None:
    await bots.work()
    for content in (raw("nope"), raw('"open'), raw("1")[:-1], raw("1") + "x"):
        answer = await bots.call("1", "push_data", content=content.encode())
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
        assert "errors" not in answer.json()


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_east")
async def test_a_time_without_a_zone_is_utc_wherever_rota_runs(bots: Fleet) -> None:
    working = await bots.work()
    times = ["2026-11-23T10:00:00", "2026-11-23T10:00:00Z", "2026-11-23T11:00:00+01:00", "2026-11-23 10:00:00.000"]
    assert (await bots.push("1", [{"at": at} for at in times])).status_code == 200
    assert {item["at"] for item in await bots.records(working["profile"])} == {"2026-11-23T10:00:00Z"}


async def test_a_time_that_is_none_is_named(bots: Fleet) -> None:
    await bots.work()
    too_early, too_late = "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"
    moments: list[Any] = ["yesterday", "", too_early, too_late, 1e300, True, [], "2026-02-30"]
    for at in moments:
        answer = await bots.push("1", [{"data": 1}, {"at": at}])
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"][0]["field"] == "records.1.at"


async def test_records_are_committed_before_the_answer(bots: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that gets lost changes nothing; a commit that fails is never answered by 200."""
    working = await bots.work()
    begin = Ledger.begin

    @asynccontextmanager
    async def commit_fails(self: Ledger) -> AsyncIterator[Transaction]:
        async with begin(self) as tx:
            yield tx
            raise UnavailableError

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "begin", commit_fails)
        answer = await bots.push("1", [{"data": 1}])
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert await bots.records(working["profile"]) == []

    seen: list[int] = []

    @asynccontextmanager
    async def looked_at_after(self: Ledger) -> AsyncIterator[Transaction]:
        async with begin(self) as tx:
            yield tx
        seen.append(1)

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "begin", looked_at_after)
        token = bots.tokens["1"]
        messages = [{"type": "http.request", "body": b'{"batch": 1, "records": [{"data": 1}]}'}]
        scope = {
            "type": "http",
            "path": "/bot/push_data",
            "method": "POST",
            "headers": [(b"authorization", f"Bearer {token}".encode())],
        }

        async def receive() -> Json:
            return messages.pop(0)

        async def send(message: Any) -> None:
            assert seen, "the answer came before the commit"
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await bots.site.app(scope, receive, send)
    assert [item["data"] for item in await bots.records(working["profile"])] == [1]
    assert (await bots.push("1", [{"data": 1}])).json() == {"accepted": 0, "duplicate": True}


async def test_the_same_batch_sent_ten_times_at_once_has_one_effect(bots: Fleet) -> None:
    working = await bots.work()
    answers = await asyncio.gather(*(bots.push("1", [{"data": n} for n in range(5)]) for _ in range(10)))
    assert sorted(answer.json()["accepted"] for answer in answers) == [0] * 9 + [5]
    assert sum(answer.json()["duplicate"] for answer in answers) == 9
    assert [item["position"] for item in await bots.records(working["profile"])] == list(range(5))


async def test_batches_of_two_epochs_with_the_same_number_are_both_kept(bots: Fleet) -> None:
    first = await bots.work()
    assert (await bots.push("1", [{"data": "one"}], batch=7)).status_code == 200
    await bots.call("1", "leave", json={})
    await bots.auth("2")
    second = (await bots.beat("2"))["assignment"]
    assert (await bots.push("2", [{"data": "two"}], batch=7)).json() == {"accepted": 1, "duplicate": False}
    found = await bots.records(first["profile"])
    assert [(item["epoch"], item["data"]) for item in found] == [(first["epoch"], "one"), (second["epoch"], "two")]


async def test_no_old_data_gets_in_while_the_next_owner_is_being_told(bots: Fleet) -> None:
    """Pushes of the old owner race with the grant to the new one: none is accepted after the grant was answered."""
    first = await bots.work()
    await bots.auth("2")
    named = {"profile": first["profile"], "epoch": first["epoch"]}
    await bots.call("1", "leave", json={})
    await bots.auth("1")
    pushes = (bots.push("1", [{"data": n}], batch=n, **named) for n in range(10))
    told, answers = await asyncio.gather(bots.beat("2"), asyncio.gather(*pushes))
    assert told["instruction"] == "start"
    taken = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    assert {item["batch"] for item in await bots.records(first["profile"])} == set(taken)
    late = await bots.push("1", [{"data": 99}], batch=99, **named)
    assert (late.status_code, late.json()["code"]) == (409, "superseded")


async def test_a_killed_bots_epoch_is_used_up(bots: Fleet) -> None:
    first = await bots.work()
    await bots.site.rest.post("/api/v1/bots/farm-1/1/kill")
    await bots.auth("1")
    answer = await bots.push("1", [{"data": 1}], profile=first["profile"], epoch=first["epoch"])
    assert (answer.status_code, answer.json()["code"]) == (409, "superseded")


async def test_a_bot_pushes_for_nobody_elses_profile(bots: Fleet) -> None:
    mine, other = await bots.work("1", "mine"), await bots.work("2", "other")
    for named in (other, {"profile": other["profile"]}, {**other, "epoch": other["epoch"] - 1}):
        answer = await bots.push("1", [{"data": 1}], **{key: named[key] for key in named if key != "revision"})
        assert (answer.status_code, answer.json()["code"]) == (409, "superseded")
    answer = await bots.push("1", [{"data": 1}], epoch=mine["epoch"] + 10**6)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert await bots.records(other["profile"]) == []


async def test_a_thousand_records_are_kept_in_their_order(bots: Fleet) -> None:
    working = await bots.work()
    assert (await bots.push("1", [{"data": n} for n in range(1000)])).json()["accepted"] == 1000
    found: list[int] = []
    after: dict[str, str] = {}
    while True:
        page = await bots.site.shown(f"profiles/{working['profile']}/records", limit=500, **after)
        found += [item["data"] for item in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == list(range(1000))


async def test_data_of_a_deleted_profile_is_flushed_by_its_last_bot(bots: Fleet) -> None:
    working = await bots.work()
    await bots.site.rest.delete(f"/api/v1/profiles/{working['profile']}")
    answer = await bots.push("1", [{"data": 1}], profile=working["profile"], epoch=working["epoch"])
    assert answer.json() == {"accepted": 1, "duplicate": False}
