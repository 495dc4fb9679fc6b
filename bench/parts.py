"""What can be measured: a part is a function that is given the run and gives rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench import bind, heartbeat, heartbeats, memory, push, reap, record, restart, scale, wait, workers
from bench.row import Row
from bench.run import Run

Part = Callable[[Run], Iterable[Row]]

PARTS: dict[str, Part] = {
    "heartbeat": heartbeat.measure,
    "heartbeats": heartbeats.measure,
    "workers": workers.measure,
    "wait": wait.measure,
    "restart": restart.measure,
    "scale": scale.measure,
    "reap": reap.measure,
    "bind": bind.measure,
    "memory": memory.measure,
    "record": record.measure,
    "push": push.measure,
}
