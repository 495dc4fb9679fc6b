"""Crowds of confirmed working bots, written straight into live state: through the scripts a million takes minutes.

`tests/live/test_bench_crowd.py` proves that what is written here is what the scripts write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from random import Random
from typing import NamedTuple

from bench.processes import cpu_seconds
from bench.script import FLEET, LEASE_MS, Cost, Scripts, packed
from rota.live import keys
from rota.live.entries import idle_entry, working_entry, write_details
from rota.web.tokens import digest

PER_SERVER = 100
STATUS = "looking"
VERSION = "1.4.2"
BATCH = 64
"""Beats in one call."""
MEASURED = 192_000
"""Beats after which a cost is known well enough."""
AT_ONCE = 100
"""Calls in one round trip."""
STEP = 1000
"""Bots written in one round trip; whole servers."""
_EPOCH = 1_763_900_000_000_000


class Member(NamedTuple):
    """One bot, and the profile that it works for."""

    bot: str
    token: str
    digest: bytes
    profile: str
    epoch: int

    @property
    def address(self) -> str:
        """Whence it called."""
        host = int(self.bot.partition("/")[0].rpartition("-")[2])
        return f"10.{host >> 16}.{host >> 8 & 255}.{host & 255}"

    @property
    def entry(self) -> bytes:
        """Its roster entry while nothing has changed."""
        return working_entry(self.digest, self.profile, self.epoch, 1, accepting=True, status=STATUS)

    @property
    def idle_entry(self) -> bytes:
        """Its roster entry before it was given work."""
        return idle_entry(self.digest, accepting=True, status="")

    @property
    def body(self) -> bytes:
        """What its heartbeat carries."""
        working = f'{{"profile":"{self.profile}","epoch":{self.epoch},"revision":1}}'
        return f'{{"working":{working},"status":"{STATUS}"}}'.encode()


def member(number: int) -> Member:
    """The bot with this number; the same one each time."""
    bot = f"bot-farm-{number // PER_SERVER}/{number % PER_SERVER}"
    token = f"bot_{FLEET}~{bot}~{number:032}"
    return Member(bot, token, digest(token), f"prf_{number:020}", _EPOCH + number)


def load(scripts: Scripts, size: int, report: Callable[[str], None], *, bound: bool = True) -> None:
    """Puts so many bots at work, or without work, on an empty fleet; their deadlines lie one interval apart."""
    scripts.build()
    draw = Random(size)  # noqa: S311 - chance, not secrets
    for start in range(0, size, STEP):
        numbers = range(start, min(size, start + STEP))
        _write(scripts, [member(number) for number in numbers], draw, bound=bound)
        if start % 50_000 == 0:
            report(f"writing bots: {start:,} of {size:,}")
    pipe = scripts.redis.pipeline()
    pipe.hset(keys.counts(scripts.fleet), "bw" if bound else "bi", size)
    if bound:
        pipe.hset(keys.counts(scripts.fleet), "pw", size)
    pipe.execute()


def shuffled(size: int, number: int) -> Sequence[int]:
    """So many of the crowd's numbers, in random order, the same each time; round and round if there are fewer."""
    draw = Random(number)  # noqa: S311 - chance, not secrets
    if number <= size:
        return draw.sample(range(size), number)
    rounds = -(-number // size)
    return [at for _ in range(rounds) for at in draw.sample(range(size), size)][:number]


def batches(numbers: Sequence[int], size: int, *, idle: bool = False) -> Iterator[bytes]:
    """The beats of these bots in batches, as `beat` takes them."""
    for start in range(0, len(numbers), size):
        flat: list[str | bytes] = []
        for number in numbers[start : start + size]:
            one = member(number)
            flat += (one.bot, one.idle_entry if idle else one.entry)
        yield packed(flat)


def beat_cost(scripts: Scripts, size: int) -> Cost:
    """What one beat costs the store: beats in random order, in batches of 64, nothing new to say to anybody."""
    calls = [(batch, LEASE_MS) for batch in batches(shuffled(size, MEASURED), BATCH)]
    said: list[object] = []

    def beat() -> None:
        for start in range(0, len(calls), AT_ONCE):
            said.extend(scripts.calls("beat", calls[start : start + AT_ONCE]))

    before = cpu_seconds(scripts.pid)
    held = scripts.held_us("beat", beat)
    used = cpu_seconds(scripts.pid) - before
    if any(said):
        msg = f"the crowd is told something: {next(filter(None, said))}: nothing was measured"
        raise RuntimeError(msg)
    # The middle call: on a busy machine the mean tells how long others kept the store from its work.
    return Cost(held.middle / BATCH, used * 1e6 / MEASURED)


def _write(scripts: Scripts, members: Sequence[Member], draw: Random, *, bound: bool) -> None:
    joined, fleet = datetime.now(UTC), scripts.fleet
    now = joined.timestamp() * 1000
    roster: list[str | bytes] = []
    known: list[str | bytes] = []
    due: list[str | float] = []
    profiles: list[str] = []
    servers: dict[str, list[str]] = {}
    for one in members:
        roster += (one.bot, one.entry if bound else one.idle_entry)
        known += (one.bot, write_details(VERSION, joined, one.address, {}))
        due += (f"{now + LEASE_MS - draw.random() * 30_000:.3f}", one.bot)
        profiles += (one.profile, f"{one.bot} {one.epoch} 1 1 1 w {now:.0f}")
        servers.setdefault(one.bot.partition("/")[0], []).append(one.bot)
    pipe = scripts.redis.pipeline(transaction=False)
    pipe.execute_command("HSET", keys.roster(fleet), *roster)
    pipe.execute_command("HSET", keys.details(fleet), *known)
    pipe.execute_command("ZADD", keys.due(fleet), *due)
    if bound:
        pipe.execute_command("HSET", keys.profiles(fleet), *profiles)
    for hostname, bots in servers.items():
        pipe.execute_command("SADD", keys.server(fleet, hostname), *(bot.partition("/")[2] for bot in bots))
        pipe.execute_command("HSET", keys.servers(fleet), hostname, len(bots))
    pipe.execute()
