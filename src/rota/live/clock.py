"""The clock of live state, as the scripts have it: the store's, and an offset that keeps it even when that is set."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rota.live import keys
from rota.live.scripts import Command, Live


def clock(fleet: str) -> tuple[Command, Command]:
    """The two reads that `read_clock` makes a moment of, for a pipeline."""
    return ("TIME",), ("HGET", keys.pulse(fleet), "offset")


def read_clock(time: Any, offset: Any) -> float:
    """Milliseconds since 1970 as the scripts count them."""
    seconds, microseconds = time
    return int(seconds) * 1000 + int(microseconds) / 1000 + float(offset or 0)


async def store_time(live: Live, fleet: str) -> datetime:
    """The store's own time, by which events are stamped; never before the newest of them."""
    (seconds, microseconds), newest = await live.read(
        ("TIME",), ("XREVRANGE", keys.events(fleet), "+", "-", "COUNT", 1)
    )
    now = int(seconds) + int(microseconds) / 1_000_000
    last = int(newest[0][0].partition(b"-")[0]) / 1000 if newest else 0.0
    return datetime.fromtimestamp(max(now, last), UTC)


async def now_ms(live: Live, fleet: str) -> float:
    """What `due`, `held` and every other moment in live state is to be compared with."""
    return read_clock(*await live.read(*clock(fleet)))
