"""The `rota` command as a subprocess against a running rota: what people read, what programs read, exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis import Redis
from typer.main import get_command

from rota.cli.app import app
from tests.acceptance.conftest import RotaServer, temporary_data_dir
from tests.acceptance.test_serve import RawBot

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[RotaServer]:
    """One installation for all tests of this module: each makes what it needs under a name of its own."""
    with temporary_data_dir() as folder:
        running = RotaServer(folder)
        running.start()
        yield running
        running.stop()


@pytest.fixture
def rota(server: RotaServer) -> Run:
    def run(*arguments: str, code: int = 0, text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "rota", *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "ROTA_DATA_DIR": str(server.data_dir), "NO_COLOR": "1", **environment},
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def name() -> str:
    return f"n{uuid4().hex[:8]}"


def read(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_the_life_of_a_profile(rota: Run, name: str) -> None:
    made = read(rota("profile", "create", name, "--config", '{"url": "u"}', "--label", "kind=x", "--json"))
    assert (made["wanted"], made["phase"], made["labels"]) == (False, "stopped", {"kind": "x"})
    (started,) = read(rota("profile", "start", name, "--json"))["items"]
    assert (started["wanted"], started["phase"]) == (True, "waiting")
    changed = read(rota("profile", "change", made["id"], "--config", "-", "--json", text='{"url": "v"}'))
    assert (changed["revision"], changed["config"]) == (2, {"url": "v"})
    assert read(rota("profile", "release", name, "--json"))["crashes"] == 0
    (stopped,) = read(rota("profile", "stop", made["id"], "--json"))["items"]
    assert stopped["phase"] == "stopped"
    assert read(rota("profile", "show", name, "--json"))["id"] == made["id"]
    listed = read(rota("profile", "list", "--name", name, "--json"))["items"]
    assert [profile["name"] for profile in listed] == [name]
    revisions = read(rota("profile", "revisions", name, "--json"))["items"]
    assert [revision["config"]["url"] for revision in revisions] == ["u", "v"]
    assert name in rota("profile", "list", "--name", name).stdout
    rota("profile", "delete", name, "--yes")
    assert f"there is no profile named '{name}'" in rota("profile", "show", name, code=2).stderr


def test_a_profile_is_not_deleted_without_a_yes(rota: Run, name: str) -> None:
    rota("profile", "create", name)
    rota("profile", "delete", name, text="n\n", code=1)
    rota("profile", "show", name)


def test_a_name_that_two_profiles_bear_is_not_guessed(rota: Run, name: str) -> None:
    ids = [read(rota("profile", "create", name, "--json"))["id"] for _ in range(2)]
    error = rota("profile", "start", name, code=2).stderr
    assert all(profile in error for profile in ids)


def test_one_unknown_profile_does_not_keep_the_others_from_starting(rota: Run, name: str) -> None:
    rota("profile", "create", name)
    assert "nowhere" in rota("profile", "start", "nowhere", name, code=2).stderr
    assert read(rota("profile", "show", name, "--json"))["wanted"] is True
    rota("profile", "stop", name)


def test_lists_are_paged(rota: Run, name: str) -> None:
    for number in range(3):
        rota("profile", "create", f"{name}-{number}")
    first = read(rota("profile", "list", "--name", name, "--limit", "2", "--json"))
    assert len(first["items"]) == 2
    assert f"more: --after {first['next']}" in rota("profile", "list", "--name", name, "--limit", "2").stderr
    rest = read(rota("profile", "list", "--name", name, "--after", first["next"], "--json"))
    assert len(rest["items"]) == 1
    assert rest["next"] is None


def test_the_life_of_a_server_and_its_bot(rota: Run, server: RotaServer, name: str) -> None:
    made = read(rota("server", "add", name, "--bots", "2", "--label", "kind=y", "--json"))
    assert made["expected_bots"] == 2
    bot = RawBot(server, name)
    assert bot.beat() == "wait"
    profile = read(rota("profile", "create", name, "--label", "kind=y", "--start", "--json"))["id"]
    assert bot.beat() == "start"
    assert bot.beat() == "continue"
    assert bot.push(1).status_code == 200
    (listed,) = read(rota("bot", "list", "--server", name, "--json"))["items"]
    assert (listed["id"], listed["phase"], listed["profile"]) == (f"{name}/1", "working", profile)
    assert f"{name}/1" in rota("bot", "list", "--server", name, "--phase", "working").stdout
    assert read(rota("bot", "show", f"{name}/1", "--json"))["labels"] == {"kind": "y"}
    records = read(rota("records", "list", name, "--kind", "check", "--json"))["items"]
    assert [record["data"] for record in records] == [{"n": 1}]
    assert rota("server", "list").stdout.count(name) == 1
    assert read(rota("server", "show", name, "--json"))["actual_bots"] == 1
    assert read(rota("check", "--json", code=1))["ok"] is False
    assert f"server {name} runs 1 of 2 bots" in rota("check", code=1).stdout
    rota("server", "change", name, "--bots", "1")
    rota("bot", "drain", f"{name}/1")
    rota("bot", "undrain", f"{name}/1")
    assert read(rota("bot", "kill", f"{name}/1", "--json")) == {"verb": "kill", "bots": [f"{name}/1"]}
    assert bot.call("heartbeat", {}).json()["code"] == "unknown_bot"
    assert "rota bot list" in rota("bot", "kill", f"{name}/1", code=2).stderr
    rota("profile", "stop", name)
    assert read(rota("server", "remove", name, "--json"))["removed"] is True
    (worked,) = read(rota("who", "--profile", name, "--json"))["items"]
    assert (worked["bot"], worked["profile"], worked["reason"]) == (f"{name}/1", profile, "killed: operator")
    assert read(rota("who", "--bot", f"{name}/1", "--at", worked["started_at"][:19] + "Z", "--json"))["items"] == []
    assert read(rota("who", "--bot", f"{name}/1", "--at", "2999-01-01T00:00:00", "--json"))["items"] == []
    assert name in rota("who", "--bot", f"{name}/1").stdout
    assert "working" in {event["kind"] for event in read(rota("fleet", "events", "--profile", name, "--json"))["items"]}
    assert "working" in {
        event["kind"] for event in read(rota("fleet", "events", "--bot", f"{name}/1", "--json"))["items"]
    }


def test_a_server_is_drained_and_taken_back(rota: Run, server: RotaServer, name: str) -> None:
    made = read(rota("server", "add", name, "--bots", "2", "--json"))
    bot = RawBot(server, name)
    drained = read(rota("server", "drain", name, "--within", "600", "--json"))
    assert (drained["subject"], drained["bots_left"]) == (name, 1)
    assert drained["deadline"] is not None
    assert bot.beat() == "exit"
    assert read(rota("server", "drain", made["id"], "--json"))["deadline"] is None
    assert name in rota("server", "drains").stdout
    (listed,) = [one for one in read(rota("server", "drains", "--json"))["items"] if one["subject"] == name]
    assert listed["bots_left"] == 1
    shown = read(rota("server", "show", name, "--json"))
    assert (shown["draining"], shown["drain_deadline"]) == (True, None)
    with server.api as api:
        findings = api.get("/fleets/default/check").raise_for_status().json()["findings"]
    assert name not in {finding["subject"] for finding in findings}, "it may lack bots"
    assert f"`rota server undrain {name}`" in rota("bot", "undrain", f"{name}/1", code=2).stderr
    assert read(rota("server", "undrain", name, "--json")) == {"subject": name, "draining": False}
    assert bot.beat() == "wait"
    assert f"{name} is not being drained in fleet default" in rota("server", "undrain", name, code=2).stderr
    rota("bot", "drain", f"{name}/1", "--within", "600")
    (listed,) = [one for one in read(rota("server", "drains", "--json"))["items"] if one["subject"] == f"{name}/1"]
    assert listed["deadline"] is not None
    rota("bot", "undrain", f"{name}/1")
    rota("bot", "kill", f"{name}/1")
    rota("server", "remove", name)


def test_incidents_are_listed(rota: Run) -> None:
    assert read(rota("incident", "list", "--open", "--json")) == {"items": [], "next": None}
    assert "(none)" in rota("incident", "list", "--limit", "1").stderr


def test_a_profile_that_crashed_shows_attempt_and_next_try(rota: Run, server: RotaServer, name: str) -> None:
    rota("server", "add", name, "--bots", "1", "--label", f"host={name}")
    rota("profile", "create", name, "--label", f"host={name}", "--start")
    bot = RawBot(server, name)
    assert bot.beat() == "start"
    bot.call("leave", {"reason": "crash"})
    shown = rota("profile", "show", name).stdout
    assert re.search(r"attempt +2\s", shown)
    assert re.search(r"next try +\d{4}-", shown)
    assert "its bot crashed once" in shown
    assert "next try" in rota("profile", "list", "--name", name).stdout
    rota("profile", "stop", name)
    rota("server", "remove", name)


def test_a_clients_key_sees_that_clients_profiles_alone(rota: Run, name: str) -> None:
    rota("account", "create", name)
    rota("profile", "create", f"{name}-theirs", "--account", name)
    rota("profile", "create", f"{name}-other")
    key = rota("key", "create", "--account", name, "--label", name).stdout.strip()
    listed = read(rota("profile", "list", "--json", "--key", key))["items"]
    assert [profile["name"] for profile in listed] == [f"{name}-theirs"]
    assert "operator" in rota("bot", "list", ROTA_API_KEY=key, code=2).stderr
    (kept,) = [made for made in read(rota("key", "list", "--limit", "500", "--json"))["items"] if made["label"] == name]
    assert "key" not in kept
    rota("key", "revoke", kept["id"])
    assert "revoked" in rota("profile", "list", "--key", key, code=2).stderr


def test_an_enrolment_key_that_is_revoked_lets_nobody_in(rota: Run, server: RotaServer, name: str) -> None:
    made = read(rota("enrolment", "create", "--label", name, "--expires", "2999-01-01", "--json"))
    assert made["expires_at"].startswith("2999-01-01")
    rota("server", "add", name, "--bots", "0")
    server_key, server._enrolment_key = server.enrolment_key, made["key"]
    RawBot(server, name)
    rota("enrolment", "revoke", made["id"])
    with pytest.raises(Exception, match="401"):
        RawBot(server, name)
    server._enrolment_key = server_key
    assert name in rota("enrolment", "list", "--limit", "500").stdout


def test_a_fleet_is_made_shown_and_changed(rota: Run, name: str) -> None:
    assert read(rota("fleet", "create", name, "--interval", "5", "--ttl", "20", "--json"))["ttl"] == 20
    assert read(rota("fleet", "change", name, "--ttl", "30", "--json"))["ttl"] == 30
    assert read(rota("fleet", "status", name, "--json"))["bots"]["total"] == 0
    assert "working 0" in rota("fleet", "status", name).stdout
    assert name in rota("fleet", "list").stdout
    assert "at least two intervals" in rota("fleet", "change", name, "--ttl", "1", code=2).stderr


def test_a_deep_check_compares_everything_and_says_what_it_mended(rota: Run, server: RotaServer, name: str) -> None:
    rota("fleet", "create", name)
    with server.api as api:
        while api.get(f"/fleets/{name}/check").raise_for_status().json()["findings"]:
            time.sleep(0.1)  # until the steward has built its live state
    sound = read(rota("check", "--deep", "--fleet", name, "--json"))
    assert sound == {"ok": True, "findings": [], "compared": 0, "differences": [], "skipped": []}
    (socket,) = server.data_dir.rglob("valkey.sock")
    with Redis(unix_socket_path=str(socket)) as store:
        # A profile that the ledger has never heard of, started and waiting for nobody.
        store.hset(f"{{{name}}}:profiles", "prf_ghost", "- 0 1 1 0 o 0")
        store.hincrby(f"{{{name}}}:counts", "po", 1)
    told = rota("check", "--deep", "--fleet", name, code=1)
    assert "1 of 1 differed, and were mended" in told.stdout
    assert "prf_ghost: the ledger does not know it" in told.stdout
    (incident,) = read(rota("incident", "list", "--fleet", name, "--json"))["items"]
    assert incident["kind"] == "live_differs"
    assert "live_differs since" in rota("check", "--fleet", name, code=1).stdout
    assert "live state mended" in server.log()


def test_login_prints_a_link_that_works_once(rota: Run) -> None:
    link = rota("login").stdout.strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/sign-in\?token=\S+", link)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["profile", "create", "x", "--config", "{bad"], "not JSON"),
        (["profile", "create", "x", "--config", "[]"], "JSON object"),
        (["profile", "create", "x", "--config", "@/nowhere.json"], "cannot read it"),
        (["profile", "create", "x", "--config", '{"a": NaN}'], "cannot be sent as JSON"),
        (["profile", "create", "x", "--config", '{"a": "\\ud800"}'], "cannot be sent as JSON"),
        (["profile", "list", "--key", "wr\u00f6ng"], "no API key"),
        (["fleet", "create", "x", "--interval", "nan", "--ttl", "90"], "cannot be sent as JSON"),
        (["fleet", "status", "../accounts"], "nothing here by that name"),
        (["key", "revoke", ""], "is not a name"),
        (["bot", "show", "../.."], "is not a name"),
        (["profile", "create", "x", "--label", "kind"], "NAME=VALUE"),
        (["profile", "create", ""], "name: must be 1 to 200 printable characters"),
        (["profile", "create", "x", "--fleet", "nowhere"], "no fleet 'nowhere'"),
        (["profile", "change", "x"], "nothing is to be changed"),
        (["server", "change", "x"], "nothing is to be changed"),
        (["server", "add", "no spaces", "--bots", "1"], "hostname"),
        (["server", "add", "x", "--bots", "-1"], "--bots"),
        (["bot", "show", "x"], "<hostname>/<instance>"),
        (["bot", "list", "--phase", "odd"], "phase"),
        (["server", "drain", "nowhere"], "There is no server nowhere"),
        (["server", "drain", "bot-farm-*"], "must be one hostname"),
        (["server", "drain", "h/1"], "rota bot drain"),
        (["server", "drain", "srv_nowhere"], "no server srv_nowhere"),
        (["server", "drain", "h", "--within", "-1"], "within"),
        (["server", "undrain", "h"], "h is not being drained"),
        (["server", "drains", "--fleet", "nowhere"], "no fleet 'nowhere'"),
        (["incident", "list", "--fleet", "nowhere"], "no fleet 'nowhere'"),
        (["incident", "list", "--after", "x"], "after"),
        (["who"], "either --profile or --bot"),
        (["key", "create"], "either --account"),
        (["key", "revoke", "key_nowhere"], "key_nowhere"),
        (["fleet", "status", "nowhere"], "no fleet 'nowhere'"),
        (["fleet", "events", "--profile", "nowhere"], "no profile named 'nowhere'"),
        (["fleet", "events", "--profile", "prf_nowhere"], "no profile prf_nowhere"),
        (["fleet", "events", "--bot", "nowhere"], "<hostname>/<instance>"),
        (["fleet", "events", "--bot", "no/where"], "no bot no/where"),
        (["who", "--profile", "nowhere"], "no profile named 'nowhere'"),
        (["check", "--fleet", "nowhere"], "no fleet 'nowhere'"),
        (["simulate", "--kill", "often"], "--kill"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_refused_with_what_to_do(rota: Run, arguments: list[str], words: str) -> None:
    told = re.sub(r"[\s│]+", " ", rota(*arguments, code=2).stderr)
    assert words in told


def test_an_output_that_is_full_is_said_in_one_line(server: RotaServer) -> None:
    command = [sys.executable, "-m", "rota", "profile", "list", "--json", "--data-dir", str(server.data_dir)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (2, "rota: cannot write: [Errno 28] No space left on device\n")


def test_a_rota_that_is_not_there_is_said_in_one_line(rota: Run) -> None:
    error = rota("profile", "list", "--url", "http://127.0.0.1:1", code=2).stderr
    assert error.startswith("rota: cannot reach rota at http://127.0.0.1:1")
    assert error.count("\n") == 1


def test_an_address_that_is_not_rotas_is_said_in_one_line(rota: Run, server: RotaServer) -> None:
    error = rota("profile", "list", "--url", f"{server.url}/static", code=2).stderr
    assert "is the address right?" in error or "no such" in error.lower()


def test_without_an_address_the_command_says_how_to_give_one(rota: Run, tmp_path: Path) -> None:
    error = rota("profile", "list", ROTA_DATA_DIR=str(tmp_path), code=2).stderr
    assert error == "rota: where is rota? Start one with `rota serve`, or give --url (ROTA_URL)\n"


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command, those of groups within groups too."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        verbs = getattr(command, "commands", None)
        if verbs is None:
            yield words
        for verb, deeper in (verbs or {}).items():
            yield from below(deeper, (*words, verb))

    yield from below(get_command(app), ())


WRITES_NOTHING_TO_READ = {("serve",)}


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_has_help_and_json(words: tuple[str, ...]) -> None:
    command: Any = get_command(app)
    for word in words:
        command = command.commands[word]
    assert command.help
    options = {option for parameter in command.params for option in parameter.opts}
    if words not in WRITES_NOTHING_TO_READ:
        assert "--json" in options
    documented = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert f"`rota {' '.join(words)}`" in documented
    for option in options:
        if option.startswith("--"):
            assert f"`{option}`" in documented, f"docs/cli.md does not tell of {option}"
