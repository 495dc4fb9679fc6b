"""What stands between rota, its stores and its bots does what a scenario orders, and nothing without an order."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from rota.chaos.front import Front, Mischief, Unruly
from rota.chaos.links import NONE, Direction, Link
from tests.unit.sdk_peer import eventually

WITHIN = 5.0
BRIEFLY = 0.15
"""Seconds in which an answer over a unix socket would have come, if it came."""
REQUEST = b"POST /bot/heartbeat HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Behind:
    """What the proxies lead to: answers every chunk that it hears with `reply`."""

    def __init__(self, reply: bytes) -> None:
        self.heard: list[bytes] = []
        self._reply = reply

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1000):
            self.heard.append(chunk)
            writer.write(self._reply)
        writer.close()


async def answer(reader: asyncio.StreamReader, within: float = WITHIN) -> bytes | None:
    """What comes back; None where nothing does."""
    try:
        return await asyncio.wait_for(reader.read(1000), within)
    except TimeoutError:
        return None


@pytest.fixture
async def store() -> AsyncIterator[tuple[Behind, Link]]:
    folder = Path(tempfile.mkdtemp(prefix="rl-"))
    behind = Behind(b"pong")
    server = await asyncio.start_unix_server(behind.serve, str(folder / "behind"))
    link = Link(folder / "link")
    await link.open(str(folder / "behind"))
    yield behind, link
    await link.close()
    server.close()
    shutil.rmtree(folder)


async def test_an_open_link_passes_everything(store: tuple[Behind, Link]) -> None:
    behind, link = store
    reader, writer = await asyncio.open_unix_connection(str(link.path))
    writer.write(b"ping")
    assert await answer(reader) == b"pong"
    assert behind.heard == [b"ping"]
    writer.close()


async def test_a_slow_link_holds_each_answer_back(store: tuple[Behind, Link]) -> None:
    _, link = store
    link.delay = 0.3
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_unix_connection(str(link.path))
    began = loop.time()
    writer.write(b"ping")
    assert await answer(reader) == b"pong"
    assert loop.time() - began >= 0.3
    writer.close()


async def test_a_mute_link_lets_the_store_hear_and_delivers_its_answer_when_mended(store: tuple[Behind, Link]) -> None:
    behind, link = store
    link.cut(Direction.BACK)
    reader, writer = await asyncio.open_unix_connection(str(link.path))
    writer.write(b"ping")
    await eventually(lambda: behind.heard == [b"ping"])
    late = asyncio.create_task(answer(reader))
    done, _ = await asyncio.wait([late], timeout=BRIEFLY)
    assert not done
    link.cut(NONE)
    assert await late == b"pong"
    writer.close()


async def test_what_was_said_over_a_cut_link_arrives_even_if_nobody_waits_any_more(store: tuple[Behind, Link]) -> None:
    behind, link = store
    link.cut()
    reader, writer = await asyncio.open_unix_connection(str(link.path))
    writer.write(b"ping")
    assert await answer(reader, BRIEFLY) is None
    assert not behind.heard
    writer.close()
    link.cut(NONE)
    await eventually(lambda: behind.heard == [b"ping"])


async def test_what_was_said_over_a_link_that_loses_it_never_arrives(store: tuple[Behind, Link]) -> None:
    behind, link = store
    link.cut()
    reader, writer = await asyncio.open_unix_connection(str(link.path))
    writer.write(b"ping")
    assert await answer(reader, BRIEFLY) is None
    await link.lose()
    assert await answer(reader) == b"", "the connection is dropped"
    link.cut(NONE)
    again, speaker = await asyncio.open_unix_connection(str(link.path))
    speaker.write(b"pong?")
    assert await answer(again) == b"pong"
    assert behind.heard == [b"pong?"]
    for each in (writer, speaker):
        each.close()


async def test_a_link_knows_who_has_connected_even_while_it_is_cut(store: tuple[Behind, Link]) -> None:
    _, link = store
    link.cut()
    assert link.callers == set()
    _, writer = await asyncio.open_unix_connection(str(link.path))
    await eventually(lambda: link.callers == {os.getpid()})
    writer.close()


class Chosen(Random):
    """Chance that always chooses the same mischief, and the longest delay."""

    def __init__(self, mischief: Mischief) -> None:
        super().__init__()
        self._place = tuple(Mischief).index(mischief)

    def random(self) -> float:
        return self._place + 0.5

    def uniform(self, a: float, b: float) -> float:
        return b


async def sent(mischief: Mischief | None, expected: int) -> tuple[bytes | None, float]:
    """The answer to one request through the front, and how long it took; rota hears `expected` requests."""
    behind = Behind(REPLY)
    server = await asyncio.start_server(behind.serve, "127.0.0.1", 0)
    front = Front(Chosen(mischief or Mischief.DELAYED))
    await front.open(server.sockets[0].getsockname()[1])
    front.unruly = Unruly(1.0, 0.2) if mischief else None
    loop = asyncio.get_running_loop()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        began = loop.time()
        writer.write(REQUEST)
        got, took = await answer(reader), loop.time() - began
        await eventually(lambda: behind.heard == [REQUEST] * expected)
        assert front.done.total() == (mischief is not None)
        writer.close()
    finally:
        await front.close()
        server.close()
    return got, took


async def test_a_front_without_orders_passes_requests_and_answers() -> None:
    got, _ = await sent(None, 1)
    assert got == REPLY


async def test_a_delayed_request_takes_longer() -> None:
    got, took = await sent(Mischief.DELAYED, 1)
    assert got == REPLY
    assert took >= 0.2


async def test_a_doubled_request_is_heard_twice_and_answered_once() -> None:
    got, _ = await sent(Mischief.DOUBLED, 2)
    assert got == REPLY


async def test_a_request_that_nobody_overtakes_goes_on_in_the_end() -> None:
    got, _ = await sent(Mischief.REORDERED, 1)
    assert got == REPLY


async def test_a_swallowed_answer_ends_the_connection_although_rota_heard_the_request() -> None:
    got, _ = await sent(Mischief.SWALLOWED, 1)
    assert got == b""
