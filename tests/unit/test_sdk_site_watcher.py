"""The example bot, on real sites of this machine and against a scripted rota."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest

from tests.unit.sdk_peer import KEY, Peer, Wish, eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "site_watcher.py"
PAGES = {
    "/": (b"200 OK", b"", b"Welcome to \xc3\xa4 site"),
    "/down": (b"503 Service Unavailable", b"", b""),
    "/moved": (b"302 Found", b"Location: /\r\n", b""),
    "/nowhere": (b"302 Found", b"Location: http://127.0.0.1:99999/\r\n", b""),
    "/round": (b"302 Found", b"Location: /round\r\n", b""),
    "/latin": (b"200 OK", b"Content-Type: text/plain; charset=latin-1\r\n", b"\xe4"),
}


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as running:
        yield running


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_watcher", EXAMPLE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["site_watcher"] = module  # pydantic looks annotations up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def site() -> AsyncIterator[str]:
    """A site with the pages above; `/slow` never answers, `/huge` never ends, `/rude` hangs up."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1].decode()
            if path == "/slow":
                await reader.read()
            elif path == "/huge":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                while not reader.at_eof():
                    writer.write(b"x" * 65_536)
                    await writer.drain()
            elif path in PAGES:
                status, headers, page = PAGES[path]
                length = b"Content-Length: %d\r\n" % len(page)
                writer.write(b"HTTP/1.1 " + status + b"\r\n" + length + headers + b"\r\n" + page)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def visited(example: ModuleType, **config: Any) -> tuple[dict[str, Any], str]:
    async with httpx2.AsyncClient(follow_redirects=True) as client:
        check, text = await example.visit(client, example.Site(**config))
    return check, text


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", {}),
        ("/", {"expect_text": "ä site"}),
        ("/latin", {"expect_text": "ä"}),
        ("/moved", {"expect_text": "Welcome"}),
        ("/down", {"expect_status": 503}),
        ("/huge", {"expect_text": "xxx"}),
    ],
)
async def test_a_site_that_is_as_expected_is_ok(
    example: ModuleType, site: str, path: str, expected: dict[str, Any]
) -> None:
    check, text = await visited(example, url=site + path, **expected)
    assert check.keys() == {"ok", "status", "latency_ms", "url"}
    assert check["ok"] is True
    assert text == f"{check['status']} in {check['latency_ms']:.0f} ms"


@pytest.mark.parametrize(
    ("path", "expected", "error"),
    [
        ("/down", {}, "status 503 instead of 200"),
        ("/", {"expect_text": "Goodbye"}, "'Goodbye' is not on the page"),
        ("/huge", {"expect_text": "y"}, "'y' is not on the page"),
        ("/slow", {"timeout": 0.1}, "no answer within 0.1 s"),
        ("/round", {}, "TooManyRedirects"),
        ("/nowhere", {}, ""),
        ("/rude", {}, "RemoteProtocolError"),
    ],
)
async def test_a_site_that_is_not_as_expected_is_not_ok_and_says_why(
    example: ModuleType, site: str, path: str, expected: dict[str, Any], error: str
) -> None:
    check, text = await visited(example, url=site + path, **expected)
    assert check["ok"] is False
    assert error in check["error"] == text


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://no-such-host.invalid/", "ConnectError"),
        ("http://127.0.0.1:1/", "ConnectError"),
        (f"http://{'a' * 64}.example/", ""),
    ],
    ids=["no such name", "nobody listens", "a name that cannot be"],
)
async def test_a_site_that_cannot_be_reached_is_not_ok_and_says_why(example: ModuleType, url: str, error: str) -> None:
    check, _ = await visited(example, url=url)
    assert check["ok"] is False
    assert check["status"] is None
    assert error in check["error"]


async def test_a_site_whose_tls_is_broken_is_not_ok_and_says_why(example: ModuleType) -> None:
    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"this is not TLS")
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        check, _ = await visited(example, url=f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert "SSL" in check["error"]


def start(peer: Peer, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", EXAMPLE, "--url", peer.url, "--key", KEY, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    peer.children.append(process)
    return process


async def test_the_example_watches_heeds_a_new_configuration_and_survives_a_bad_one(peer: Peer, site: str) -> None:
    peer.wish = Wish(config={"url": site, "every": 600})
    process = start(peer, "--instance", "3")
    await eventually(lambda: len(peer.data) >= 1)
    assert peer.data[0]["ok"] is True
    peer.wish = Wish(revision=2, config={"url": f"{site}/down", "every": 600})
    await eventually(lambda: len(peer.data) >= 2)
    assert peer.data[1]["error"] == "status 503 instead of 200"
    peer.wish = Wish(revision=3, config={"every": 0})
    await eventually(lambda: len(peer.data) >= 3)
    problem = peer.said("push_data")[2].body["records"][0]
    assert problem["kind"] == "problem"
    assert problem["data"]["problem"].startswith("url: Field required; every: ")
    await eventually(lambda: peer.said("heartbeat")[-1].body["status"].startswith("url: Field required"))
    peer.wish = Wish(revision=4, config={"url": site, "every": 600})
    await eventually(lambda: len(peer.data) >= 4)
    await eventually(lambda: peer.said("heartbeat")[-1].body["status"].startswith("200 in "))
    process.send_signal(signal.SIGTERM)
    _, log = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in log
    assert peer.said("leave")[0].body["reason"] == "shutdown"


async def test_several_watchers_share_a_process_and_each_has_its_slot_and_spool(peer: Peer, tmp_path: Path) -> None:
    process = start(peer, "--hostname", "farm-1", "--instance", "w", "--count", "3", "--spool", str(tmp_path))
    await eventually(lambda: len(peer.said("auth")) >= 3)
    process.send_signal(signal.SIGINT)
    await asyncio.to_thread(process.communicate, timeout=30)
    slots = {(call.body["hostname"], call.body["instance"]) for call in peer.said("auth")}
    assert slots == {("farm-1", "w-1"), ("farm-1", "w-2"), ("farm-1", "w-3")}
    names = await asyncio.to_thread(os.listdir, tmp_path)
    assert set(names) >= {f"farm-1~w-{number}.spool" for number in (1, 2, 3)}
    assert process.returncode == 0


async def test_the_example_says_in_one_line_what_is_missing(peer: Peer) -> None:
    process = start(peer, "--instance", "no spaces")
    _, log = await asyncio.to_thread(process.communicate, timeout=30)
    assert process.returncode == 1
    assert log.startswith("site_watcher: instance of this bot")
    assert log.count("\n") == 1
