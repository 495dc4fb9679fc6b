"""`rota serve` as an operator sees it: started, ended, killed, started again, and refused with one clear line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from rota import __version__
from rota.embedded import EmbeddedPostgres, Place
from rota.live.scripts import Live
from tests.acceptance.conftest import RotaServer
from tests.conformance.site import NO_TLS
from tests.unit.sdk_peer import eventually


class RawBot:
    """Speaks the protocol by hand, so that nothing of the SDK mends what a server did wrong."""

    def __init__(self, server: RotaServer, hostname: str, instance: str = "1") -> None:
        self.server = server
        self.work: dict[str, Any] | None = None
        body = {"hostname": hostname, "instance": instance}
        self.token = self.call("auth", body, server.enrolment_key).raise_for_status().json()["token"]

    def call(self, what: str, body: dict[str, Any], secret: str | None = None) -> httpx2.Response:
        headers = {"authorization": f"Bearer {secret or self.token}"}
        return httpx2.post(f"{self.server.url}/bot/{what}", json=body, headers=headers, timeout=20, verify=NO_TLS)

    def beat(self) -> str:
        """The instruction; a start is begun."""
        reply = self.call("heartbeat", {"working": self.work}).raise_for_status().json()
        if reply["instruction"] == "start":
            self.work = {name: reply["assignment"][name] for name in ("profile", "epoch", "revision")}
        return str(reply["instruction"])

    def push(self, batch: int) -> httpx2.Response:
        return self.call("push_data", {"batch": batch, "records": [{"kind": "check", "data": {"n": batch}}]})


def working_bot(server: RotaServer) -> RawBot:
    """A bot at work for a new profile."""
    server.list_server("farm-1")
    with server.api as api:
        api.post("/profiles", json={"name": "acme", "start": True}).raise_for_status()
    bot = RawBot(server, "farm-1")
    deadline = time.monotonic() + 100
    while bot.beat() != "start":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert bot.beat() == "continue"
    return bot


def records_of(server: RotaServer, bot: RawBot) -> list[int]:
    assert bot.work
    with server.api as api:
        page = api.get(f"/profiles/{bot.work['profile']}/records").raise_for_status().json()
    return [record["data"]["n"] for record in page["items"]]


def test_a_second_start_finds_bots_bindings_and_data_as_they_were(rota_server: RotaServer) -> None:
    bot = working_bot(rota_server)
    assert bot.push(1).json() == {"accepted": 1, "duplicate": False}
    key, port = rota_server.operator_key, rota_server.port
    assert rota_server.stop() == 0
    rota_server.start(port)
    assert rota_server.operator_key == key, "the operator's key is kept"
    assert bot.beat() == "continue"
    assert bot.push(1).json()["duplicate"] is True
    assert records_of(rota_server, bot) == [1]


def test_a_killed_parent_leaves_nothing_that_blocks_the_next_start(rota_server: RotaServer) -> None:
    bot = working_bot(rota_server)
    bot.push(1).raise_for_status()
    port = rota_server.port
    rota_server.kill()
    rota_server.start(port)
    assert bot.beat() == "continue"
    bot.push(2).raise_for_status()
    assert records_of(rota_server, bot) == [1, 2]


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_order_within_ten_seconds_although_a_page_is_open(
    rota_server: RotaServer, told: signal.Signals
) -> None:
    token = rota_server.sign_in_url.rpartition("=")[2]
    with httpx2.Client(base_url=rota_server.url) as browser, contextlib.suppress(httpx2.TransportError):
        browser.post("/sign-in", data={"token": token}, headers={"origin": rota_server.url})
        with browser.stream("GET", f"/stream?version={__version__}", timeout=20) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.iter_lines()
            assert "reload" not in next(lines)
            assert rota_server.process
            began = time.monotonic()
            rota_server.process.send_signal(told)
            assert rota_server.process.wait(12) == 0
            assert time.monotonic() - began < 10
            list(lines)
    assert not processes_below(rota_server.data_dir)


@pytest.mark.parametrize("victim", ["rota.web", "rota.steward", "valkey-server", "postgres"])
async def test_a_process_that_dies_is_started_again_and_no_binding_moves(rota_server: RotaServer, victim: str) -> None:
    bot = working_bot(rota_server)
    bot.push(1).raise_for_status()
    (pid, *_) = children(rota_server, victim)
    os.kill(pid, signal.SIGKILL)

    def works_again() -> bool:
        with contextlib.suppress(httpx2.HTTPError, AssertionError):
            return bot.beat() == "continue" and bot.push(2).status_code == 200
        return False

    await eventually(works_again, seconds=30)
    await eventually(lambda: bool(set(children(rota_server, victim)) - {pid}), seconds=30)
    assert records_of(rota_server, bot) == [1, 2]


def whole_log(server: RotaServer) -> str:
    return (server.data_dir.parent / f"{server.data_dir.name}.log").read_text()


def refused_postgres(server: RotaServer) -> tuple[Path, Path]:
    """A file without which PostgreSQL does not start, and where it is put meanwhile."""
    found = server.data_dir / "postgres" / "pg_hba.conf"
    return found, found.with_suffix(".away")


def refused_valkey(server: RotaServer) -> tuple[Path, Path]:
    """A folder in whose place Valkey finds a file."""
    found = server.data_dir / "valkey" / "appendonlydir"
    return found, found.with_suffix(".away")


@pytest.mark.parametrize(
    ("victim", "refused", "reason"),
    [
        ("postgres", refused_postgres, "could not load .*pg_hba.conf"),
        ("valkey-server", refused_valkey, "appendonlydir"),
    ],
)
async def test_a_store_whose_start_failed_is_tried_again_until_it_works(
    rota_server: RotaServer, victim: str, refused: Callable[[RotaServer], tuple[Path, Path]], reason: str
) -> None:
    bot = working_bot(rota_server)
    found, away = refused(rota_server)
    found.rename(away)
    if away.is_dir():
        found.touch()
    (pid, *_) = children(rota_server, victim)
    os.kill(pid, signal.SIGKILL)

    def failures() -> int:
        return len(re.findall(f"store does not start.*{reason}", whole_log(rota_server)))

    await eventually(lambda: failures() > 1, seconds=60)
    found.unlink(missing_ok=True)
    away.rename(found)

    def works_again() -> bool:
        with contextlib.suppress(httpx2.HTTPError, AssertionError):
            return bot.beat() == "continue" and bot.push(1).status_code == 200
        return False

    await eventually(works_again, seconds=60)
    await eventually(lambda: "store started again" in whole_log(rota_server))


async def test_it_ends_in_order_while_a_store_cannot_be_started(rota_server: RotaServer) -> None:
    found, away = refused_postgres(rota_server)
    found.rename(away)
    (pid, *_) = children(rota_server, "postgres")
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: "store does not start" in whole_log(rota_server), seconds=30)
    assert rota_server.stop() == 0


def test_a_second_rota_in_the_same_data_directory_is_refused(rota_server: RotaServer) -> None:
    line = refusal("--data-dir", str(rota_server.data_dir), "--port", "0")
    assert "is in use by process" in line
    assert "--data-dir" in line


def test_a_taken_port_is_refused(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refusal("--data-dir", str(data_dir), "--port", port)
    assert line == (
        f"rota: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another with --port, or --port 0 for a free one"
    )


@pytest.mark.parametrize(
    ("setting", "url", "words"),
    [
        ("ROTA_REDIS_URL", "redis://127.0.0.1:1", ("cannot reach Redis", "ROTA_REDIS_URL")),
        ("ROTA_REDIS_URL", "nonsense", ("ROTA_REDIS_URL",)),
        ("ROTA_DATABASE_URL", "postgresql://x@127.0.0.1:1/x", ("cannot reach PostgreSQL", "ROTA_DATABASE_URL")),
        ("ROTA_DATABASE_URL", "mysql://x", ("ROTA_DATABASE_URL",)),
        ("ROTA_DATABASE_URL", "postgresql://x@127.0.0.1:bad/x", ("ROTA_DATABASE_URL",)),
        ("ROTA_WORKERS", "none", ("ROTA_WORKERS",)),
        ("ROTA_SECRET_KEY", "x", ("ROTA_SECRET_KEY", "32")),
        ("ROTA_PUBLIC_URL", "nonsense", ("ROTA_PUBLIC_URL",)),
        ("ROTA_SSL_CERTFILE", "/nowhere.pem", ("cannot use the certificate /nowhere.pem", "No such file")),
    ],
)
def test_a_store_or_setting_that_cannot_be_used_is_refused_in_one_line(
    data_dir: Path, setting: str, url: str, words: tuple[str, ...]
) -> None:
    line = refusal("--data-dir", str(data_dir), "--port", "0", **{setting: url})
    for word in words:
        assert word in line


def test_a_server_that_is_no_redis_is_refused_in_one_line(data_dir: Path, rota_server: RotaServer) -> None:
    url = f"redis://127.0.0.1:{rota_server.port}"
    assert "ROTA_REDIS_URL" in refusal("--data-dir", str(data_dir.parent / "other"), "--port", "0", ROTA_REDIS_URL=url)


async def test_a_wrong_password_is_refused_in_one_line(data_dir: Path, valkey_url: str, live: Live) -> None:
    await live.read(("ACL", "SETUSER", "guarded", "on", ">right", "~*", "+@all"))
    url = valkey_url.replace("unix://", "unix://guarded:wrong@")
    line = await asyncio.to_thread(refusal, "--data-dir", str(data_dir), "--port", "0", ROTA_REDIS_URL=url)
    await live.read(("ACL", "DELUSER", "guarded"))
    assert "Redis refuses the user or the password in ROTA_REDIS_URL" in line


def test_a_wrong_database_password_is_refused_in_one_line(data_dir: Path) -> None:
    place = Place(data_dir)
    place.open()
    with EmbeddedPostgres(place) as postgres:
        access = place.home / "postgres" / "pg_hba.conf"
        access.write_text("local all all scram-sha-256\n")
        run = [str(postgres.program("pg_ctl")), "reload", "-D", str(place.home / "postgres")]
        subprocess.run(run, check=True, capture_output=True, **place.as_user())
        url = postgres.url.replace("rota@", "rota:wrong@")
        line = refusal("--data-dir", str(data_dir.parent / "other"), "--port", "0", ROTA_DATABASE_URL=url)
        access.write_text("local all all trust\n")
    place.close()
    assert "password" in line
    assert "ROTA_DATABASE_URL" in line


def test_a_user_that_may_not_make_tables_is_refused_in_one_line(
    data_dir: Path, postgres: EmbeddedPostgres, database_url: str
) -> None:
    psql = [str(postgres.program("psql")), "-h", str(postgres.sockets), "-U", "rota", "-d", "rota", "-qc"]
    subprocess.run([*psql, "DROP ROLE IF EXISTS reader"], check=True, capture_output=True)
    subprocess.run([*psql, "CREATE ROLE reader LOGIN"], check=True, capture_output=True)
    url = database_url.replace("rota@", "reader@") + "&sslmode=prefer"
    line = refusal("--data-dir", str(data_dir), "--port", "0", ROTA_DATABASE_URL=url)
    assert line.startswith("rota: cannot migrate the database: permission denied")


def test_a_settings_file_is_read_by_the_parent_alone(data_dir: Path) -> None:
    elsewhere = data_dir.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "rota.toml").write_text('ssl_certfile = "/nowhere.pem"\n')
    (elsewhere / "other.toml").write_text("workers = 1\n")
    server = RotaServer(data_dir, "--config", str(elsewhere / "other.toml"), cwd=elsewhere)
    server.start()
    assert server.stop() == 0


def refusal(*options: str, **environment: str) -> str:
    """The one line with which `rota serve` refuses to start; it must end with code 2 and without a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "rota", "serve", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("rota: ")]
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert len(lines) == 1, done.stderr
    return lines[0]


def children(server: RotaServer, name: str) -> list[int]:
    """Direct children of `rota serve` whose command line names this, oldest first."""
    assert server.process
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == server.process.pid and name in (status.parent / "cmdline").read_text():
                found.append(int(status.parent.name))
    return sorted(found)


def processes_below(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = line.read_text()
            if str(folder) in words:
                found.append(words.replace("\0", " "))
    return found
