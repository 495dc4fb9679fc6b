"""The example bot against a running rota: a client starts a profile, and records of its site arrive."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.unit.sdk_peer import eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "site_watcher.py"
HOSTNAME = "watcher-farm"


@pytest.fixture
async def site() -> AsyncIterator[str]:
    """A site that answers 204 to everything."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, EXAMPLE, *arguments])


async def test_a_site_watcher_works_for_a_started_profile_until_it_is_stopped(rota_server: Any, site: str) -> None:
    api: httpx2.Client = rota_server.api

    def see(path: str) -> Any:
        return api.get(path).raise_for_status().json()

    rota_server.list_server(HOSTNAME)
    api.patch("/fleets/default", json={"interval": 0.5, "ttl": 5}).raise_for_status()
    config = {"url": site, "every": 0.2, "expect_status": 204}
    wish = {"name": "a site", "config": config, "start": True}
    profile = f"/profiles/{api.post('/profiles', json=wish).raise_for_status().json()['id']}"
    arguments = ["--url", rota_server.url, "--key", rota_server.enrolment_key, "--hostname", HOSTNAME]
    watcher = start(*arguments, "--instance", "1")
    try:
        await eventually(lambda: len(see(f"{profile}/records")["items"]) >= 3, seconds=60)
        assert see(profile)["bot"] == f"{HOSTNAME}/1"
        record = see(f"{profile}/records")["items"][0]
        assert record["kind"] == "check"
        assert record["data"]["ok"] is True
        assert record["data"]["status"] == 204
        api.post(f"{profile}/stop").raise_for_status()
        await eventually(lambda: see(profile)["phase"] == "stopped", seconds=90)
        watcher.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(watcher.wait, 30) == 0
    finally:
        watcher.kill()
        watcher.wait()
        api.close()
