"""`POST /bot/heartbeats`: many bots of one host in one call; some talk nonsense, or come when too much waits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rota.embedded import EmbeddedValkey
from tests.conformance.fleet import Fleet
from tests.conformance.site import Json, Site

BAD = {
    "half of a surrogate pair": rb'{"token":"%s","status":"\ud800"}',
    "half of a pair in a name": rb'{"token":"%s","\udfff":1}',
    "half of a pair in a token": rb'{"token":"\ud800%s"}',
    "bytes that are no UTF-8": b'{"token":"%s","status":"\xff\xfe"}',
    "a number without end": b'{"token":"%s","working":{"profile":"prf_1","epoch":' + b"9" * 5000 + b"}}",
    "nesting": b'{"token":"%s","more":' + b"[" * 500 + b"]" * 500 + b"}",
    "no number": b'{"token":"%s","wait":NaN}',
    "no profile": b'{"token":"%s","working":{"profile":"\\u0000","epoch":1}}',
    "no object": b'"%s"',
}


async def call(site: Site, *beats: bytes) -> Any:
    return await site.wire.post("/bot/heartbeats", content=b'{"beats":[%s]}' % b",".join(beats))


def beat(token: str, **said: Any) -> bytes:
    return json.dumps({"token": token, **said}).encode()


def told(reply: Json) -> str:
    return str(reply["error"]["code"] if "error" in reply else reply["instruction"])


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_beat_refuses_itself_alone(bots: Fleet, kind: str) -> None:
    working = await bots.work()
    await bots.auth("2")
    await bots.auth("3")
    good, other = beat(bots.tokens["1"], working=working, status="läuft 🎉"), beat(bots.tokens["2"])
    answer = await call(bots.site, good, BAD[kind] % bots.tokens["3"].encode(), other)
    assert answer.status_code == 200, answer.text
    assert [told(reply) for reply in answer.json()["replies"]] == ["continue", "invalid_request", "wait"]
    assert (await bots.site.shown("bots/farm-1/1"))["status"] == "läuft 🎉"


async def test_all_kinds_of_bad_beats_have_their_errors_in_their_places(bots: Fleet) -> None:
    await bots.auth("1")
    token = bots.tokens["1"]
    beats = [part for bad in BAD.values() for part in (bad % token.encode(), beat(token))]
    answer = await call(bots.site, *beats)
    assert [told(reply) for reply in answer.json()["replies"]] == ["invalid_request", "wait"] * len(BAD)


async def test_while_too_much_waits_idle_bots_are_put_off_and_then_whole_calls(
    bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, goes_on = bots.site.state.live, asyncio.Event()
    ask = live.call

    async def slow(verb: str, *arguments: Any) -> Any:
        if verb == "beat":
            await goes_on.wait()
        return await ask(verb, *arguments)

    working = [beat(bots.tokens[name], working=work) for name in "12345" for work in [await bots.work(name, name)]]
    await bots.auth("6")
    idle = beat(bots.tokens["6"])
    monkeypatch.setattr("rota.live.beats.MOST_OF_CALLS", 4)
    monkeypatch.setattr(live, "call", slow)
    first = asyncio.create_task(call(bots.site, *working[:2]))
    await under_way(bots, 2)
    mixed = asyncio.create_task(call(bots.site, idle, working[2], idle))
    await under_way(bots, 3)
    for refused in (await call(bots.site, idle), await call(bots.site, *working[3:], idle)):
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert refused.headers["retry-after"] == "5"
    goes_on.set()
    assert [told(reply) for reply in (await first).json()["replies"]] == ["continue"] * 2
    assert [told(reply) for reply in (await mixed).json()["replies"]] == ["unavailable", "continue", "unavailable"]
    await under_way(bots, 0)
    assert [told(reply) for reply in (await call(bots.site, idle)).json()["replies"]] == ["wait"]


async def test_the_beats_of_a_call_that_fails_wait_no_more(fragile: Site, own_valkey: EmbeddedValkey) -> None:
    bots = await Fleet.of(fragile)
    await bots.auth("1")
    own_valkey.stop()
    assert (await call(fragile, beat(bots.tokens["1"]))).status_code == 503
    await under_way(bots, 0)


async def under_way(bots: Fleet, number: int) -> None:
    """Waits until so many beats of calls wait for their answers."""
    async with asyncio.timeout(10):
        while bots.site.state.beats._of_calls != number:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"beats":[{"token":"a"},{"token":]}', 400),
        (b'{"beats":[{"token":"a","status":"\\ud800"},{"token":"b"}', 400),
        (b'{"beats":' + b"[" * 100_000, 400),
        (b'{"beats":{"status":"\\ud800"}}', 400),
        (b'{"beats":[' + b",".join([b"1"] * 1001) + b"]}", 422),
        (b"[]", 422),
        (b"", 400),
    ],
)
async def test_what_is_no_list_of_beats_is_refused_as_a_whole(site: Site, body: bytes, status: int) -> None:
    answer = await site.wire.post("/bot/heartbeats", content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, "invalid_request")
