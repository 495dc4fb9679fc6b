"""A bot with a spool on disk that is killed while rota is out of reach: everything arrives, once and in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import RotaServer

HOSTNAME = "spool-farm"
COUNTER = """
import sys
from rota import Bot, Job

bot = Bot(hostname="spool-farm", last_resort=False)

@bot.work
async def count(job: Job) -> None:
    number = int(sys.argv[1])
    while not job.stopping:
        await job.push({"n": number})
        print(number, flush=True)
        number += 1
        await job.sleep(0.002)

bot.run()
"""


class Counters:
    """Bot processes that push numbers and say which ones `push` has returned for."""

    def __init__(self, server: RotaServer, url: str, spools: Path) -> None:
        self._environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "ROTA_URL": url,
            "ROTA_ENROLMENT_KEY": server.enrolment_key,
            "ROTA_SPOOL": str(spools),
        }
        self.running: list[subprocess.Popen[str]] = []

    def start(self, first: int, instance: str = "1") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", COUNTER, str(first)],
            env=self._environment | {"ROTA_INSTANCE": instance},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.running.append(process)
        return process

    def end(self) -> None:
        for process in self.running:
            with process:
                process.kill()


class Wire:
    """The way from the bots to rota, which can be cut."""

    def __init__(self, port: int) -> None:
        self.cut = False
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._connected, "127.0.0.1", 0)

    def set_cut(self, *, cut: bool) -> None:
        self.cut = cut
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:  # rota was killed
            writer.transport.abort()
            return
        ends = {writer, back}
        self._writers |= ends
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def wire(rota_server: RotaServer) -> AsyncIterator[tuple[Wire, str]]:
    """It, and its address."""
    made = Wire(rota_server.port)
    server = await made.serve()
    yield made, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    made.set_cut(cut=True)
    server.close()


@pytest.fixture
def counters(rota_server: RotaServer, wire: tuple[Wire, str], tmp_path: Path) -> Iterator[Counters]:
    made = Counters(rota_server, wire[1], tmp_path / "spools")
    yield made
    made.end()


def told(process: subprocess.Popen[str], reached: Callable[[int], bool]) -> list[int]:
    """What it says that it pushed, until the number is reached."""
    assert process.stdout
    said: list[int] = []
    for line in process.stdout:
        said.append(int(line))
        if reached(said[-1]):
            return said
    raise AssertionError(f"it ended with {process.wait()}")


def killed(process: subprocess.Popen[str]) -> list[int]:
    """Kill -9; what it had still to say."""
    process.kill()
    process.wait(30)
    assert process.stdout
    # Not communicate(): it passes over what the lines before were read ahead with.
    return [int(line) for line in process.stdout.read().splitlines()]


def a_profile(server: RotaServer, ttl: float) -> str:
    server.list_server(HOSTNAME, bots=2)
    with server.api as api:
        api.patch("/fleets/default", json={"interval": ttl / 6, "ttl": ttl}).raise_for_status()
        made = api.post("/profiles", json={"name": "counted", "config": {}, "start": True}).raise_for_status()
        return str(made.json()["id"])


def records(server: RotaServer, profile: str) -> list[dict[str, Any]]:
    """All records of a profile, in order."""
    found: list[dict[str, Any]] = []
    with server.api as api:
        after: str | None = ""
        while after is not None:
            params = {"limit": "500"} | ({"after": after} if after else {})
            page = api.get(f"/profiles/{profile}/records", params=params).raise_for_status().json()
            found += page["items"]
            after = page["next"]
    return found


def seen(server: RotaServer, path: str) -> Any:
    with server.api as api:
        return api.get(path).raise_for_status().json()


async def until(reached: Callable[[], object], seconds: float = 100) -> None:
    """Asks now and then, in a thread, until it is so; fails after the seconds."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(reached):
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.2)


def numbers(server: RotaServer, profile: str) -> list[int]:
    return [record["data"]["n"] for record in records(server, profile)]


