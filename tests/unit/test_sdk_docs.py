"""`docs/sdk.md` is complete, and every program in it runs."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rota import Bot, Job
from rota.errors import problem_classes
from rota.sdk import EXIT_LEASE_OVER, bot
from tests.unit.sdk_peer import KEY, Peer, Wish, eventually

GUIDE = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as running:
        running.wish = Wish()
        yield running


def run(peer: Peer, program: str, folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program.replace("http://127.0.0.1:7682", peer.url)],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        | {"ROTA_URL": peer.url, "ROTA_ENROLMENT_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    peer.children.append(process)
    return process


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: f"program {PROGRAMS.index(program) + 1}")
async def test_a_program_of_the_guide_runs(peer: Peer, program: str, tmp_path: Path) -> None:
    process = run(peer, program, tmp_path)
    await eventually(lambda: peer.data)
    if "bot.stop()" not in program:
        process.terminate()
    output, errors = await asyncio.to_thread(process.communicate, timeout=30)
    assert (process.returncode, output, errors) == (0, "", "")


def test_the_guide_has_programs() -> None:
    assert len(PROGRAMS) == GUIDE.count("```python") >= 5


@pytest.mark.parametrize("name", [*vars(Job), "stopping", "reconfigured"])
def test_the_guide_tells_of_everything_that_a_job_has(name: str) -> None:
    assert name.startswith("_") or f"`job.{name}" in GUIDE


@pytest.mark.parametrize("name", list(inspect.signature(Bot).parameters))
def test_the_guide_tells_of_everything_that_describes_a_bot(name: str) -> None:
    assert f"| `{name}` |" in GUIDE


@pytest.mark.parametrize("name", sorted(set(re.findall(r"ROTA_[A-Z_]+", inspect.getsource(bot)))))
def test_the_guide_tells_of_every_environment_variable(name: str) -> None:
    assert f"`{name}`" in GUIDE


@pytest.mark.parametrize(
    "code",
    sorted(
        set(problem_classes())
        - {"sign_in_required", "forbidden", "not_found", "method_not_allowed", "conflict", "internal_error"}
    ),
)
def test_the_guide_tells_what_a_bot_does_about_every_code_of_the_protocol(code: str) -> None:
    assert re.search(rf"^\|.*`{code}`.*\|", GUIDE, re.MULTILINE)


def test_the_guide_tells_the_exit_code_of_the_last_resort() -> None:
    assert f"| {EXIT_LEASE_OVER} |" in GUIDE
