"""Calls of the scripts without rota around them, and what they cost the store."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import redis

from bench.row import Row, at_most
from rota.live import keys
from rota.live.scripts import assembled
from rota.protocol import deadline_after_ms

FLEET = "default"
MOST_CALLS = 100_000
"""Of which the slow log keeps how long they took."""
LEASE_MS = deadline_after_ms(90)
"""From a beat to its deadline, as under the usual policy. Nobody dies for being measured: only a steward reaps."""


@dataclass(frozen=True)
class Cost:
    """What one beat costs the store: `us` of its own time, `cpu_us` of its process's CPU time, network included."""

    us: float
    cpu_us: float


@dataclass(frozen=True)
class Held:
    """For how many µs each of some calls held the store, sorted."""

    durations: list[int]

    @property
    def middle(self) -> float:
        """The middle one."""
        return statistics.median(self.durations)

    def rows(self, what: str, limit_ms: float) -> Iterable[Row]:
        """The longest call, and the middle one: on a busy machine, the longest is the one that had to wait."""
        middle, longest = self.middle / 1000, self.durations[-1] / 1000
        yield Row(f"{what}: the middle one of {len(self.durations):,} calls", middle, "ms", at_most(limit_ms))
        yield Row(f"{what}: the longest", longest, "ms", at_most(limit_ms))


class Scripts:
    """One plain connection to the live store."""

    def __init__(self, url: str, fleet: str = FLEET) -> None:
        """Teaches the store all scripts."""
        self.redis = redis.Redis.from_url(url, socket_timeout=60)
        self.fleet = fleet
        self._keys = keys.script_keys(fleet)
        self._digests: dict[str, str] = {}
        for verb, source in assembled().items():
            self.redis.script_load(source)
            self._digests[verb] = hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 - Redis names scripts so
        self.pid = int(self.redis.info("server")["process_id"])

    def close(self) -> None:
        """Closes the connection."""
        self.redis.close()

    def call(self, verb: str, *arguments: str | bytes | float) -> Any:
        """One call of one verb."""
        return self.redis.execute_command("EVALSHA", self._digests[verb], len(self._keys), *self._keys, *arguments)

    def calls(self, verb: str, many: Iterable[Sequence[str | bytes | float]]) -> list[Any]:
        """Many calls in one round trip."""
        pipe = self.redis.pipeline(transaction=False)
        for arguments in many:
            pipe.execute_command("EVALSHA", self._digests[verb], len(self._keys), *self._keys, *arguments)
        return list(pipe.execute())

    def build(self) -> None:
        """Makes the live state one that gives work away."""
        for who in ("steward", "built"):
            self.call("pulse", who, LEASE_MS, "bench", "", "", 0)
        self.hear()

    def hear(self) -> None:
        """A web worker's pulse, without which nobody is given work and nobody dies.

        What happened between two measurements is no outage after which everybody would have to be waited for.
        """
        self.call("pulse", "web", LEASE_MS, "", "", 0, 0)
        self.redis.hset(keys.pulse(self.fleet), mapping={"deaf": 0, "quiet": 0})

    def held_us(self, verb: str, work: Callable[[], Any]) -> Held:
        """How long each call of one verb held the store meanwhile, as its slow log has it."""
        script = f"EVALSHA {self._digests[verb]}".encode()
        # The commands within a script are quicker; they would fill the log, and writing them down costs time.
        self.redis.config_set("slowlog-log-slower-than", 20)
        self.redis.config_set("slowlog-max-len", MOST_CALLS)
        self.redis.slowlog_reset()
        try:
            work()
            found = self.redis.slowlog_get(MOST_CALLS)
        finally:
            self.redis.config_set("slowlog-log-slower-than", 10_000)
            self.redis.slowlog_reset()
        return Held(sorted(entry["duration"] for entry in found if entry["command"].startswith(script)))


def packed(flat: Sequence[str | bytes]) -> bytes:
    """A batch as `beat` takes it; the store knows only the older, binary-safe string type."""
    found: bytes = msgpack.packb(flat, use_bin_type=False)
    return found
