"""A bot with a spool on disk that is killed while all of rota is gone: everything arrives, once and in order."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import RotaServer
from tests.unit.sdk_peer import eventually

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

    def __init__(self, server: RotaServer, spools: Path) -> None:
        self._environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "ROTA_URL": server.url,
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


@pytest.fixture
def counters(rota_server: RotaServer, tmp_path: Path) -> Iterator[Counters]:
    made = Counters(rota_server, tmp_path / "spools")
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
    output, _ = process.communicate(timeout=30)
    return [int(line) for line in output.splitlines()]


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
            params = {"limit": "1000"} | ({"after": after} if after else {})
            page = api.get(f"/profiles/{profile}/records", params=params).raise_for_status().json()
            found += page["items"]
            after = page["next"]
    return found


def seen(server: RotaServer, path: str) -> Any:
    with server.api as api:
        return api.get(path).raise_for_status().json()


def numbers(server: RotaServer, profile: str) -> list[int]:
    return [record["data"]["n"] for record in records(server, profile)]


@pytest.mark.parametrize("ttl", [60, 6], ids=["within its lease", "after its death"])
async def test_a_killed_bots_records_arrive_once_in_order_under_their_epoch(
    rota_server: RotaServer, counters: Counters, ttl: float
) -> None:
    profile = a_profile(rota_server, ttl)
    first = counters.start(0)
    await eventually(lambda: len(numbers(rota_server, profile)) >= 20, seconds=60)
    port = rota_server.port
    rota_server.kill()
    said = await asyncio.to_thread(told, first, lambda number: number >= 200)
    said = await asyncio.to_thread(told, first, lambda number: number >= said[-1] + 200)
    last = [said[-1], *killed(first)][-1]
    if ttl > 10:
        second = counters.start(1_000_000)
        rota_server.start(port)
    else:
        rota_server.start(port)
        await eventually(lambda: seen(rota_server, f"/profiles/{profile}")["bot"] is None, seconds=90)
        second = counters.start(1_000_000)
    await asyncio.to_thread(told, second, lambda number: number >= 1_000_050)
    await eventually(lambda: 1_000_050 in numbers(rota_server, profile), seconds=60)
    arrived = records(rota_server, profile)
    counted = [record["data"]["n"] for record in arrived]
    of_the_first = [number for number in counted if number < 1_000_000]
    assert of_the_first in (list(range(last + 1)), list(range(last + 2))), "killed before it could say so"
    assert counted[len(of_the_first) :] == list(range(1_000_000, 1_000_000 + len(counted) - len(of_the_first)))
    assert len({record["epoch"] for record in arrived}) == 1


async def test_records_of_a_profile_that_has_moved_on_are_set_aside(
    rota_server: RotaServer, counters: Counters, tmp_path: Path
) -> None:
    profile = a_profile(rota_server, ttl=4)
    first = counters.start(0)
    await eventually(lambda: len(numbers(rota_server, profile)) >= 20, seconds=60)
    port = rota_server.port
    rota_server.kill()
    said = await asyncio.to_thread(told, first, lambda number: number >= 100)
    last = [said[-1], *killed(first)][-1]
    rota_server.start(port)
    counters.start(1_000_000, instance="2")
    await eventually(lambda: 1_000_000 in numbers(rota_server, profile), seconds=90)
    counters.start(2_000_000)

    def apart() -> list[dict[str, Any]]:
        files = sorted((tmp_path / "spools").glob(f"{HOSTNAME}~1~{profile}~*.ndjson"))
        return [json.loads(line) for path in files for line in path.read_text().splitlines()]

    await eventually(apart, seconds=60)
    arrived = [number for number in numbers(rota_server, profile) if number < 1_000_000]
    aside = [record["data"]["n"] for piece in apart() for record in piece["records"]]
    assert arrived == list(range(len(arrived)))
    assert aside == list(range(aside[0], aside[0] + len(aside)))
    assert aside[0] <= len(arrived), "nothing between them is missing"
    assert aside[-1] in (last, last + 1)
    doubled = [record["data"]["n"] for piece in apart() if piece["batch"] is not None for record in piece["records"]]
    assert {number for number in aside if number in arrived} <= set(doubled), (
        "those say themselves that rota may have them"
    )