async def killed_while_cut_off(counter: subprocess.Popen[str]) -> int:
    """The last number that `push` has returned for."""
    said = await asyncio.to_thread(told, counter, lambda number: number >= 200)
    said = await asyncio.to_thread(told, counter, lambda number: number >= said[-1] + 200)
    return [said[-1], *await asyncio.to_thread(killed, counter)][-1]


async def judge(server: RotaServer, profile: str, counters: Counters, last: int) -> None:
    """What the next process of the slot brings, and the first one has left, is there once, in order, in one epoch."""
    await until(lambda: 1_000_050 in numbers(server, profile))
    arrived = await asyncio.to_thread(records, server, profile)
    counted = [record["data"]["n"] for record in arrived]
    of_the_first = [number for number in counted if number < 1_000_000]
    assert of_the_first in (list(range(last + 1)), list(range(last + 2))), "killed before it could say so"
    assert counted[len(of_the_first) :] == list(range(1_000_000, 1_000_000 + len(counted) - len(of_the_first)))
    assert len({record["epoch"] for record in arrived}) == 1


async def test_a_killed_bots_records_arrive_although_all_of_rota_was_killed_too(
    rota_server: RotaServer, counters: Counters
) -> None:
    profile = a_profile(rota_server, ttl=60)
    first = counters.start(0)
    await until(lambda: len(numbers(rota_server, profile)) >= 20)
    port = rota_server.port
    rota_server.kill()
    last = await killed_while_cut_off(first)
    counters.start(1_000_000)
    await asyncio.to_thread(rota_server.start, port)
    await judge(rota_server, profile, counters, last)


async def test_a_killed_bots_records_arrive_although_rota_has_found_it_dead(
    rota_server: RotaServer, counters: Counters, wire: tuple[Wire, str]
) -> None:
    profile = a_profile(rota_server, ttl=10)
    first = counters.start(0)
    await until(lambda: len(numbers(rota_server, profile)) >= 20)
    wire[0].set_cut(cut=True)
    last = await killed_while_cut_off(first)
    await until(lambda: seen(rota_server, f"/profiles/{profile}")["bot"] is None)
    wire[0].set_cut(cut=False)
    counters.start(1_000_000)
    await judge(rota_server, profile, counters, last)


async def test_records_of_a_profile_that_has_moved_on_are_set_aside(
    rota_server: RotaServer, counters: Counters, wire: tuple[Wire, str], tmp_path: Path
) -> None:
    profile = a_profile(rota_server, ttl=10)
    first = counters.start(0)
    await until(lambda: len(numbers(rota_server, profile)) >= 20)
    wire[0].set_cut(cut=True)
    last = await killed_while_cut_off(first)
    wire[0].set_cut(cut=False)
    counters.start(1_000_000, instance="2")
    await until(lambda: 1_000_000 in numbers(rota_server, profile))
    counters.start(2_000_000)

    def apart() -> list[dict[str, Any]]:
        files = sorted((tmp_path / "spools").glob(f"{HOSTNAME}~1~{profile}~*.ndjson"))
        return [json.loads(line) for path in files for line in path.read_text().splitlines()]

    await until(apart)
    arrived = [number for number in await asyncio.to_thread(numbers, rota_server, profile) if number < 1_000_000]
    pieces = await asyncio.to_thread(apart)
    aside = [record["data"]["n"] for piece in pieces for record in piece["records"]]
    assert arrived == list(range(len(arrived)))
    assert aside == list(range(aside[0], aside[0] + len(aside)))
    assert aside[0] <= len(arrived), "nothing between them is missing"
    assert aside[-1] in (last, last + 1)
    on_their_way = {
        record["data"]["n"] for piece in pieces if piece["batch"] is not None for record in piece["records"]
    }
    assert set(aside) & set(arrived) <= on_their_way, "those say themselves that rota may have them"
