"""One simulation from its preparation to its summary: what `rota simulate` and `rota demo` drive."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from rota.errors import ProblemError
from rota.simulator.crowd import Crowd, Plan
from rota.simulator.hosts import JOINING_AT_ONCE, Hosts
from rota.simulator.judge import Judge
from rota.simulator.preparation import LABELS, Wanted, prepare
from rota.simulator.summary import Summary, summarize
from rota.simulator.surroundings import Surroundings, Tally
from rota.simulator.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from rota.simulator.faults import Rate
    from rota.simulator.preparation import Prepared
    from rota.simulator.rest import Rest

CONNECTIONS = 48
"""HTTP connections that all bots share at most."""
ANSWER_WITHIN = (2.0, 10.0)
"""Seconds that a bot waits for an answer: half the ttl, within these bounds."""


@dataclass(frozen=True)
class Options:
    """What the caller chose. Durations are seconds."""

    wanted: Wanted
    kill: Rate | None = None
    push_every: float = 10.0
    seed: int | None = None
    leave_within: float = 8.0
    batch: int | None = None
    """Bots that beat in one call; None where each beats for itself."""


class Simulation:
    """Prepare it, run it, ask for its summary."""

    def __init__(self, rest: Rest, options: Options) -> None:
        """`rest` stays the caller's, who closes it."""
        self.options = options
        self.crowd: Crowd | Hosts | None = None
        self.began_at = 0.0
        self._rest = rest
        self._prepared: Prepared | None = None
        self._stopped = False
        self._took = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the bots began."""
        return time.monotonic() - self.began_at if self.began_at else 0.0

    async def prepare(self, report: Callable[[str, int, int], None]) -> None:
        """Makes servers, profiles and a key in rota.

        Raises:
            ProblemError: rota refused, or cannot be reached.
        """
        self._prepared = await prepare(self._rest, self.options.wanted, report)

    async def run(self) -> Summary:
        """Lets the bots live until their time is over or `stop`, sees them out and draws the sum."""
        if self._prepared is None:
            msg = "prepare() comes before run()"
            raise RuntimeError(msg)
        plan = Plan(
            servers=self.options.wanted.bots_of(),
            profiles=self.options.wanted.profiles,
            enrolment_key=self._prepared.enrolment_key,
            interval=self._prepared.interval,
            ttl=self._prepared.ttl,
            kill=self.options.kill,
        )
        shortest, longest = ANSWER_WITHIN
        timeout = min(max(plan.ttl / 2, shortest), longest)
        numbers = (CONNECTIONS,) if self.options.batch is None else (JOINING_AT_ONCE, CONNECTIONS)
        wires = [Wire(self._rest.url, connections=number, timeout=timeout) for number in numbers]
        self.began_at = time.monotonic()
        self.crowd = crowd = self._crowd(plan, *wires)
        try:
            if not self._stopped:
                await crowd.run(self.options.wanted.seconds)
            self._took = self.elapsed
            await crowd.leave(self.options.leave_within)
        finally:
            for wire in wires:
                wire.close()
            with contextlib.suppress(ProblemError):
                await self._rest.delete(f"/enrolment-keys/{self._prepared.enrolment_key_id}")
        return summarize(crowd, self._took)

    def stop(self) -> None:
        """Ends the run soon; may be called at any time."""
        self._stopped = True
        if self.crowd:
            self.crowd.stop()

    def _crowd(self, plan: Plan, *wires: Wire) -> Crowd | Hosts:
        if self.options.batch is None:
            return Crowd(plan, self._surroundings(), *wires)
        return Hosts(plan, self.options.batch, self._surroundings(), *wires)

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            judge=Judge(self.began_at),
            tally=Tally(),
            rng=Random(self.options.seed),  # noqa: S311 - chance, not secrets
            labels=LABELS,
            push_every=self.options.push_every,
        )
