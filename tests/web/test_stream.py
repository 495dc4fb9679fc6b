"""Boards and their viewers: who is told what, and how streams end."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request

from rota.web import stream
from rota.web.stream import Board, end_streams, event, stream_response
from tests.unit.sdk_peer import eventually

WITHIN = 10.0


class Counter:
    """What a board reads: a number, and how often it was read."""

    def __init__(self) -> None:
        self.value = 0
        self.readings = 0
        self.fails = False

    async def read(self) -> int:
        self.readings += 1
        if self.fails:
            raise RuntimeError
        return self.value

    def write(self, old: int | None, new: int) -> str:
        if old is None:
            return event("", f"all {new}")
        return event("", f"{old} to {new}") if old != new else ""


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def board(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> Board[int]:
    monkeypatch.setattr(stream, "EVERY", 0.005)
    return Board(counter.read, counter.write)


async def told(messages: AsyncIterator[str]) -> str:
    """The next message that is no greeting and no heartbeat."""
    async with asyncio.timeout(WITHIN):
        while (message := await anext(messages)).startswith(("retry", ":")):
            pass
    return message


def test_an_event_keeps_every_line_inside() -> None:
    assert event("", "a\nb\r\nc\rdata: d") == "data: a\ndata: b\ndata: c\ndata: data: d\n\n"
    assert event("beats", "1") == "event: beats\ndata: 1\n\n"


async def test_a_viewer_is_told_everything_first_and_then_what_changes(board: Board[int], counter: Counter) -> None:
    messages = board.messages()
    assert await told(messages) == "data: all 0\n\n"
    counter.value = 7
    assert await told(messages) == "data: 0 to 7\n\n"
    await messages.aclose()  # type: ignore[attr-defined]


async def test_many_viewers_share_one_reading(board: Board[int], counter: Counter) -> None:
    viewers = [board.messages() for _ in range(20)]
    assert [await told(one) for one in viewers] == ["data: all 0\n\n"] * 20
    before = counter.readings
    counter.value = 1
    assert [await told(one) for one in viewers] == ["data: 0 to 1\n\n"] * 20
    assert counter.readings - before < 20
    for one in viewers:
        await one.aclose()  # type: ignore[attr-defined]


async def test_a_slow_viewer_is_told_everything_instead_of_what_it_missed(board: Board[int], counter: Counter) -> None:
    slow, quick = board.messages(), board.messages()
    await told(slow)
    await told(quick)
    for counter.value in range(1, 3 * stream.BACKLOG):
        await told(quick)
    assert "all" in await told(slow)
    await slow.aclose()  # type: ignore[attr-defined]
    await quick.aclose()  # type: ignore[attr-defined]


async def test_nothing_is_read_while_nobody_looks(board: Board[int], counter: Counter) -> None:
    messages = board.messages()
    await told(messages)
    reader = board._reader
    assert reader is not None
    await messages.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(reader, WITHIN)
    before = counter.readings
    assert not board.is_watched
    assert await board.shown() == 0
    assert counter.readings == before + 1, "read for whoever asked, not for itself"


async def test_a_reading_that_fails_does_not_end_the_stream(board: Board[int], counter: Counter) -> None:
    messages = board.messages()
    await told(messages)
    counter.fails = True
    failed = counter.readings + 3
    await eventually(lambda: counter.readings >= failed)
    counter.fails, counter.value = False, 5
    assert await told(messages) == "data: 0 to 5\n\n"
    await messages.aclose()  # type: ignore[attr-defined]


async def test_a_quiet_stream_says_that_it_is_there(board: Board[int], monkeypatch: pytest.MonkeyPatch) -> None:
    messages = board.messages()
    await told(messages)
    monkeypatch.setattr(stream, "HEARTBEAT", 0.01)
    async with asyncio.timeout(WITHIN):
        assert "event: heartbeat\ndata: " in await anext(messages)
    await messages.aclose()  # type: ignore[attr-defined]


async def test_all_streams_end_when_the_process_is_to_end(board: Board[int]) -> None:
    streams = [board.messages() for _ in range(3)]
    for one in streams:
        await told(one)
    end_streams()
    async with asyncio.timeout(WITHIN):
        assert [[message async for message in one] for one in streams] == [[], [], []]


async def test_a_stream_ends_after_its_life(board: Board[int]) -> None:
    async with asyncio.timeout(WITHIN):
        assert [message async for message in board.messages(life=0.05)][1] == "data: all 0\n\n"


async def test_the_number_of_streams_is_bounded(board: Board[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST", 2)
    first, second = board.messages(), board.messages()
    await told(first)
    assert not stream.is_full()
    await told(second)
    assert stream.is_full()
    await first.aclose()  # type: ignore[attr-defined]
    assert not stream.is_full()
    await second.aclose()  # type: ignore[attr-defined]


async def test_each_message_of_a_compressed_stream_can_be_read_at_once() -> None:
    async def messages() -> AsyncIterator[str]:
        yield event("", "one")
        yield event("", "two")

    request = Request({"type": "http", "headers": [(b"accept-encoding", b"gzip, br")]})
    response = stream_response(request, messages())
    assert response.headers["content-encoding"] == "gzip"
    unpacked, read = zlib.decompressobj(wbits=31), []
    async for chunk in response.body_iterator:
        assert isinstance(chunk, bytes)
        read.append(unpacked.decompress(chunk))
    assert read == [b"data: one\n\n", b"data: two\n\n", b""]
