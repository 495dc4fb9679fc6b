"""Small commands start fast: what only the large ones need is loaded when one of those is called."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rota.cli import simulate
from rota.protocol import MAX_BEATS

LOADED = "import sys, rota.cli.app; print(*sys.modules)"


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """What is loaded before the command line is read."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["rota.simulator.simulation", "rota.chaos", "rota.sdk", "rota.protocol", "rota.settings", "pydantic", "structlog"],
)
def test_no_command_loads_what_only_a_large_one_needs(loaded: set[str], module: str) -> None:
    assert "rota.cli.bot" in loaded
    assert module not in loaded


def test_a_batch_of_simulated_bots_is_as_large_as_the_protocol_allows() -> None:
    assert simulate.MOST_OF_ONE_CALL == MAX_BEATS
