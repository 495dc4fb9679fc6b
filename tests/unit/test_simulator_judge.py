"""The judge finds what is wrong in a history, all of it, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.simulator.judge import KEPT_VIOLATIONS, Judge, Worker

ANNA, BERT, CARL = Worker("sim-1/1", 1), Worker("sim-1/2", 1), Worker("sim-2/1", 1)
PROFILE = "prf_a"


@dataclass(frozen=True)
class Stretch:
    """One stretch of work in an imagined history."""

    worker: int
    begin: int
    end: int


@st.composite
def histories(draw: st.DrawFn) -> list[Stretch]:
    """Stretches of work on one profile by several workers; those of one worker never overlap."""
    stretches = []
    for worker in range(draw(st.integers(1, 4))):
        at = 0
        for _ in range(draw(st.integers(0, 4))):
            begin = at + draw(st.integers(0, 20))
            end = begin + draw(st.integers(1, 20))
            stretches.append(Stretch(worker, begin, end))
            at = end
    return stretches


def overlaps(stretches: list[Stretch]) -> int:
    """By brute force: how often somebody begins while another works; who begins at once begins in turn."""
    order = sorted(stretches, key=lambda stretch: (stretch.begin, stretch.worker))
    return sum(
        other.worker != mine.worker and other.begin <= mine.begin < other.end
        for place, mine in enumerate(order)
        for other in order[:place]
    )


@given(histories())
def test_the_judge_finds_every_overlap_and_invents_none(stretches: list[Stretch]) -> None:
    judge = Judge()
    deeds = [(stretch.end, 0, stretch) for stretch in stretches]
    deeds += [(stretch.begin, 1, stretch) for stretch in stretches]
    for at, begins, stretch in sorted(deeds, key=lambda deed: (deed[0], deed[1], deed[2].worker)):
        worker = Worker(f"sim-1/{stretch.worker}", 1)
        if begins:
            judge.began(PROFILE, worker, 1, at)
        else:
            judge.ended(PROFILE, worker, at)
    assert judge.violation_count == overlaps(stretches)
    assert judge.starts == len(stretches)
    assert judge.working(PROFILE) == ()


@given(st.lists(st.integers(1, 6), max_size=7), st.integers(1, 6), st.integers(0, 8))
def test_data_is_a_violation_exactly_if_it_was_sent_after_a_newer_epoch_was_told(
    epochs: list[int], pushed: int, sent: int
) -> None:
    judge = Judge()
    told = sorted(set(epochs))
    for at, epoch in enumerate(told):
        judge.told(PROFILE, ANNA, epoch, at)
    judge.stored(PROFILE, BERT, pushed, sent, 10)
    guilty = any(epoch > pushed and at < sent for at, epoch in enumerate(told))
    assert judge.violation_count == guilty


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12))
def test_epochs_that_fall_are_violations_and_epochs_that_rise_are_none(epochs: list[int]) -> None:
    judge = Judge()
    for at, epoch in enumerate(epochs):
        judge.told(PROFILE, ANNA, epoch, at)
    falls, highest = 0, 0
    for epoch in epochs:
        falls += epoch < highest
        highest = max(highest, epoch)
    assert judge.violation_count == falls


def test_the_same_epoch_told_to_two_workers_is_a_violation_and_told_twice_to_one_is_none() -> None:
    judge = Judge()
    judge.told(PROFILE, ANNA, 5, 1.0)
    judge.told(PROFILE, ANNA, 5, 2.0)
    assert judge.violation_count == 0
    judge.told(PROFILE, BERT, 5, 3.0)
    assert judge.violations == [f"at 3.000 s: epochs: {ANNA} and {BERT} were told the same epoch 5 of {PROFILE}"]


def test_a_violation_of_promise_1_names_both_workers_and_how_long_the_first_had_worked() -> None:
    judge = Judge(origin=100.0)
    judge.began(PROFILE, ANNA, 5, 101.0)
    judge.began(PROFILE, BERT, 6, 103.5)
    assert judge.violations == [
        (
            f"at 3.500 s: promise 1: {BERT} began to work on {PROFILE} under epoch 6 while {ANNA} "
            "had been working on it for 2.500 s under epoch 5"
        )
    ]


def test_work_on_different_profiles_does_not_collide() -> None:
    judge = Judge()
    judge.began("prf_a", ANNA, 1, 1.0)
    judge.began("prf_b", BERT, 1, 1.0)
    assert judge.violation_count == 0


def test_a_takeover_is_measured_from_the_death_to_the_next_start_by_another_bot() -> None:
    judge = Judge()
    judge.began(PROFILE, ANNA, 1, 0.0)
    judge.ended(PROFILE, ANNA, 10.0, died=True)
    judge.began(PROFILE, BERT, 2, 17.5)
    assert (judge.takeovers.count, judge.takeovers.longest) == (1, 7.5)
    assert judge.last_takeover == (PROFILE, ANNA, BERT, 7.5)


def test_the_same_slot_back_at_work_is_restored_and_no_takeover() -> None:
    judge = Judge()
    judge.began(PROFILE, ANNA, 1, 0.0)
    judge.ended(PROFILE, ANNA, 10.0, died=True)
    judge.began(PROFILE, Worker(ANNA.bot, 2), 2, 10.25)
    assert (judge.takeovers.count, judge.restored.count, judge.restored.longest) == (0, 1, 0.25)


def test_work_that_was_stopped_in_order_leaves_nothing_to_take_over() -> None:
    judge = Judge()
    judge.began(PROFILE, ANNA, 1, 0.0)
    judge.ended(PROFILE, ANNA, 10.0)
    judge.began(PROFILE, CARL, 2, 11.0)
    assert judge.takeovers.count == 0


def test_all_violations_are_counted_but_only_the_first_are_kept_as_text() -> None:
    judge = Judge()
    for number in range(KEPT_VIOLATIONS + 5):
        judge.told(PROFILE, ANNA, 1000 - number, float(number))
    assert judge.violation_count == KEPT_VIOLATIONS + 4
    assert len(judge.violations) == KEPT_VIOLATIONS


@pytest.mark.parametrize(("process", "text"), [(1, "sim-1/1"), (3, "sim-1/1 (process 3)")])
def test_a_worker_shows_its_process_only_where_it_is_not_the_first(process: int, text: str) -> None:
    assert str(Worker("sim-1/1", process)) == text
