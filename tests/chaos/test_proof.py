"""How long a profile may wait for its next owner, and how much longer where bots ask seldom or the machine is late."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from rota.chaos.proof import slowness
from rota.chaos.stage import Options, Stage
from rota.chaos.witness import Account


def stage(ttl: float = 5.0, lag: float = 0.0) -> Stage:
    made = Stage.__new__(Stage)
    made.options = Options(ttl=ttl)
    made._crowd = cast("None", SimpleNamespace(loop_lag=SimpleNamespace(longest=lag)))
    return made


def test_a_profile_may_wait_for_two_seconds() -> None:
    assert slowness(stage(), Account(pause_max=1.99), 0) == ()
    [text] = slowness(stage(), Account(pause_max=2.01), 0)
    assert text == "a profile waited for 2.01 s after rota's deadline, more than 2.00 s"


def test_a_machine_that_is_late_makes_everybody_late() -> None:
    assert slowness(stage(lag=0.5), Account(pause_max=2.4), 0) == ()


def test_idle_bots_of_a_long_interval_ask_seldom() -> None:
    assert slowness(stage(ttl=90), Account(pause_max=32.9), 0) == ()
    assert slowness(stage(ttl=90), Account(pause_max=33.1), 0)


@pytest.mark.parametrize(("pause", "late"), [(7.9, False), (8.1, True)])
def test_after_a_jump_of_the_clock_it_may_take_a_lease_longer(pause: float, late: bool) -> None:
    assert bool(slowness(stage(), Account(pause_max=pause), 1)) is late


def test_a_scenario_in_which_nobody_had_to_wait_shows_nothing() -> None:
    assert slowness(stage(), Account(), 0) == ("no profile went from a dead bot to another",)
