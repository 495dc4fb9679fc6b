"""The thin client against a real socket: many calls, few connections, every way in which a call can fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from rota.simulator.wire import Answer, Wire

DEADLINE = 10.0


@dataclass
class Server:
    """What a test's server saw."""

    port: int = 0
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


Talk = Callable[[Server, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def response(status: int, body: bytes, *fields: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in (*fields, f"Content-Length: {len(body)}"))
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + body


async def read_request(server: Server, reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
    body = await reader.readexactly(length)
    server.heads.append(head)
    server.bodies.append(body)
    return body


@asynccontextmanager
async def serving(talk: Talk) -> AsyncIterator[Server]:
    seen = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(seen, reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    seen.port = listening.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


async def echo(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(response(200, await read_request(server, reader)))


async def ask(wire: Wire, body: bytes, token: str | None = None) -> Answer:
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    wire.post("/bot/heartbeat", body, token, answered.set_result)
    return await asyncio.wait_for(answered, DEADLINE)


async def test_many_calls_share_few_connections_and_each_gets_its_own_answer() -> None:
    async with serving(echo) as server:
        wire = Wire(f"http://127.0.0.1:{server.port}", connections=3)
        answers = await asyncio.gather(*(ask(wire, b"%d" % number) for number in range(100)))
        assert [answer.body for answer in answers] == [b"%d" % number for number in range(100)]
        assert server.connections <= 3
        wire.close()


async def test_a_request_carries_host_token_and_the_prefix_of_the_address() -> None:
    async with serving(echo) as server:
        wire = Wire(f"http://127.0.0.1:{server.port}/fleet/")
        await ask(wire, b"{}", "secret")
        wire.close()
    lines = server.heads[0].decode().split("\r\n")
    assert lines[0] == "POST /fleet/bot/heartbeat HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in lines
    assert "Authorization: Bearer secret" in lines


async def test_retry_after_and_the_status_are_told() -> None:
    async def away(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(server, reader)
        writer.write(response(503, b"{}", "retry-after: 2"))

    async with serving(away) as server:
        wire = Wire(f"http://127.0.0.1:{server.port}")
        answer = await ask(wire, b"{}")
        assert (answer.status, answer.retry_after) == (503, 2.0)
        wire.close()


async def test_a_chunked_answer_is_put_together() -> None:
    async def chunked(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(server, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")

    async with serving(chunked) as server:
        wire = Wire(f"http://127.0.0.1:{server.port}")
        assert (await ask(wire, b"{}")).body == b"{}"
        wire.close()


async def test_a_connection_that_the_server_has_just_closed_costs_no_call() -> None:
    async def once(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, await read_request(server, reader)))
        await read_request(server, reader)

    async with serving(once) as server:
        wire = Wire(f"http://127.0.0.1:{server.port}", connections=1)
        assert (await ask(wire, b"1")).status == 200
        assert (await ask(wire, b"2")).status == 200
        assert server.bodies == [b"1", b"2", b"2"]
        wire.close()


async def test_many_connections_that_the_server_closes_at_once_cost_no_call() -> None:
    served: list[asyncio.StreamWriter] = []
    all_there = asyncio.Event()

    async def twenty(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        if len(served) == 20:
            all_there.set()
        while True:
            body = await read_request(server, reader)
            await all_there.wait()
            writer.write(response(200, body))

    async with serving(twenty) as server:
        wire = Wire(f"http://127.0.0.1:{server.port}", connections=20)
        await asyncio.gather(*(ask(wire, b"1") for _ in range(20)))
        assert wire.connections == 20
        for writer in served[:20]:
            writer.close()
        assert (await ask(wire, b"2")).status == 200
        wire.close()


async def test_an_answer_that_asks_to_close_is_followed_by_a_new_connection() -> None:
    async def polite(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, await read_request(server, reader), "Connection: close"))

    async with serving(polite) as server:
        wire = Wire(f"http://127.0.0.1:{server.port}", connections=1)
        assert [(await ask(wire, b"1")).status for _ in range(3)] == [200, 200, 200]
        assert server.connections == 3
        wire.close()


async def test_a_server_that_hangs_up_or_talks_nonsense_gives_no_answer() -> None:
    async def rude(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(server, reader)
        writer.write(b"what?\r\n\r\n" if server.connections % 2 else b"")

    async with serving(rude) as server:
        wire = Wire(f"http://127.0.0.1:{server.port}", connections=1)
        assert [(await ask(wire, b"1")).status for _ in range(2)] == [0, 0]
        wire.close()


async def test_an_overdue_answer_is_given_up_and_so_is_what_waited_in_line_for_it() -> None:
    async def silent(server: Server, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await read_request(server, reader)
        await asyncio.Event().wait()

    async with serving(silent) as server:
        wire = Wire(f"http://127.0.0.1:{server.port}", connections=1, timeout=0.2)
        answers = await asyncio.gather(*(ask(wire, b"1") for _ in range(3)))
        assert [answer.status for answer in answers] == [0, 0, 0]
        assert wire.overdue == 3
        wire.close()


async def test_a_port_where_nobody_listens_gives_no_answer() -> None:
    async with serving(echo) as server:
        port = server.port
    wire = Wire(f"http://127.0.0.1:{port}", connections=2)
    answers = await asyncio.gather(*(ask(wire, b"1") for _ in range(20)))
    assert {answer.status for answer in answers} == {0}
    wire.close()


async def test_the_moment_of_sending_lies_between_asking_and_the_answer() -> None:
    async with serving(echo) as server:
        wire = Wire(f"http://127.0.0.1:{server.port}")
        before = asyncio.get_running_loop().time()
        answer = await ask(wire, b"1")
        assert before <= answer.sent <= asyncio.get_running_loop().time()
        wire.close()
