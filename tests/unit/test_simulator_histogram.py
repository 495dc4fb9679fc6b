"""Percentiles out of buckets are those of the sorted list, within two per cent."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.simulator.histogram import Histogram


@given(
    st.lists(st.floats(2e-6, 1e4), min_size=1, max_size=200),
    st.floats(0.0, 1.0),
)
def test_a_percentile_is_within_two_per_cent_of_the_exact_one(durations: list[float], share: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    exact = sorted(durations)[max(1, math.ceil(share * len(durations))) - 1]
    assert histogram.percentile(share) == pytest.approx(exact, rel=0.021)
    assert histogram.count == len(durations)
    assert histogram.longest == max(durations)


def test_an_empty_histogram_has_no_percentile() -> None:
    assert Histogram().percentile(0.5) is None
    assert Histogram().milliseconds(0.5) is None


def test_a_duration_of_nothing_counts_too() -> None:
    histogram = Histogram()
    histogram.add(0.0)
    assert histogram.milliseconds(0.99) == 0.0
