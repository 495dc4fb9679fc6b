"""Runs simulated hosts against one rota: a crowd of a million bots in one process.

A host's bots come in one by one, as the protocol has it, and then beat in one call of `/bot/heartbeats` every
interval. What each bot is told and does is judged as in a `crowd` of single bots; nothing befalls them, and they
bring no data.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING

from pydantic_core import from_json

from rota.protocol import AuthReply
from rota.simulator.agenda import Agenda, Ticker
from rota.simulator.bot import FIRST_BACKOFF, JITTER, Phase
from rota.simulator.crowd import BOUND, Plan
from rota.simulator.faults import Fault, exit_delay
from rota.simulator.histogram import Histogram
from rota.simulator.host import NEVER, Host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rota.simulator.surroundings import Surroundings
    from rota.simulator.wire import Answer, Wire

JOINING_AT_ONCE = 192
"""Calls of `/bot/auth`, or of `/bot/leave`, under way at most: so many connections, and no line before them."""
GATHER = 1.0
"""Seconds from a host's first bot that came in to its first beat."""
GOOD_BYE = b'{"reason":"shutdown"}'


class Hosts:
    """All hosts of one simulation. What can be asked of it is what can be asked of a `Crowd`."""

    def __init__(self, plan: Plan, batch: int, around: Surroundings, wire: Wire, beat_wire: Wire) -> None:
        """Nothing happens before `run`. With a wire of their own no beats wait behind those who come in."""
        self.plan = plan
        self.around = around
        self.phases: Counter[Phase] = Counter()
        self.faults: Counter[Fault] = Counter()
        self.beat_latency = Histogram()
        self.push_latency = Histogram()
        self.loop_lag = Histogram()
        self.unanswered = 0
        self.most_bound = 0
        self.settled_at: float | None = None
        self.began_at = 0.0
        self.happenings: deque[str] = deque(maxlen=8)
        self._wire = wire
        self._beat_wire = beat_wire
        self._agenda = Agenda()
        self._ticker = Ticker(self._agenda, self._do_due, self._note_lag)
        self._hosts = [
            Host(hostname, instances, around, interval=plan.interval) for hostname, instances in _parts(plan, batch)
        ]
        self._seconds: float | None = None
        self._all_in = False
        self._joining: Iterator[tuple[Host, int]] = iter(())
        self._again: deque[tuple[Host, int]] = deque()
        self._free = 0
        """How many more bots may come in at once."""
        self._ended = asyncio.Event()
        self._running = False
        self._seen_violations = 0
        self.phases[Phase.JOINING] = sum(len(host.instances) for host in self._hosts)

    @property
    def bound(self) -> int:
        """How many profiles have a bot at work now, as far as the bots know."""
        return sum(self.phases[phase] for phase in BOUND)

    @property
    def deaths(self) -> int:
        """None: nothing befalls these bots."""
        return 0

    async def run(self, seconds: float | None = None) -> None:
        """Lets the hosts live for `seconds` after all of their bots have come in, or until `stop`."""
        self.began_at = asyncio.get_running_loop().time()
        self._running = True
        self._joining = ((host, at) for host in self._hosts for at in range(len(host.instances)))
        self._seconds = seconds
        for host in self._hosts:
            self._agenda.plan(self.began_at + host.ttl, partial(self._watch_leases, host))
        for _ in range(JOINING_AT_ONCE):
            self._join_next()
        self._tick()
        await self._ended.wait()
        self._running = False
        self._ticker.stop()

    def stop(self) -> None:
        """Ends `run` soon; may be called from a signal handler."""
        self._ended.set()

    async def leave(self, deadline: float) -> int:
        """Bots say good-bye, for at most `deadline` seconds; returns how many were not heard in time."""
        now = asyncio.get_running_loop().time()
        tokens = iter([token for host in self._hosts for token in host.leave(now)])
        left = asyncio.Event()
        missing = sum(token is not None for host in self._hosts for token in host.tokens)
        heard = 0

        def next_one(_answer: Answer | None = None) -> None:
            nonlocal heard
            heard += _answer is not None
            if (token := next(tokens, None)) is not None:
                self._wire.post("/bot/leave", GOOD_BYE, token, next_one)
            elif heard >= missing:
                left.set()

        for _ in range(JOINING_AT_ONCE):
            next_one()
        try:
            await asyncio.wait_for(left.wait(), deadline)
        except TimeoutError:
            return missing - heard
        return 0

    # -- the order of things -------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._running:
            self._ticker.tick()

    def _note_lag(self, seconds: float) -> None:
        self.loop_lag.add(seconds)

    def _do_due(self, now: float) -> None:
        for item in self._agenda.due(now):
            if callable(item):
                item(now)

    def _count(self, host: Host) -> None:
        """After anything that may have moved a host's bots."""
        if not host.moved:
            return
        for before, after in host.moved:
            self.phases[before] -= 1
            self.phases[after] += 1
        host.moved.clear()
        self.most_bound = max(self.most_bound, self.bound)
        if self.settled_at is None:
            self._notice_settling()
        judge = self.around.judge
        if judge.violation_count > self._seen_violations:
            self._seen_violations = judge.violation_count
            self.happenings.append(f"VIOLATION {judge.violations[-1]}")

    def _notice_settling(self) -> None:
        """What was slow while all came at once is no measure of how rota serves a fleet; so both are kept apart."""
        if self.phases[Phase.JOINING]:
            return
        now, size = asyncio.get_running_loop().time(), self.phases.total() - self.phases[Phase.GONE]
        if not self._all_in:
            self._all_in = True
            self.happenings.append(f"{size} bots have come in after {now - self.began_at:.0f} s")
            if self._seconds is not None:
                self._agenda.plan(now + self._seconds, lambda _now: self.stop())
        if self.phases[Phase.WORKING] < min(self.plan.profiles, size):
            return
        self.settled_at, self.beat_latency = now, Histogram()
        # What there is now stays: looking through millions of objects for rubbish again and again stops everything.
        gc.freeze()

    # -- coming in -----------------------------------------------------------------------------------

    def _join_next(self, _now: float = 0.0) -> None:
        """The next bot comes in: one that was forgotten before one that was never there."""
        next_one = self._again.popleft() if self._again else next(self._joining, None)
        if next_one is None:
            self._free += 1
            return
        host, at = next_one
        done = partial(self._joined, host, at)
        self._wire.post("/bot/auth", host.introduction(at), self.plan.enrolment_key, done)

    def _join_again(self, host: Host, at: int, _now: float = 0.0) -> None:
        self._again.append((host, at))
        if self._free:
            self._free -= 1
            self._join_next()

    def _joined(self, host: Host, at: int, answer: Answer) -> None:
        if not self._running:
            return
        now = asyncio.get_running_loop().time()
        self._do_due(now)
        if answer.status == 200:  # noqa: PLR2004
            host.joined(at, AuthReply.model_validate_json(answer.body), now)
            self._begin(host, at, now)
        elif answer.status and answer.code in ("invalid_key", "server_not_allowed"):
            self.around.tally.refused(answer.code)
            self.happenings.append(f"{host.worker(at)} was refused: {answer.code}")
            host.gone(at)
        else:
            self._note_failure(answer)
            pause = (answer.retry_after or FIRST_BACKOFF) * self.around.rng.uniform(1.0, 1.5)
            self._agenda.plan(now + pause, partial(self._join_again, host, at))
        self._count(host)
        self._join_next()
        self._tick()

    def _note_failure(self, answer: Answer) -> None:
        if answer.status:
            self.around.tally.refused(answer.code)
        else:
            self.unanswered += 1

    # -- beating -------------------------------------------------------------------------------------

    def _begin(self, host: Host, at: int, now: float) -> None:
        """Whoever came in beats soon: together with those who come in meanwhile, or at once where all others are in."""
        if host.started:
            host.urgent[at] = None
            self._speak(host, now)
        elif host.beat_at == NEVER:
            self._plan_beat(host, now + GATHER)

    def _plan_beat(self, host: Host, at: float) -> None:
        host.beat_at = at
        self._agenda.plan(at, partial(self._speak, host))

    def _speak(self, host: Host, now: float) -> None:
        """Says what is to be said now: all of the host's beats if it is time, else what cannot wait."""
        if host.beating:
            return
        whole = now >= host.beat_at
        if whole or host.urgent:
            host.beating = host.started = True
            body, order = host.beats() if whole else host.urgent_beats()
            done = partial(self._heard, host, order, now, whole=whole)
            self._beat_wire.post("/bot/heartbeats", body, None, done)

    def _heard(self, host: Host, order: list[int], asked: float, answer: Answer, *, whole: bool) -> None:
        if not self._running:
            return
        now = asyncio.get_running_loop().time()
        self._do_due(now)
        host.beating = False
        try:
            lost = self._hand_over(host, order, answer, now)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            self.happenings.append(f"{host.hostname} could not read an answer: {error!r}")
            self.around.tally.refused("unreadable_answer")
            lost = None
        if lost is None:
            host.failures += 1
            grown = min(host.interval, FIRST_BACKOFF * 2.0 ** min(host.failures - 1, 10))
            pause = (answer.retry_after or grown) * self.around.rng.uniform(1.0, 1.5)
            self._plan_beat(host, now + min(pause, host.ttl / 6))
        else:
            host.failures = 0
            self.beat_latency.add(now - asked)
            for at in lost:
                self._join_again(host, at)
            self._see_off(host, now)
            if whole:
                spread = self.around.rng.uniform(1 - JITTER, 1 + JITTER)
                self._plan_beat(host, max(now, answer.sent + host.interval * spread))
            self._speak(host, now)
        self._count(host)
        self._tick()

    def _hand_over(self, host: Host, order: list[int], answer: Answer, now: float) -> list[int] | None:
        """The bots that have to join anew; None where the call has failed."""
        if answer.status != 200:  # noqa: PLR2004
            self._note_failure(answer)
            return None
        return host.heard(order, from_json(answer.body)["replies"], answer.sent, now)

    def _see_off(self, host: Host, now: float) -> None:
        """Who was told to exit leaves, and its supervisor starts it again, later."""
        for at, token in host.good_byes:
            self.happenings.append(f"{host.worker(at)} was told to exit")
            self._wire.post("/bot/leave", GOOD_BYE, token, lambda _answer: None)
            pause = exit_delay(host.ttl, self.around.rng)
            self._agenda.plan(now + pause, partial(self._join_again, host, at))
        host.good_byes.clear()

    def _watch_leases(self, host: Host, now: float) -> None:
        """Work ends with its lease, to the moment; no lease that is given meanwhile ends before the next look."""
        next_end = min(host.expire(now), now + host.ttl / 2)
        self._agenda.plan(next_end, partial(self._watch_leases, host))
        self._speak(host, now)
        self._count(host)


def _parts(plan: Plan, batch: int) -> Iterator[tuple[str, list[str]]]:
    """Each server's slots, in parts that go into one call."""
    for hostname, bots in plan.servers.items():
        for start in range(1, bots + 1, batch):
            yield hostname, [str(number) for number in range(start, min(bots + 1, start + batch))]
