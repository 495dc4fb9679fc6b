"""Two short scenarios on a real installation, from the command line to the last process."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rota.chaos.scenarios import SCENARIOS

WITHIN = 280

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the installation's directory is made: short enough for unix sockets, and passable for the stores' user."""
    made = Path(tempfile.mkdtemp(prefix="rc-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "rota", "chaos", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=WITHIN, env=environment)


@pytest.mark.parametrize("scenario", ["all-web-killed", "valkey-flushed"])
def test_the_promises_hold(scenario: str, folder: Path) -> None:
    done = run(folder, scenario, "--bots", "40", "--ttl", "4", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    (outcome,) = found["scenarios"]
    assert (found["ok"], outcome["scenario"], outcome["broken"]) == (True, scenario, False)
    assert outcome["acknowledged"] > 0
    assert outcome["moves"] == 0
    assert f"{scenario}: kept" in done.stderr
    assert not list(folder.iterdir()), "something was left behind"


def test_every_acknowledged_record_is_there_once_whatever_is_killed(folder: Path) -> None:
    done = run(folder, "everything-killed", "--bots", "20", "--ttl", "4", "--records", "3000", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (outcome,) = json.loads(done.stdout)["scenarios"]
    assert outcome["broken"] is False
    (told,) = outcome["told"]
    assert int(re.findall(r"(\d+) records acknowledged", told)[0]) >= 3000, told
    assert "lost 0, doubled 0, incomplete 0, out of order 0, under an old epoch 0" in told
    assert re.findall(r"(\w+) [1-9]\d*", told.partition("killed: ")[2]) == [
        "bots",
        "postgres",
        "steward",
        "valkey",
        "web",
    ]


def test_an_unknown_scenario_is_refused_before_anything_starts(folder: Path) -> None:
    done = run(folder, "earthquake")
    assert done.returncode == 2
    assert "earthquake" in done.stderr


def test_the_list_names_every_scenario(folder: Path) -> None:
    listed = json.loads(run(folder, "--list", "--json").stdout)
    assert [item["name"] for item in listed["items"]] == [scenario.name for scenario in SCENARIOS]
