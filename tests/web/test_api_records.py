"""Records over REST: who may read what, which are found, counted, taken away as a file, and followed."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest

from rota.errors import UnavailableError
from rota.ledger import records
from rota.ledger.search import Position, Scope
from rota.ledger.sieve import Sieve
from rota.web import exports, follow, readers, stream
from rota.web.rows import COLUMNS
from tests.conformance.fleet import Fleet
from tests.conformance.site import Json, Site

WITHIN = 15.0
HOUR = timedelta(hours=1)


async def pushed(bots: Fleet, *data: Any, name: str = "acme", bot: str = "1", **fields: Any) -> str:
    """A profile for which a bot has pushed these; its id."""
    working = await bots.work(bot, name)
    await push(bots, working["profile"], *data, bot=bot, **fields)
    return str(working["profile"])


async def push(bots: Fleet, _: str, *data: Any, bot: str = "1", batch: int = 1, kind: str = "check") -> None:
    answer = await bots.push(bot, [{"kind": kind, "data": item} for item in data], batch)
    assert answer.status_code == 200, answer.text


async def listed(site: Site, path: str, **query: Any) -> list[Any]:
    """The data of all pages."""
    found: list[Any] = []
    while True:
        page = await site.shown(path, **query)
        found += [item["data"] for item in page["items"]]
        if page["next"] is None:
            return found
        query["after"] = page["next"]


def refused(answer: Any, field: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert [wrong["field"] for wrong in answer.json()["errors"]] == [field]
    return str(answer.json()["detail"])


async def test_records_are_listed_both_ways_and_page_by_page(bots: Fleet) -> None:
    profile = await pushed(bots, *range(7))
    path = f"profiles/{profile}/records"
    assert await listed(bots.site, path, limit=3) == list(range(7))
    assert await listed(bots.site, path, limit=3, order="newest") == list(range(7))[::-1]
    (item,) = (await bots.site.shown(path, limit=1))["items"]
    assert set(item) == {"id", "profile", "epoch", "batch", "position", "bot", "kind", "at", "received_at", "data"}
    assert (item["profile"], item["bot"], item["batch"], item["kind"]) == (profile, "farm-1/1", 1, "check")
    assert item["at"] == item["received_at"]


async def test_numbers_come_back_as_they_were_pushed(bots: Fleet) -> None:
    text = '{"batch": 1, "records": [{"data": 12345678901234567890.5}, {"data": 1e30}, {"data": "\\u2028\\"=1"}]}'
    await bots.work()
    answer = await bots.call("1", "push_data", content=text)
    assert answer.status_code == 200, answer.text
    found = (await bots.site.rest.get("/api/v1/profiles", params={"limit": 1})).json()["items"][0]["id"]
    raw = (await bots.site.rest.get(f"/api/v1/profiles/{found}/records")).text
    assert json.loads(raw)["items"][2]["data"] == '\u2028"=1'


async def test_records_are_found_by_kind_bot_epoch_time_and_path(bots: Fleet) -> None:
    profile = await pushed(bots, {"price": 5}, {"price": 50})
    await push(bots, profile, {"price": 500}, "text", batch=2, kind="note")
    path, site = f"profiles/{profile}/records", bots.site
    items = (await site.shown(path))["items"]
    begun, now = datetime.fromisoformat(items[0]["received_at"]), datetime.now(UTC)
    assert await listed(site, path, kind="note") == [{"price": 500}, "text"]
    assert await listed(site, path, bot="farm-1/1", epoch=items[0]["epoch"], limit=1) == [i["data"] for i in items]
    assert await listed(site, path, bot="farm-1/2") == []
    assert await listed(site, path, where="$.price > 10") == [{"price": 50}, {"price": 500}]
    assert await listed(site, path, where="$.price ? (@ > 10)", kind="check") == [{"price": 50}]
    assert len(await listed(site, path, **{"from": begun.isoformat(), "to": (now + HOUR).isoformat()})) == 4
    assert await listed(site, path, to=begun.isoformat()) == []
    assert await listed(site, path, at_to=(begun - HOUR).isoformat()) == []
    assert len(await listed(site, path, at_from=(begun - HOUR).isoformat())) == 4


async def test_a_bad_path_is_refused_with_its_place(bots: Fleet) -> None:
    profile = await pushed(bots, 1)
    for call in ("", "/count", "/rate", "/export", "/live"):
        answer = await bots.site.rest.get(f"/api/v1/profiles/{profile}/records{call}", params={"where": "$.a >> 1"})
        assert "character 6" in refused(answer, "where"), call


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"after": "12"}, "after"),
        ({"after": "x"}, "after"),
        ({"order": "random"}, "order"),
        ({"epoch": 0}, "epoch"),
        ({"from": "yesterday"}, "from"),
        ({"limit": 0}, "limit"),
        ({"kind": "\x00"}, "kind"),
    ],
)
async def test_a_wrong_query_is_refused_and_named(bots: Fleet, query: dict[str, Any], field: str) -> None:
    profile = await bots.profile()
    answer = await bots.site.rest.get(f"/api/v1/profiles/{profile}/records", params=query)
    refused(answer, field)


async def test_the_ends_of_the_calendar_are_moments_like_others(bots: Fleet) -> None:
    profile = await pushed(bots, 1)
    path = f"profiles/{profile}/records"
    assert await listed(bots.site, path, **{"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}) == [1]
    assert await listed(bots.site, path, after="0-99999999999999") == []
    assert await listed(bots.site, path, after="999999999999999999-0", order="newest", kind="check") == [1]


async def test_a_client_sees_the_records_of_its_own_account_alone(bots: Fleet) -> None:
    site = bots.site
    mine, other = await site.account("mine"), await site.account("other")
    own = (await site.made("profiles", name="own", account=mine))["id"]
    foreign = (await site.made("profiles", name="foreign", account=other))["id"]
    async with site.client_of(mine) as client:
        for call in ("", "/count", "/rate", "/export"):
            assert (await client.get(f"/api/v1/profiles/{own}/records{call}")).status_code == 200
            assert (await client.get(f"/api/v1/accounts/{mine}/records{call}")).status_code == 200
            for path in (f"profiles/{foreign}", f"accounts/{other}", "profiles/prf_none", "accounts/acc_none"):
                answer = await client.get(f"/api/v1/{path}/records{call}")
                assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert (await client.get(f"/api/v1/profiles/{foreign}/records/live")).status_code == 404
    assert (await site.anybody.get(f"/api/v1/profiles/{own}/records")).status_code == 401
    assert (await site.rest.get("/api/v1/accounts/acc_none/records")).status_code == 404


async def test_the_records_of_an_account_are_those_of_its_profiles_in_the_order_of_arrival(bots: Fleet) -> None:
    first = await pushed(bots, 1, 2, name="a", bot="1")
    second = await pushed(bots, 3, name="b", bot="2")
    await push(bots, first, 4, bot="1", batch=2)
    account = (await bots.site.shown(f"profiles/{first}"))["account"]
    path = f"accounts/{account}/records"
    assert await listed(bots.site, path, limit=2) == [1, 2, 3, 4]
    assert await listed(bots.site, path, limit=3, order="newest") == [4, 3, 2, 1]
    assert (await bots.site.shown(f"{path}/count"))["count"] == 4
    answer = await bots.site.rest.get(f"/api/v1/{path}/export")
    exported = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["data"] for row in exported] == ([1, 2, 4, 3] if first < second else [3, 1, 2, 4])
    half = {"after_profile": exported[1]["profile"], "after_id": exported[1]["id"]}
    rest = await bots.site.rest.get(f"/api/v1/{path}/export", params=half)
    assert [json.loads(line) for line in rest.text.splitlines()] == exported[2:]


async def test_records_are_counted_and_their_rate_is_told(bots: Fleet) -> None:
    profile = await pushed(bots, *range(10))
    path = f"profiles/{profile}/records"
    assert await bots.site.shown(f"{path}/count") == {"count": 10, "next": None}
    assert (await bots.site.shown(f"{path}/count", where="$ >= 7"))["count"] == 3
    told = await bots.site.shown(f"{path}/rate", minutes=4)
    assert told == {"minutes": 4, "count": 10, "per_minute": 2.5, "complete": True}
    assert (await bots.site.shown(f"{path}/rate", where="$ < 0"))["count"] == 0


DATA = [{"a": 1}, "=1+1", 'quote " and , comma\nand line', None, -5, [1.5, True], "ö\u2028"]


async def test_an_export_holds_every_record_in_each_format(bots: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "ROWS", 2)
    monkeypatch.setattr(exports, "GROUP_ROWS", 3)
    profile = await pushed(bots, *DATA, name='Größe "1"/x')
    path = f"/api/v1/profiles/{profile}/records"
    items = (await bots.site.rest.get(path)).json()["items"]
    answer = await bots.site.rest.get(f"{path}/export")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line) for line in answer.text.split("\n")[:-1]] == items
    found = re.fullmatch(
        r"attachment; filename=\"([\w.-]+)\"; filename\*=UTF-8''(\S+)", answer.headers["content-disposition"]
    )
    assert found is not None
    assert found[1].endswith(".ndjson")
    assert found[2].startswith("Gr%C3%B6%C3%9Fe%20%221%22%2Fx-records-")

    answer = await bots.site.rest.get(f"{path}/export", params={"format": "csv"})
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [{**row, "data": json.loads(row["data"])} for row in rows] == [
        {name: value if name == "data" else str(value) for name, value in item.items()} for item in items
    ]
    assert not re.search(r"(^|,)\"?[=+@\t]", answer.text, re.MULTILINE)

    answer = await bots.site.rest.get(f"{path}/export", params={"format": "parquet"})
    file = pq.ParquetFile(io.BytesIO(answer.content))
    assert file.metadata.num_row_groups == 2
    table = file.read().to_pylist()
    assert [json.loads(row["data"]) for row in table] == DATA
    assert [row["id"] for row in table] == [item["id"] for item in items]
    assert [row["received_at"] for row in table] == [datetime.fromisoformat(item["received_at"]) for item in items]


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
async def test_an_export_of_nothing_is_a_whole_file(bots: Fleet, form: str) -> None:
    profile = await bots.profile()
    answer = await bots.site.rest.get(f"/api/v1/profiles/{profile}/records/export", params={"format": form})
    assert answer.status_code == 200
    if form == "parquet":
        assert pq.read_table(io.BytesIO(answer.content)).num_rows == 0
    else:
        assert answer.text == {"ndjson": "", "csv": f"{','.join(COLUMNS)}\r\n"}[form]


async def test_an_export_can_be_taken_up_behind_a_record(bots: Fleet) -> None:
    profile = await pushed(bots, *range(5))
    path = f"/api/v1/profiles/{profile}/records"
    third = (await bots.site.rest.get(path)).json()["items"][2]["id"]
    answer = await bots.site.rest.get(f"{path}/export", params={"after_id": third, "where": "$ != 3"})
    assert [json.loads(line)["data"] for line in answer.text.splitlines()] == [4]


async def test_a_list_goes_on_behind_its_last_record_with_what_came_later(bots: Fleet) -> None:
    profile = await pushed(bots, 1, 2)
    path = f"profiles/{profile}/records"
    page = await bots.site.shown(path)
    assert page["next"] is None
    await push(bots, profile, 3, 4, batch=2)
    assert await listed(bots.site, path, after=f"{page['items'][-1]['id']}-0", limit=1) == [3, 4]


async def test_an_export_goes_on_when_the_ledger_was_away_for_a_moment(
    bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "ROWS", 1)
    monkeypatch.setattr(exports, "PAUSE", 0.001)
    profile = await pushed(bots, *range(4))
    state = bots.site.state
    pieces = await state.exports.begin(Scope(profile=profile), Sieve(), exports.NdJson())
    begin, away = state.readers.begin, iter([True, True, False, True])

    def sometimes() -> Any:
        if next(away, False):
            raise UnavailableError
        return begin()

    monkeypatch.setattr(state.readers, "begin", sometimes)
    assert b"".join([piece async for piece in pieces]).count(b"\n") == 4


async def test_too_many_exports_are_told_to_come_back(bots: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "MOST_AT_ONCE", 1)
    profile = await pushed(bots, 1)
    pieces = await bots.site.state.exports.begin(Scope(profile=profile), Sieve(), exports.NdJson())
    path = f"/api/v1/profiles/{profile}/records/export"
    answer = await bots.site.rest.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert [piece async for piece in pieces]
    assert (await bots.site.rest.get(path)).status_code == 200


async def test_parquet_without_pyarrow_is_refused_with_what_to_do(bots: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = await bots.profile()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    answer = await bots.site.rest.get(f"/api/v1/profiles/{profile}/records/export", params={"format": "parquet"})
    assert "pip install" in refused(answer, "format")


async def test_searches_wait_for_their_turn_but_not_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "PATIENCE", 0.05)
    turns = [site.state.readers.begin() for _ in range(readers.MOST)]
    for turn in turns:
        await turn.__aenter__()
    with pytest.raises(UnavailableError, match="Too many searches"):
        async with site.state.readers.begin():
            pass
    for turn in turns:
        await turn.__aexit__(None, None, None)
    async with site.state.readers.begin():
        pass


async def events(messages: AsyncGenerator[str], number: int) -> list[Json]:
    """The next events: their id, and their data where they have any."""
    found: list[Json] = []
    async with asyncio.timeout(WITHIN):
        while len(found) < number:
            for block in (await anext(messages)).split("\n\n"):
                fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
                if "data" in fields:
                    found.append({**json.loads(fields["data"]), "event": fields["id"]})
    return found


async def test_what_arrives_is_told_from_now_on_or_from_the_start(bots: Fleet) -> None:
    profile = await pushed(bots, 1, 2, 3)
    follower = bots.site.state.follower
    now = await follower.begin(profile, Sieve(), None)
    old = await follower.begin(profile, Sieve(), Position(0))
    last = await follower.begin(profile, Sieve(where="$ != 2"), None, last=2)
    assert [event["data"] for event in await events(old, 3)] == [1, 2, 3]
    assert [event["data"] for event in await events(last, 2)] == [1, 3]
    waiting = asyncio.create_task(events(now, 3))
    await push(bots, profile, 4, 2, 5, batch=2)
    assert [event["data"] for event in await waiting] == [4, 2, 5]
    assert [event["data"] for event in await events(last, 2)] == [4, 5]
    for one in (now, old, last):
        await one.aclose()
    assert follower.number == 0


async def test_a_stream_that_is_taken_up_again_neither_skips_nor_repeats(
    bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PAGE", 3)
    monkeypatch.setattr(follow, "EVERY", 0.01)
    profile = await pushed(bots, 0)
    follower = bots.site.state.follower

    async def arrive() -> None:
        for batch in range(2, 12):
            await push(bots, profile, *range(10 * batch, 10 * batch + 10), batch=batch)

    arriving = asyncio.create_task(arrive())
    position, seen = Position(0), list[Any]()
    for number in (1, 7, 3, 40, 20, 30):
        messages = await follower.begin(profile, Sieve(), position)
        for event in (await events(messages, number))[:number]:
            seen.append(event["data"])
            position = Position.read(event["event"]) or position
        await messages.aclose()
    await arriving
    assert seen == [0, *range(20, 120)]


async def test_a_quiet_stream_says_that_it_is_there_and_ends_with_the_process(
    bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 0.02)
    messages = await bots.site.state.follower.begin(await bots.profile(), Sieve(), None)
    async with asyncio.timeout(WITHIN):
        assert (await anext(messages)).startswith("retry: 1000\nid: 0-0")
        assert await anext(messages) == ": heartbeat\n\n"
        monkeypatch.setattr(stream, "HEARTBEAT", 30)
        stream.end_streams()
        assert [message async for message in messages if message != ": heartbeat\n\n"] == []


async def test_the_number_of_followers_is_bounded(bots: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "MOST", 1)
    profile = await bots.profile()
    messages = await bots.site.state.follower.begin(profile, Sieve(), None)
    await anext(messages)
    answer = await bots.site.rest.get(f"/api/v1/profiles/{profile}/records/live")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    await messages.aclose()


async def test_one_look_serves_all_that_follow(bots: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = await pushed(bots, 1)
    follower, looks = bots.site.state.follower, 0
    heads = records.heads

    async def counted(tx: Any, followed: Any, **more: Any) -> Any:
        nonlocal looks
        looks += bool(more)
        return await heads(tx, followed, **more)

    monkeypatch.setattr(records, "heads", counted)
    all_of_them = [await follower.begin(profile, Sieve(), None) for _ in range(20)]
    waiting = [asyncio.create_task(events(one, 1)) for one in all_of_them]
    await push(bots, profile, 2, batch=2)
    assert [event["data"] for found in await asyncio.gather(*waiting) for event in found] == [2] * 20
    assert looks <= 10
    for one in all_of_them:
        await one.aclose()
