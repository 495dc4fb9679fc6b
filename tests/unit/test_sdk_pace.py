"""How long a bot waits: never beyond what its lease allows, and never in step with the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rota.sdk.lease import Lease
from rota.sdk.pace import LONGEST_RETRY, Restarts, beat_delay, call_timeout, restart_delay, retry_delay

SECONDS = st.floats(0.5, 86_400)


@given(SECONDS, SECONDS)
def test_a_beat_is_spread_by_a_tenth_and_never_later_than_the_lease_allows(interval: float, ttl: float) -> None:
    delay = beat_delay(interval, ttl)
    assert 0.9 * min(interval, ttl / 2) <= delay <= 1.1 * min(interval, ttl / 2)
    assert delay < Lease(0, ttl).stop_at


def test_beats_are_not_in_step() -> None:
    assert len({beat_delay(30, 90) for _ in range(20)}) > 1


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
