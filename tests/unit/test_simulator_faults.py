"""How often faults come, how long they last, and which slots are free again when."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.protocol import deadline_after_ms
from rota.simulator.faults import Rate, Slots, exit_delay, silence


@pytest.mark.parametrize(
    ("text", "per_second"),
    [("5/min", 5 / 60), ("1/s", 1.0), ("90/h", 0.025), ("12", 0.2), (" 0.5 / sec ", 0.5)],
)
def test_a_rate_is_read_in_any_of_its_units(text: str, per_second: float) -> None:
    assert Rate.parse(text).per_second == pytest.approx(per_second)


@pytest.mark.parametrize("text", ["", "often", "5/day", "-1/min", "5/", "0/min"])
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 5/min"):
        Rate.parse(text)


@given(st.floats(0.01, 100), st.integers())
def test_faults_come_at_their_rate_give_or_take_half(per_second: float, seed: int) -> None:
    pause = Rate(per_second).pause(Random(seed))
    assert 0.5 <= pause * per_second <= 1.5


@given(st.floats(1, 600), st.integers())
def test_a_bot_that_is_cut_off_is_silent_for_longer_than_rota_waits_for_it(ttl: float, seed: int) -> None:
    assert silence(ttl, Random(seed)) > deadline_after_ms(ttl) / 1000


def test_a_slot_is_not_taken_again_before_it_has_rested() -> None:
    slots = Slots("sim-1")
    assert [slots.take(0.0) for _ in range(2)] == [("1", 1), ("2", 1)]
    slots.free("1", rested_at=20.0)
    assert slots.take(19.0) == ("3", 1)
    assert slots.take(20.0) == ("1", 2)


def test_a_restart_is_the_next_process_in_the_same_slot() -> None:
    slots = Slots("sim-1")
    slots.take(0.0)
    assert slots.again("1") == ("1", 2)
    assert slots.again("1") == ("1", 3)


@given(st.floats(1, 600), st.integers())
def test_who_was_told_to_exit_comes_back_within_a_ttl_and_not_at_once(ttl: float, seed: int) -> None:
    assert ttl / 2 <= exit_delay(ttl, Random(seed)) <= ttl
