"""Durations in buckets that grow by 2 %, so that a day's beats fit into a few hundred numbers."""

from __future__ import annotations

import math
from collections import Counter

SMALLEST = 1e-6
"""Seconds; whatever is shorter counts as this."""
GROWTH = math.log(1.02)


class Histogram:
    """Counts durations in seconds and tells their percentiles within 2 %."""

    __slots__ = ("_buckets", "count", "longest")

    def __init__(self) -> None:
        """Begins empty."""
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        self._buckets[math.floor(math.log(max(seconds, SMALLEST) / SMALLEST) / GROWTH)] += 1
        self.count += 1
        self.longest = max(self.longest, seconds)

    def percentile(self, share: float) -> float | None:
        """The duration in seconds that `share` (0 to 1) of all do not exceed; None while there are none."""
        if not self.count:
            return None
        rank = max(1, math.ceil(share * self.count))
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return min(SMALLEST * math.exp((bucket + 1) * GROWTH), self.longest)
        return self.longest

    def milliseconds(self, share: float) -> float | None:
        """The same percentile in milliseconds, rounded for people."""
        found = self.percentile(share)
        return None if found is None else round(found * 1000, 2)
