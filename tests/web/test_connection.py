"""Heartbeats at the level of the connection: what no well-behaved HTTP client does, and what must not differ for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rota.protocol import MAX_BEAT_BYTES, MAX_HEAD_BYTES
from rota.web import connection
from tests.conformance.fleet import Fleet
from tests.conformance.site import Json

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: rota.test\r\n\r\n"


class Line:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and JSON of the next answer."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(body) if body else None

    async def ended(self) -> bool:
        """Whether the other side closes it."""
        async with asyncio.timeout(10):
            return await self.reader.read(1) == b""


@pytest.fixture
async def line(bots: Fleet) -> AsyncIterator[Line]:
    async with open_line(bots) as opened:
        yield opened


@asynccontextmanager
async def open_line(bots: Fleet) -> AsyncIterator[Line]:
    url = bots.site.wire.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


def heartbeat(bots: Fleet, body: Json | bytes | None = None, *headers: str, version: str = "1.1") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    lines = [
        f"POST /bot/heartbeat HTTP/{version}",
        "Host: rota.test",
        f"Authorization: Bearer {bots.tokens['1']}",
        f"Content-Length: {len(content)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


async def test_many_heartbeats_go_over_one_connection(bots: Fleet, line: Line) -> None:
    await bots.auth("1")
    for _ in range(3):
        await line.send(heartbeat(bots))
        status, headers, told = await line.answer()
        assert (status, told["instruction"]) == (200, "wait")
        assert headers["content-type"] == "application/json"
        assert "gmt" in headers["date"]
        assert "connection" not in headers


async def test_a_heartbeat_that_comes_in_pieces_is_one(bots: Fleet, line: Line) -> None:
    working = await bots.work()
    request = heartbeat(bots, {"working": working, "status": "looking"})
    for at in range(0, len(request), 7):
        await line.send(request[at : at + 7])
        await asyncio.sleep(0)
    status, _, told = await line.answer()
    assert (status, told["assignment"]) == (200, working)


async def test_requests_that_do_not_wait_for_answers_are_answered_in_their_order(bots: Fleet, line: Line) -> None:
    working = await bots.work()
    one, idle = heartbeat(bots, {"working": working}), heartbeat(bots, b"{")
    await line.send(one + HEALTHZ + idle + one + one + HEALTHZ)
    told = [await line.answer() for _ in range(6)]
    assert [status for status, _, _ in told] == [200, 200, 400, 200, 200, 200]
    assert [body.get("instruction", body.get("ok")) for _, _, body in told] == [
        *("continue", True, None, "continue", "continue", True)
    ]


async def test_a_connection_that_is_to_be_closed_is_closed_after_the_answer(bots: Fleet, line: Line) -> None:
    await bots.auth("1")
    await line.send(heartbeat(bots, None, "Connection: close"))
    status, headers, _ = await line.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert await line.ended()


async def test_a_heartbeat_of_an_older_http_or_one_that_asks_first_is_answered(bots: Fleet) -> None:
    await bots.auth("1")
    async with open_line(bots) as old:
        await old.send(heartbeat(bots, version="1.0"))
        assert (await old.answer())[0] == 200
        assert await old.ended()
    async with open_line(bots) as asking:
        head, _, body = heartbeat(bots, {"status": "x"}, "Expect: 100-continue").partition(b"\r\n\r\n")
        await asking.send(head + b"\r\n\r\n")
        async with asyncio.timeout(10):
            assert await asking.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await asking.send(body)
        assert (await asking.answer())[0] == 200


async def test_a_body_in_chunks_is_read(bots: Fleet, line: Line) -> None:
    await bots.auth("1")
    head = heartbeat(bots).partition(b"Content-Length")[0]
    await line.send(head + b'Transfer-Encoding: chunked\r\n\r\n4\r\n{"st\r\n')
    await line.send(b'9\r\natus":"x"\r\n1\r\n}\r\n0\r\n\r\n')
    assert (await line.answer())[0] == 200


async def test_a_body_that_is_too_large_is_refused_before_it_is_whole(
    bots: Fleet, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER", 0.2)
    await bots.auth("1")
    head = heartbeat(bots).partition(b"Content-Length")[0]
    await line.send(head + b"Content-Length: 1000000000\r\n\r\n" + b" " * (MAX_BEAT_BYTES + 1))
    status, headers, problem = await line.answer()
    assert (status, problem["code"], headers["connection"]) == (413, "body_too_large", "close")
    # Nor is what comes behind it answered any more.
    await line.send(b" " * 1000 + HEALTHZ)
    assert await line.ended()


async def test_what_is_behind_a_body_that_is_too_large_is_not_answered(
    bots: Fleet, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER", 0.2)
    await bots.auth("1")
    await line.send(heartbeat(bots, b" " * (MAX_BEAT_BYTES + 1)) + heartbeat(bots) + HEALTHZ)
    assert (await line.answer())[0] == 413
    await line.send(heartbeat(bots) + HEALTHZ)
    assert await line.ended()


@pytest.mark.parametrize(
    "head",
    [
        [b"GET /healthz?", *[b"x" * 1000] * 50],
        [b"GET /healthz HTTP/1.1\r\nX-Long: ", *[b"x" * 1000] * 50],
        [b"GET /healthz HTTP/1.1\r\n", *[b"X: y\r\n" * 100] * 100],
        [b"POST /bot/heartbeat HTTP/1.1\r\nX-Long: " + b"x" * 70_000],
        [b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n"],
        [b"POST /bot/heartbeat HTTP/1.1\r\n", *[b"X: y\r\n"] * 101, b"Content-Length: 2\r\n\r\n{}"],
    ],
)
async def test_a_head_that_is_too_large_is_refused_before_it_is_whole(
    bots: Fleet, line: Line, monkeypatch: pytest.MonkeyPatch, head: list[bytes]
) -> None:
    monkeypatch.setattr(connection, "LINGER", 0.2)
    for piece in head:
        await line.send(piece)
        await asyncio.sleep(0)
    status, headers, problem = await line.answer()
    assert (status, problem["code"], headers["connection"]) == (431, "head_too_large", "close")
    assert await line.ended()


async def test_a_head_behind_a_heartbeat_that_waits_is_limited_too(
    bots: Fleet, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LINGER", 0.2)
    await bots.auth("1")
    await line.send(heartbeat(bots, {"wait": 20}))
    await _until(bots, 1)
    await line.send(b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * (MAX_HEAD_BYTES + 1))
    status, headers, told = await line.answer()
    assert (status, headers["connection"], told["instruction"]) == (200, "close", "wait")
    assert await line.ended()


async def test_what_is_endless_behind_a_body_ends_the_connection(bots: Fleet, line: Line) -> None:
    await bots.auth("1")
    await line.send(heartbeat(bots).partition(b"Content-Length")[0])
    await line.send(b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Long: ")
    async with asyncio.timeout(10):
        while not line.writer.is_closing():
            with contextlib.suppress(ConnectionError):
                await line.send(b"x" * 10_000)
            await asyncio.sleep(0)


async def test_a_long_body_in_many_pieces_is_no_head(bots: Fleet, line: Line) -> None:
    await bots.auth("1")
    body = json.dumps({"beats": [{"token": bots.tokens["1"], "padding": "x" * 300}] * 1000}).encode()
    request = heartbeat(bots, body).replace(b"/bot/heartbeat ", b"/bot/heartbeats ")
    for at in range(0, len(request), 20_000):
        await line.send(request[at : at + 20_000])
        await asyncio.sleep(0)
    status, _, told = await line.answer()
    assert (status, len(told["replies"])) == (200, 1000)
    await line.send(heartbeat(bots))
    assert (await line.answer())[0] == 200


async def test_what_is_wrong_is_answered_as_a_problem_and_the_connection_goes_on(bots: Fleet, line: Line) -> None:
    await bots.auth("1")
    known = bots.tokens["1"]
    bots.tokens["1"] = ""
    await line.send(heartbeat(bots))
    status, headers, problem = await line.answer()
    assert (status, problem["code"], headers["www-authenticate"]) == (401, "unknown_bot", "bearer")
    bots.tokens["1"] = known[:-3] + "xyz"
    await line.send(heartbeat(bots))
    assert (await line.answer())[0] == 401
    bots.tokens["1"] = known
    await line.send(heartbeat(bots, {"working": {"profile": "?"}}))
    assert (await line.answer())[0] == 422
    await line.send(heartbeat(bots))
    assert (await line.answer())[0] == 200


async def test_a_fleet_that_the_worker_has_not_met_is_asked_for(bots: Fleet, line: Line) -> None:
    await bots.auth("1")
    bots.site.state.policies._grants.clear()
    await line.send(heartbeat(bots))
    assert (await line.answer())[0] == 200
    bots.tokens["1"] = bots.tokens["1"].replace("bot_default", "bot_elsewhere")
    await line.send(heartbeat(bots))
    status, _, problem = await line.answer()
    assert (status, problem["code"]) == (401, "unknown_bot")


async def test_a_bot_that_hangs_up_while_it_waits_is_forgotten_at_once(bots: Fleet) -> None:
    await bots.auth("1")
    async with open_line(bots) as line:
        await line.send(heartbeat(bots, {"wait": 20}))
        await _until(bots, 1)
    await _until(bots, 0)
    assert await bots.profile()
    assert (await bots.beat("1"))["instruction"] == "start"


@pytest.mark.parametrize("before", [b"", HEALTHZ])
async def test_a_request_that_comes_while_a_heartbeat_waits_ends_the_wait(
    bots: Fleet, line: Line, before: bytes
) -> None:
    await bots.auth("1")
    # One that comes behind another request is not answered where it is read.
    await line.send(before + heartbeat(bots, {"wait": 20}))
    if before:
        assert (await line.answer())[2] == {"ok": True}
    await _until(bots, 1)
    await line.send(HEALTHZ)
    assert (await line.answer())[2]["instruction"] == "wait"
    assert (await line.answer())[2] == {"ok": True}


@pytest.mark.parametrize("before", [b"", HEALTHZ])
@pytest.mark.parametrize("known", [True, False])
async def test_a_heartbeat_behind_which_a_request_waits_already_is_not_held(
    bots: Fleet, line: Line, before: bytes, known: bool
) -> None:
    await bots.auth("1")
    if not known:
        bots.site.state.policies._grants.clear()
    await line.send(before + 2 * heartbeat(bots, {"wait": 20}) + HEALTHZ)
    told = [(await line.answer())[2] for _ in range(3 + bool(before))]
    assert [one.get("instruction", one.get("ok")) for one in told] == [
        *([True] if before else []),
        "wait",
        "wait",
        True,
    ]


@pytest.mark.parametrize("before", [b"", HEALTHZ])
async def test_a_bot_that_hangs_up_with_a_request_behind_its_heartbeat_is_given_no_work(
    bots: Fleet, before: bytes
) -> None:
    await bots.auth("1")
    async with open_line(bots) as line:
        await line.send(before + heartbeat(bots, {"wait": 20}) + heartbeat(bots, {"wait": 20}))
        for _ in range(1 + bool(before)):
            await line.answer()
        await _until(bots, 1)
    await _until(bots, 0)
    assert await bots.profile()
    assert (await bots.beat("1"))["instruction"] == "start"


async def _until(bots: Fleet, number: int) -> None:
    async with asyncio.timeout(10):
        while bots.site.state.waiting.number != number:  # noqa: ASYNC110 - rota says it by no event
            await asyncio.sleep(0.01)
