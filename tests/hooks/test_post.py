"""One attempt: where it goes, what it says, and what is made of every kind of answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from rota.hooks import address
from rota.hooks.address import Networks
from rota.hooks.post import MOST_ANSWER, Post
from rota.hooks.signature import headers, new_secret
from tests.hooks.receiver import Answer, Received, Receiver, answer, is_signed_by

LOOPBACK = Networks("127.0.0.0/8, ::1")


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    async with Post(LOOPBACK, connect=2, whole=3) as made:
        yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as made:
        yield made


def always(said: Answer) -> Any:
    async def decide(_received: Received) -> Answer:
        return said

    return decide


async def test_a_receiver_gets_a_message_whose_signature_it_can_prove(post: Post, receiver: Receiver) -> None:
    old, new = new_secret(), new_secret()
    body = b'{"type":"webhook.test"}'
    outcome = await post.send(receiver.url, headers([new, old], "msg_1", 1_763_900_000, body), body)
    assert outcome.is_delivered
    assert outcome.status == 204
    (received,) = receiver.received
    assert received.body == body
    assert received.target == "/hook?from=rota"
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["webhook-id"] == "msg_1"
    assert is_signed_by(old, received)
    assert is_signed_by(new, received)
    assert not is_signed_by(new_secret(), received)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 410, 429, 500, 503, 599])
async def test_everything_but_2xx_is_a_failure_and_no_redirect_is_followed(
    post: Post, receiver: Receiver, status: int
) -> None:
    receiver.decide = always(answer(status, b"no", location=receiver.url))
    outcome = await post.send(receiver.url, {}, b"{}")
    assert outcome.status == status
    assert str(status) in outcome.error
    assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [200, 201, 202, 299])
async def test_every_2xx_is_a_success(post: Post, receiver: Receiver, status: int) -> None:
    receiver.decide = always(answer(status, b"thanks"))
    assert (await post.send(receiver.url, {}, b"{}")).is_delivered


async def test_a_wish_to_be_left_alone_is_read_in_both_forms(post: Post, receiver: Receiver) -> None:
    receiver.decide = always(answer(429, retry_after="120"))
    assert (await post.send(receiver.url, {}, b"{}")).retry_after == 120
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
    receiver.decide = always(answer(503, Retry_After=soon))
    asked = (await post.send(receiver.url, {}, b"{}")).retry_after
    assert asked is not None
    assert 290 < asked <= 300
    for nonsense in ("soon", "-5", "9" * 400, "Thu, 99 Nov 2026 00:00:00 GMT"):
        receiver.decide = always(answer(503, retry_after=nonsense))
        assert (await post.send(receiver.url, {}, b"{}")).retry_after in (None, 1e9)


async def test_a_receiver_that_says_nothing_is_given_up(receiver: Receiver) -> None:
    never = asyncio.Event()

    async def silent(_received: Received) -> Answer:
        await never.wait()
        return b""

    receiver.decide = silent
    async with Post(LOOPBACK, whole=0.3) as post:
        outcome = await post.send(receiver.url, {}, b"{}")
    assert outcome.error == "no answer within 0 s"
    assert outcome.status is None
    assert outcome.took < 10
    never.set()


async def test_a_receiver_that_trickles_is_given_up_as_a_whole() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        try:
            while True:
                writer.write(b".")
                await writer.drain()
                await asyncio.wait_for(reader.read(1), 0.05)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    async with Post(LOOPBACK, whole=0.5) as post:
        outcome = await post.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, b"{}")
    assert outcome.error
    assert outcome.took < 10
    server.close()
    await server.wait_closed()


async def test_an_endless_answer_is_cut_off_and_its_status_counts(post: Post, receiver: Receiver) -> None:
    receiver.decide = always(answer(200, b"x" * (MOST_ANSWER * 20)))
    assert (await post.send(receiver.url, {}, b"{}")).is_delivered


@pytest.mark.parametrize(
    "said", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, b"\x00" * 40]
)
async def test_whatever_is_no_answer_is_a_failure_in_words(post: Post, said: bytes) -> None:
    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(odd, "127.0.0.1", 0)
    outcome = await post.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, b"{}")
    assert outcome.error
    assert outcome.status is None
    server.close()
    await server.wait_closed()


async def test_a_port_where_nobody_listens_is_a_failure(post: Post) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        outcome = await post.send(f"http://127.0.0.1:{held.getsockname()[1]}/", {}, b"{}")
    assert outcome.error == "connection refused"


async def test_connections_are_kept_from_message_to_message(post: Post, receiver: Receiver) -> None:
    for _ in range(3):
        assert (await post.send(receiver.url, {}, b"{}")).is_delivered
    assert receiver.connections == 1


async def test_a_name_that_is_rebound_to_this_machine_is_refused_at_the_connection(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name was public when it was registered, and is not any more."""
    monkeypatch.setattr(address, "_look_up", lambda _host, _port: ["127.0.0.1"])
    async with Post(Networks()) as post:
        outcome = await post.send(f"https://receiver.example:{receiver.port}/", {}, b"{}")
    assert "loopback" in outcome.error
    assert receiver.connections == 0


async def test_one_bad_address_among_good_ones_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_look_up", lambda _host, _port: ["1.1.1.1", "10.0.0.1"])
    async with Post(Networks()) as post:
        error = (await post.send("https://receiver.example/", {}, b"{}")).error
    assert "receiver.example leads to a private" in error
    assert "10.0.0.1" not in error, "what a name means inside is nobody's business"


async def test_a_name_is_resolved_once_for_each_connection(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer is checked and used; a second one, which could differ, is never asked for."""
    asked: list[str] = []

    def look_up(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.99"]

    def not_again(*_arguments: object) -> None:
        raise AssertionError("the name was resolved a second time")

    monkeypatch.setattr(address, "_look_up", look_up)
    async with Post(LOOPBACK) as post:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", not_again)
        outcome = await post.send(f"http://receiver.example:{receiver.port}/", {}, b"{}")
    assert outcome.is_delivered
    assert asked == ["receiver.example"]
    assert receiver.received[0].headers["host"] == f"receiver.example:{receiver.port}"


async def test_the_next_address_is_tried_where_one_does_not_answer(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "_look_up", lambda _host, _port: ["127.0.0.77", "127.0.0.1"])
    async with Post(LOOPBACK) as post:
        assert (await post.send(f"http://receiver.example:{receiver.port}/", {}, b"{}")).is_delivered


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for this name, which only whoever is given it believes, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name}"]
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


async def test_tls_proves_the_name_though_the_connection_goes_to_a_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(address, "_look_up", lambda _host, _port: ["127.0.0.1"])
    certificate, key = self_signed(tmp_path, "receiver.example")
    names: list[str | None] = []
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    serving.sni_callback = lambda _socket, name, _context: names.append(name)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with Receiver(tls=serving) as receiver, Post(LOOPBACK, tls=trusting) as post:
        assert (await post.send(f"https://receiver.example:{receiver.port}/", {}, b"{}")).is_delivered
        wrong = await post.send(f"https://another.example:{receiver.port}/", {}, b"{}")
        assert "certificate" in wrong.error
        assert len(receiver.received) == 1
    assert names == ["receiver.example", "another.example"]


async def test_a_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1/")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1/")
    async with Post(LOOPBACK) as post:
        assert (await post.send(receiver.url, {}, b"{}")).is_delivered
