"""The door to the store: what is under way when it is closed ends, and nothing comes after it."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from rota.errors import UnavailableError
from rota.live.scripts import Live

LOOK = ("XREAD", "BLOCK", 300, "STREAMS", "nothing-is-ever-there", "0")


def connected(live: Live) -> int:
    """How many connections are open."""
    pool = live._redis.connection_pool
    return sum(one.is_connected for one in [*pool._available_connections, *pool._in_use_connections])


async def test_closing_waits_for_what_is_under_way_and_leaves_no_connection_behind(valkey_url: str) -> None:
    live = Live(valkey_url)
    await live.read(("PING",))
    looks = [asyncio.create_task(live.read(LOOK)) for _ in range(3)]
    await asyncio.sleep(0)
    await live.aclose()
    assert [look.done() for look in looks] == [True] * 3
    assert not any(look.exception() for look in looks)
    assert connected(live) == 0


async def test_a_call_that_is_cancelled_while_the_door_is_closed_leaves_no_connection_behind(valkey_url: str) -> None:
    live = Live(valkey_url)
    look = asyncio.create_task(live.read(LOOK))
    while not connected(live):  # noqa: ASYNC110 - redis-py says it by no event
        await asyncio.sleep(0)
    closing = asyncio.create_task(live.aclose())
    await asyncio.sleep(0)
    look.cancel()
    await closing
    assert connected(live) == 0


async def test_nothing_is_asked_after_the_end(valkey_url: str) -> None:
    live = Live(valkey_url)
    await live.aclose()
    with pytest.raises(UnavailableError, match="closed"):
        await live.read(("PING",))
    with pytest.raises(UnavailableError, match="closed"):
        await live.call("reap", "default", 1)
    assert connected(live) == 0


async def test_whoever_asks_a_store_that_hangs_again_and_again_waits_for_it_but_once() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await reader.read()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        live = Live(f"redis://127.0.0.1:{port}", timeout=5.0)
        waited = []
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(UnavailableError):
                await live.read(("PING",))
            waited.append(time.monotonic() - began)
        await live.aclose()
    assert waited[0] >= 5.0
    assert max(waited[1:]) < 5.0
