"""Calls of the scripts without rota around them, and what they cost the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import redis

from bench.processes import cpu_seconds
from rota.live import keys
from rota.live.scripts import assembled
from rota.protocol import deadline_after_ms

FLEET = "default"
LEASE_MS = deadline_after_ms(90)
"""From a beat to its deadline, as under the usual policy. Nobody dies for being measured: only a steward reaps."""


@dataclass(frozen=True)
class Cost:
    """What a stretch of work cost the store. `us` is its commands' own time, `cpu_us` its process's CPU time."""

    us: float
    cpu_us: float


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
        """A web worker's pulse, without which nobody is given work and nobody dies."""
        self.call("pulse", "web", LEASE_MS, "", "", 0, 0)

    def cost(self, work: Callable[[], Any]) -> Cost:
        """What the work costs the store."""
        self.redis.config_resetstat()
        before = cpu_seconds(self.pid)
        work()
        used = cpu_seconds(self.pid) - before
        spent = self.redis.info("commandstats").get("cmdstat_evalsha", {"usec": 0})["usec"]
        return Cost(float(spent), used * 1e6)

    def longest_us(self, work: Callable[[], Any]) -> float:
        """The longest that one script call held the store meanwhile, as its slow log has it."""
        self.redis.config_set("slowlog-log-slower-than", 0)
        self.redis.config_set("slowlog-max-len", 100_000)
        self.redis.slowlog_reset()
        try:
            work()
            found = self.redis.slowlog_get(100_000)
        finally:
            self.redis.config_set("slowlog-log-slower-than", 10_000)
            self.redis.slowlog_reset()
        return float(max(entry["duration"] for entry in found if entry["command"].startswith(b"EVALSHA")))


def packed(flat: Sequence[str | bytes]) -> bytes:
    """A batch as `beat` takes it; the store knows only the older, binary-safe string type."""
    found: bytes = msgpack.packb(flat, use_bin_type=False)
    return found
