"""Webhooks of a whole installation: registered by command, records from a real bot, and a steward that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import RotaServer, temporary_data_dir
from tests.acceptance.test_serve import working_bot
from tests.hooks.receiver import Answer, Received, Receiver, answer, is_signed_by


@pytest.fixture
async def server() -> AsyncIterator[RotaServer]:
    with temporary_data_dir() as folder:
        running = RotaServer(folder, environment={"ROTA_WEBHOOK_ALLOW": "127.0.0.0/8"})
        try:
            await asyncio.to_thread(running.start)
            yield running
            await asyncio.to_thread(running.stop)
        finally:
            if running.process is not None and running.process.poll() is None:
                running.kill()


async def rota(server: RotaServer, *words: str, code: int = 0) -> Any:
    """What a command prints as JSON, or as it stands."""
    done = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "rota",
        "webhook",
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "ROTA_DATA_DIR": str(server.data_dir), "NO_COLOR": "1"},
    )
    out, err = await done.communicate()
    assert done.returncode == code, err.decode()
    assert b"Traceback" not in err
    return json.loads(out) if "--json" in words else out.decode()


def steward_of(server: RotaServer) -> int:
    """The process id of the steward that `rota serve` started."""
    assert server.process is not None
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if b"rota.steward" in words and int(parent) == server.process.pid:
                return int(folder.name)
    raise AssertionError("there is no steward")


@pytest.mark.timeout(240)
async def test_every_record_of_a_bot_arrives_in_order_though_the_steward_is_killed(server: RotaServer) -> None:
    async with Receiver() as receiver:
        said: list[int] = []

        async def decide(received: Received) -> Answer:
            said.append(503 if len(said) == 1 else 204)
            return answer(said[-1])

        receiver.decide = decide
        secret = (await rota(server, "create", receiver.url, "--label", "shop")).strip()
        (hook,) = (await rota(server, "list", "--json"))["items"]
        assert (hook["label"], hook["state"], hook["fleet"]) == ("shop", "enabled", "default")
        bot = await asyncio.to_thread(working_bot, server)
        for number in range(1, 6):
            (await asyncio.to_thread(bot.push, number)).raise_for_status()
        await receiver.until(lambda: len(receiver.received) >= 1)
        os.kill(steward_of(server), signal.SIGKILL)
        for number in range(6, 11):
            (await asyncio.to_thread(bot.push, number)).raise_for_status()
        # A claim of the steward that was killed runs out after a minute.
        await receiver.until(lambda: records(receiver)[-1:] == [10], within=150)
        assert records(receiver) == list(range(1, 11))
        assert all(is_signed_by(secret, received) for received in receiver.received)


def records(receiver: Receiver) -> list[int]:
    """What a receiver that drops doubles has."""
    known = {received.id: received for received in receiver.delivered}
    return [record["data"]["n"] for received in known.values() for record in received.data["records"]]


@pytest.mark.timeout(240)
async def test_the_commands_do_what_they_say(server: RotaServer) -> None:
    async with Receiver() as receiver:
        made = await rota(server, "create", receiver.url, "--kind", "alarm", "--paused", "--json")
        hook = made["id"]
        assert (await rota(server, "test", hook, "--json"))["delivered"]
        assert is_signed_by(made["secret"], receiver.received[-1])
        new = (await rota(server, "rotate", hook, "--overlap", "0")).strip()
        assert "yes" in await rota(server, "test", hook)
        assert is_signed_by(new, receiver.received[-1])
        changed = await rota(server, "update", hook, "--enable", "--every-kind", "--label", "shop", "--json")
        assert (changed["state"], changed["kinds"], changed["label"]) == ("enabled", [], "shop")
        assert (await rota(server, "update", hook, "--pause", "--json"))["state"] == "paused"
    assert not (await rota(server, "test", hook, "--json", code=1))["delivered"]
    assert "paused" in await rota(server, "show", hook)
    assert (await rota(server, "dead", "list", hook, "--json"))["items"] == []
    assert (await rota(server, "dead", "replay", hook, "--all", "--json"))["replayed"] == 0
    assert (await rota(server, "dead", "discard", hook, "--all", "--yes", "--json"))["discarded"] == 0
    await rota(server, "dead", "replay", hook, code=2)
    await rota(server, "dead", "show", hook, "msg_none", code=2)
    await rota(server, "create", "https://10.0.0.1/", code=2)
    await rota(server, "update", hook, code=2)
    await rota(server, "delete", hook, "--yes")
    assert (await rota(server, "list", "--json"))["items"] == []
