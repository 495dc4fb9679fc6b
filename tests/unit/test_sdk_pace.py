"""How long a bot waits: never beyond what its lease allows, and never in step with the others."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from rota.protocol import deadline_after_ms
from rota.sdk.lease import Lease
from rota.sdk.pace import (
    LONGEST_RETRY,
    LONGEST_WAIT,
    Restarts,
    beat_delay,
    call_timeout,
    longest_wait,
    pause_after,
    restart_delay,
    retry_delay,
)

SECONDS = st.floats(0.5, 86_400)
INTERVALS_A_TTL = st.floats(2, 20)
"""No fleet's ttl is below two intervals."""


@given(SECONDS, SECONDS)
def test_a_beat_is_spread_by_a_tenth_and_never_later_than_the_lease_allows(interval: float, ttl: float) -> None:
    delay = beat_delay(interval, ttl)
    assert 0.9 * min(interval, ttl / 2) <= delay <= 1.1 * min(interval, ttl / 2)
    assert delay < Lease(0, ttl).stop_at


def test_beats_are_not_in_step() -> None:
    assert len({beat_delay(30, 90) for _ in range(20)}) > 1


@given(SECONDS, INTERVALS_A_TTL)
def test_an_idle_bot_that_lets_a_heartbeat_get_lost_is_heard_again_before_its_deadline(
    interval: float, intervals: float
) -> None:
    ttl = interval * intervals
    wait = longest_wait(interval, ttl, at_work=False)
    assert 0 < wait <= LONGEST_WAIT
    next_at = wait + pause_after(interval, ttl, held=wait)
    again_at = next_at + longest_wait(interval, ttl, at_work=False) + call_timeout(ttl) + retry_delay(1, None, ttl)
    assert again_at * 1000 < deadline_after_ms(ttl)


@given(SECONDS, INTERVALS_A_TTL)
def test_a_bot_at_work_has_a_heartbeat_held_for_a_quarter_of_its_lease_at_most(
    interval: float, intervals: float
) -> None:
    ttl = interval * intervals
    assert 0 <= longest_wait(interval, ttl, at_work=True) <= min(LONGEST_WAIT, ttl / 4)


@given(SECONDS, INTERVALS_A_TTL)
def test_a_bot_at_work_may_let_two_calls_get_lost_and_keeps_its_lease(interval: float, intervals: float) -> None:
    ttl = interval * intervals
    wait = longest_wait(interval, ttl, at_work=True)
    assume(wait > 0)
    lease, lost = Lease(0, ttl), call_timeout(ttl)
    # The answer renews the lease from when its call was sent; the next call is the one that gets lost.
    second_at = wait + pause_after(interval, ttl, held=wait) + wait + lost + retry_delay(1, None, ttl)
    assert second_at <= lease.stop_at * 1.000001
    assert second_at + lost + retry_delay(2, None, ttl) <= lease.ends_at * 1.000001


@given(st.floats(15, 20_000), st.floats(3, 20))
def test_a_bot_at_work_waits_for_a_good_part_of_the_usual_intervals(interval: float, intervals: float) -> None:
    share = longest_wait(interval, interval * intervals, at_work=True) / min(interval, LONGEST_WAIT)
    assert share > (0.7 if interval >= 25 else 0.2)


def test_without_a_ttl_nothing_is_held() -> None:
    assert longest_wait(30, None, at_work=False) == 0


@given(st.floats(0.5, 50), st.floats(3, 20))
def test_an_idle_bot_always_waits_and_beats_once_in_an_interval(interval: float, intervals: float) -> None:
    ttl = interval * intervals
    wait = longest_wait(interval, ttl, at_work=False)
    assert 0.9 * interval <= wait <= 1.1 * interval
    assert pause_after(interval, ttl, held=wait) == 0


@given(SECONDS, INTERVALS_A_TTL, st.floats(0, 0.899))
def test_what_was_held_for_less_than_an_interval_is_followed_when_that_is_over(
    interval: float, intervals: float, share: float
) -> None:
    ttl = interval * intervals
    usual = min(interval, ttl / 2)
    held = share * usual
    assert 0.899 * usual <= held + pause_after(interval, ttl, held=held) <= 1.101 * usual


def test_bots_beat_once_in_an_interval_on_average_at_work_or_not() -> None:
    for at_work in (False, True):
        waits = [longest_wait(30, 90, at_work=at_work) for _ in range(2000)]
        mean = sum(wait + pause_after(30, 90, held=wait) for wait in waits) / len(waits)
        assert 29.5 < mean < 30.5


@given(SECONDS)
def test_a_call_fails_early_enough_for_two_more_within_the_lease(ttl: float) -> None:
    assert call_timeout(ttl) < ttl / 3


@given(st.integers(1, 10_000), st.none() | st.floats(0, 1e6), st.none() | SECONDS)
def test_a_retry_comes_within_a_sixth_of_the_ttl_whatever_rota_asks_for(
    failures: int, retry_after: float | None, ttl: float | None
) -> None:
    longest = LONGEST_RETRY if ttl is None else min(LONGEST_RETRY, ttl / 6)
    delay = retry_delay(failures, retry_after, ttl)
    assert min(retry_after or 0, 0.75 * longest) <= delay <= longest * 1.000001


def test_retries_grow_apart() -> None:
    first = max(retry_delay(1, None, 90) for _ in range(200))
    later = max(retry_delay(8, None, 90) for _ in range(200))
    assert first <= 2 < later <= 15


def test_restarts_double_up_to_a_minute() -> None:
    assert [restart_delay(times) for times in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_work_that_comes_back_is_held_back_for_its_profile_alone() -> None:
    restarts = Restarts()
    assert [restarts.returned("prf_a", 0.1) for _ in range(3)] == [1, 2, 4]
    assert 3 < restarts.left("prf_a") <= 4
    assert restarts.left("prf_b") == 0
    assert restarts.returned("prf_b", 0.1) == 1
    assert restarts.returned("prf_b", 100) == 1, "it has worked for long enough"
    restarts.ended()
    assert restarts.next_in() == 0


def test_crashes_in_a_row_are_held_back_whatever_the_profile() -> None:
    restarts = Restarts()
    assert [restarts.crashed(0.1) for _ in range(3)] == [1, 2, 4]
    assert restarts.crashed(100) == 1
    restarts.ended()
    assert restarts.crashed(0.1) == 1
