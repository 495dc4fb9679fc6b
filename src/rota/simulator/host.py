"""One simulated host whose agent speaks for all its bots in one call: what a million bots are made of.

Pure, like `bot`: what it is told goes in, what it says next comes out. A bot is a place in some lists here, and its
piece of the request is written only when something has changed. It keeps the protocol to the letter, the lease rule
above all; its bots' work is made up and brings no data.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from rota.protocol import Instruction
from rota.simulator.bot import STATUSES, Phase
from rota.simulator.judge import Worker
from rota.simulator.work import Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rota.protocol import AuthReply
    from rota.simulator.surroundings import Surroundings

NEVER = math.inf


class Host:
    """The bots of one server, or of a part of it; a bot is named by its place from 0."""

    __slots__ = (
        "_around", "_body", "_ended", "_leases", "_order", "_pieces", "_works", "beat_at", "beating", "failures",
        "good_byes", "hostname", "instances", "interval", "moved", "phases", "started", "tokens", "ttl", "urgent",
    )  # fmt: skip

    def __init__(self, hostname: str, instances: Sequence[str], around: Surroundings, *, interval: float) -> None:
        """`interval` (seconds) holds until a reply tells another."""
        self.hostname = hostname
        self.instances = instances
        self.interval = interval
        self.ttl = 3 * interval
        self.beat_at = NEVER
        """When all its bots beat next."""
        self.started = False
        """Whether it has said anything yet."""
        self.beating = False
        """Whether a call is under way: a host says one thing at a time."""
        self.failures = 0
        """Calls in a row that brought no answer."""
        self.tokens: list[str | None] = [None] * len(instances)
        self.phases = [Phase.JOINING] * len(instances)
        self.moved: list[tuple[Phase, Phase]] = []
        """Phases that bots went from and to, for who counts them."""
        self.urgent: dict[int, None] = {}
        """Places of the bots that have something to say at once."""
        self.good_byes: list[tuple[int, str]] = []
        """Places and tokens of bots that were told to exit."""
        self._around = around
        self._ended: dict[int, dict[str, Any]] = {}
        self._works: list[Work | None] = [None] * len(instances)
        self._leases = [NEVER] * len(instances)
        self._pieces: list[bytes] = [b""] * len(instances)
        self._body = b""
        self._order: list[int] = []

    def worker(self, at: int) -> Worker:
        """As the judge knows the bot."""
        return Worker(f"{self.hostname}/{self.instances[at]}", 1)

    # -- what it says --------------------------------------------------------------------------------

    def introduction(self, at: int) -> bytes:
        """The body of a bot's `/bot/auth`, with what it is still working on."""
        body: dict[str, Any] = {
            "hostname": self.hostname,
            "instance": self.instances[at],
            "version": self._around.version,
            "labels": self._around.labels,
        }
        if work := self._works[at]:
            body["working"] = {**work.named, "lease": work.lease}
        return to_json(body)

    def beats(self) -> tuple[bytes, list[int]]:
        """The body of a call for all its bots that have a token, and their places in its order."""
        self.urgent.clear()
        if not self._body:
            self._order = [at for at, token in enumerate(self.tokens) if token is not None]
            self._body = self._call(self._order)
        return self._body, self._order

    def urgent_beats(self) -> tuple[bytes, list[int]]:
        """The same for those bots alone that have something to say at once."""
        order = [at for at in self.urgent if self.tokens[at] is not None]
        self.urgent.clear()
        return self._call(order), order

    # -- what it is told -----------------------------------------------------------------------------

    def joined(self, at: int, reply: AuthReply, now: float) -> None:
        """A bot's `/bot/auth` was answered. Work that was not given back ends at once."""
        self.tokens[at], self.ttl = reply.token, reply.ttl
        work, back = self._works[at], reply.assignment
        if work and (back is None or (back.profile, back.epoch) != (work.profile, work.epoch)):
            self._end(at, now)
        self._write(at)

    def heard(self, order: Sequence[int], replies: Sequence[dict[str, Any]], sent: float, now: float) -> list[int]:
        """A call that was sent at `sent` was answered; the places of the bots that have to join anew.

        An answer that comes when the lease it gives is over already gives nothing.

        Raises:
            KeyError, IndexError, TypeError, ValueError: this is no answer of rota's.
        """
        lost, interval, ttl = [], NEVER, NEVER
        for at, reply in zip(order, replies, strict=True):
            if "error" in reply:
                lost += self._refused(at, reply["error"]["code"])
                continue
            interval, ttl = min(interval, reply["interval"]), min(ttl, reply["ttl"])
            until = sent + reply["ttl"]
            self._around.tally.beats += 1
            if now >= until:
                continue
            work, instruction = self._works[at], reply["instruction"]
            if work is None:
                if instruction != "wait":
                    self._idle_told(at, instruction, reply["assignment"], until, now)
            elif instruction == "continue" and reply["assignment"]["epoch"] == work.epoch:
                self._leases[at] = until
                if not work.confirmed:
                    work.confirmed = True
                    self._show(at)
            else:
                self._told(at, work, instruction, reply["assignment"], until, now)
        if interval < NEVER:
            self.interval, self.ttl = interval, ttl
        return lost

    def expire(self, now: float) -> float:
        """Ends all work whose lease is over by now; when the next lease will be."""
        first = min(self._leases)
        if first > now:
            return first
        for at, until in enumerate(self._leases):
            if until <= now:
                self._end(at, until)
        return min(self._leases)

    def gone(self, at: int) -> None:
        """A bot was refused for good, or has said good-bye."""
        self.tokens[at] = None
        self._write(at)
        self._move(at, Phase.GONE)

    def leave(self, now: float) -> list[str]:
        """All work ends; the tokens of the bots that have to say good-bye."""
        for at, work in enumerate(self._works):
            if work:
                self._end(at, now)
        return [token for token in self.tokens if token is not None]

    # -- inside --------------------------------------------------------------------------------------

    def _call(self, order: Sequence[int]) -> bytes:
        return b'{"beats":[' + b",".join([self._pieces[at] for at in order]) + b"]}"

    def _write(self, at: int) -> None:
        """The bot's part of the next calls."""
        token, work = self.tokens[at], self._works[at]
        self._body = b""
        if token is None:
            self._pieces[at] = b""
        elif work is None:
            self._pieces[at] = to_json({"token": token, "ended": self._ended.get(at)})
        else:
            self._pieces[at] = to_json({"token": token, "status": STATUSES[at % len(STATUSES)], "working": work.named})
        self._show(at)

    def _show(self, at: int) -> None:
        if work := self._works[at]:
            self._move(at, Phase.WORKING if work.confirmed else Phase.STARTING)
        else:
            self._move(at, Phase.JOINING if self.tokens[at] is None else Phase.IDLE)

    def _move(self, at: int, phase: Phase) -> None:
        if phase is not self.phases[at]:
            self.moved.append((self.phases[at], phase))
            self.phases[at] = phase

    def _refused(self, at: int, code: str) -> list[int]:
        """Whoever is not known comes back with its work and its lease; everybody else tries again."""
        self._around.tally.refused(code)
        if code != "unknown_bot":
            return []
        self.tokens[at] = None
        self._write(at)
        return [at]

    def _idle_told(
        self, at: int, instruction: str, assignment: dict[str, Any] | None, until: float, now: float
    ) -> None:
        if instruction == Instruction.START and assignment is not None:
            profile, epoch = assignment["profile"], assignment["epoch"]
            self._works[at] = Work(profile, epoch, assignment["revision"], assignment["lease"])
            self._leases[at] = until
            self._around.judge.told(profile, self.worker(at), epoch, now)
            self._around.judge.began(profile, self.worker(at), epoch, now)
            self.urgent[at] = None
            self._write(at)
        elif instruction == Instruction.EXIT and (token := self.tokens[at]) is not None:
            self.good_byes.append((at, token))
            self.gone(at)

    def _told(
        self, at: int, work: Work, instruction: str, assignment: dict[str, Any] | None, until: float, now: float
    ) -> None:
        mine = assignment is not None and (assignment["profile"], assignment["epoch"]) == (work.profile, work.epoch)
        if instruction == Instruction.RECONFIGURE and mine and assignment is not None:
            work.revision, work.lease = assignment["revision"], assignment["lease"]
            self._leases[at] = until
            self.urgent[at] = None
            self._write(at)
        elif instruction in (Instruction.STOP, Instruction.EXIT) or not mine:
            self._end(at, now)

    def _end(self, at: int, when: float) -> None:
        """The bot stops its work and says so at once."""
        work, self._works[at], self._leases[at] = self._works[at], None, NEVER
        if work:
            self._around.judge.ended(work.profile, self.worker(at), when)
            self._ended[at] = {"profile": work.profile, "epoch": work.epoch}
            self.urgent[at] = None
        self._write(at)
