"""One simulated bot as a state machine: what it is told goes in, what it calls next comes out.

Pure: no clock, no network, no task. The crowd wakes it, carries its calls and hands it the answers, always in
the order of one monotonic clock. It keeps the protocol to the letter, the lease rule above all; only its work
is made up.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

from pydantic_core import to_json

from rota.protocol import Assignment, AuthReply, HeartbeatReply, Instruction, PushReply
from rota.simulator.calls import Call, Errand
from rota.simulator.judge import Worker
from rota.simulator.surroundings import Surroundings
from rota.simulator.work import Batch, Work, is_for

NEVER = math.inf
JITTER = 0.10
"""Share of the interval by which beats are spread to either side."""
FIRST_BACKOFF = 0.5
CRASHES_AFTER = (0.1, 0.5)
"""Seconds for which a bot works for a poisonous profile."""
STATUSES = ("reading", "analyzing", "waiting for the site", "writing", "tidying up", "all quiet")
STATUS_CHANGES = 0.1
"""Chance that a beat carries another status text than the one before."""


class Phase(StrEnum):
    """What a bot is about, for people."""

    JOINING = "joining"
    IDLE = "idle"
    STARTING = "starting"
    WORKING = "working"
    STOPPING = "stopping"
    CUT_OFF = "cut off"
    GONE = "gone"


class SimulatedBot:
    """One process in one slot of a server, from its first `/bot/auth` to its end."""

    __slots__ = (
        "_around", "_beat_at", "_beating", "_before", "_crash_at", "_ended", "_failures", "_pending",
        "_push_at", "_pushing", "_silent_until", "_status", "_stop_at", "_urgent", "era", "failed",
        "hostname", "instance", "interval", "lease_end", "leaving", "phase", "planned", "refusal",
        "token", "ttl", "work", "worker",
    )  # fmt: skip

    def __init__(
        self,
        hostname: str,
        instance: str,
        process: int,
        around: Surroundings,
        *,
        joins_at: float,
        interval: float,
    ) -> None:
        """`joins_at` is when it calls `/bot/auth`; `interval` (seconds) holds until a reply tells another."""
        self.hostname = hostname
        self.instance = instance
        self.worker = Worker(f"{hostname}/{instance}", process)
        self.phase = Phase.JOINING
        self.era = 0
        self.token: str | None = None
        self.interval = interval
        self.ttl = 3 * interval
        self.work: Work | None = None
        self.lease_end = NEVER
        self.leaving = False
        self.failed = False
        """Its work made it crash."""
        self.refusal: str | None = None
        self.planned = NEVER
        self._around = around
        self._beat_at = joins_at
        self._push_at = NEVER
        self._stop_at = NEVER
        self._crash_at = NEVER
        self._silent_until = -NEVER
        self._beating = False
        self._pushing = False
        self._pending: Batch | None = None
        self._before: Work | None = None
        self._ended: dict[str, Any] | None = None
        self._urgent = False
        self._failures = 0
        self._status = 0

    # -- what it does by itself --------------------------------------------------------------------

    def next_wake(self) -> float:
        """When it wants to be woken next; `NEVER` where only an answer moves it."""
        if self.phase is Phase.GONE:
            return NEVER
        own = min(self.lease_end, self._stop_at, self._crash_at)
        if self.phase is Phase.CUT_OFF:
            return min(own, self._silent_until)
        beat = NEVER if self._beating else self._beat_at
        push = NEVER if self._pushing or self.token is None else self._push_at
        return min(own, beat, push)

    def wake(self, now: float) -> list[Call]:
        """Does what is due and returns the calls to send now: at most one beat (or auth) and one push."""
        if self.phase is Phase.GONE:
            return []
        if now >= self.lease_end:
            self._end_work(self.lease_end, died=self.phase is Phase.CUT_OFF)
        if now >= self._crash_at:
            return self._fail(now)
        if now >= self._stop_at:
            self._end_work(now)
        if self.phase is Phase.CUT_OFF and now < self._silent_until:
            return []
        self._show_phase()
        calls = []
        if not self._beating and now >= self._beat_at:
            self._beating, self._urgent = True, False
            calls.append(self._speak())
        if not self._pushing and self.token is not None and now >= self._push_at:
            calls.extend(self._push())
        return calls

    def crash(self, now: float) -> None:
        """Its process vanishes between two lines, without a word."""
        self.leaving = False
        self._end_work(now, died=True)
        self._vanish()

    def cut_off(self, now: float, seconds: float) -> None:
        """It hears and says nothing for `seconds`, and goes on working while its lease lasts."""
        self.era += 1
        self._beating = self._pushing = False
        self._silent_until = self._beat_at = now + seconds
        self._push_at = max(self._push_at, self._silent_until) if self._pending else NEVER
        self.phase = Phase.CUT_OFF

    def sicken(self, now: float) -> None:
        """Where its profile is poisonous, it crashes a moment later."""
        if self.work and self.work.profile in self._around.poisonous:
            self._crash_at = now + self._around.rng.uniform(*CRASHES_AFTER)

    def leave(self, now: float) -> Call | None:
        """Ends its work and is gone; returns the good-bye to send, if anybody knows it."""
        self._end_work(now)
        heard = self.phase is not Phase.CUT_OFF
        self._vanish()
        return self._call(Errand.LEAVE, {"reason": "shutdown"}) if self.token and heard else None

    # -- what it is told ---------------------------------------------------------------------------

    def authenticated(self, reply: AuthReply, now: float) -> None:
        """`/bot/auth` was answered. Work that was not given back ends at once."""
        self._beating, self._failures = False, 0
        self.token, self.interval, self.ttl = reply.token, reply.interval, reply.ttl
        if self.work and not is_for(self.work, reply.assignment):
            self._end_work(now)
        if self._pending:
            self._push_at = min(self._push_at, now)
        self._beat_at = now
        self._show_phase()

    def beaten(self, reply: HeartbeatReply, sent: float, now: float) -> None:
        """A heartbeat that was sent at `sent` was answered."""
        self._beating, self._failures = False, 0
        self._around.tally.beats += 1
        self.interval, self.ttl = reply.interval, reply.ttl
        if now < sent + reply.ttl:
            self._obey(reply, sent, now)
        self._beat_at = now if self._urgent else max(now, sent + self._jittered(self.interval))
        self._show_phase()

    def pushed(self, reply: PushReply, sent: float, now: float) -> None:
        """A batch that was sent at `sent` is in the ledger."""
        batch, self._pending, self._pushing = self._pending, None, False
        self._push_at = now + self._jittered(self._around.push_every) if self.work else NEVER
        if batch is None:
            return
        self._around.judge.acknowledged(batch.profile, batch.epoch, batch.number)
        if reply.duplicate:
            self._around.tally.duplicates += 1
            return
        self._around.tally.records += reply.accepted
        self._around.judge.stored(batch.profile, self.worker, batch.epoch, sent, now)

    def refused(self, call: Call, code: str, now: float, retry_after: float | None) -> None:
        """A call was refused with one of the protocol's codes."""
        self._around.tally.refused(code)
        if call.errand is Errand.LEAVE:
            self._vanish()
        elif code == "unknown_bot":
            self._forgotten(call, now)
        elif code == "slot_contested" and call.errand is Errand.AUTH:
            self._lose_slot(now, retry_after)
        elif code in ("invalid_key", "server_not_allowed"):
            self.refusal = code
            self._end_work(now)
            self._vanish()
        elif call.errand is Errand.PUSH and code in ("superseded", "body_too_large", "invalid_request"):
            self._drop_batch(code, now)
        else:
            self.unanswered(call, now, retry_after)

    def unanswered(self, call: Call, now: float, retry_after: float | None = None) -> None:
        """No answer came, or one that says `later`: it tries again and works on while the lease lasts."""
        if call.errand is Errand.LEAVE:
            self._vanish()
            return
        wait = self._backoff(retry_after)
        if call.errand is Errand.PUSH:
            self._pushing, self._push_at = False, now + wait
        else:
            self._beating, self._beat_at = False, now + wait

    def left(self) -> None:
        """The good-bye was heard."""
        self._vanish()

    # -- inside ------------------------------------------------------------------------------------

    def _obey(self, reply: HeartbeatReply, sent: float, now: float) -> None:
        mine = is_for(self.work, reply.assignment)
        if self.work and mine:
            self.lease_end = sent + reply.ttl
            self._around.judge.leased(self.work.profile, self.worker, self.lease_end)
        match reply.instruction:
            case Instruction.START if reply.assignment and self.work is None:
                self._begin_work(reply.assignment, sent + reply.ttl, now)
            case Instruction.CONTINUE if self.work and mine:
                self.work.confirmed = True
            case Instruction.RECONFIGURE if self.work and mine and reply.assignment:
                self._urgent = self.work.revision != reply.assignment.revision
                self.work.revision = reply.assignment.revision
                self.work.lease = reply.assignment.lease or self.work.lease
            case Instruction.STOP if self.work and mine:
                takes = self._around.rng.uniform(0, self._around.longest_stop)
                self._stop_at = min(self._stop_at, now + takes)
            case Instruction.STOP if self.work is None and reply.assignment:
                # It was given work that it never heard of, and says that it does none of it.
                self._ended = {"profile": reply.assignment.profile, "epoch": reply.assignment.epoch}
                self._urgent = True
            case Instruction.STOP:
                self._end_work(now)
            case Instruction.WAIT:
                self._ended = None
            case Instruction.EXIT:
                self._end_work(now)
                self.leaving = self._urgent = True
            case _:
                pass

    def _begin_work(self, assignment: Assignment, lease_end: float, now: float) -> None:
        self._around.judge.told(assignment.profile, self.worker, assignment.epoch, now)
        self._around.judge.began(assignment.profile, self.worker, assignment.epoch, now)
        self._ended = None
        self.work = Work(assignment.profile, assignment.epoch, assignment.revision, assignment.lease)
        if self._before and is_for(self._before, assignment):
            self.work.batches = self._before.batches  # an assignment's batches are numbered through
        self.lease_end = lease_end
        self._around.judge.leased(assignment.profile, self.worker, lease_end)
        self.sicken(now)
        self._urgent = True
        if self._pending is None:
            self._push_at = now + self._around.rng.uniform(0, self._around.push_every)

    def _end_work(self, at: float, *, died: bool = False, flush: bool = True) -> None:
        work, self.work = self.work, None
        self._ended = {"profile": work.profile, "epoch": work.epoch} if work else None
        self.lease_end = self._stop_at = self._crash_at = NEVER
        if work is None:
            return
        self._around.judge.ended(work.profile, self.worker, at, died=died)
        self._before = work
        if flush and self._pending is None:
            # The last flush of what it had gathered; from a bot that was cut off it is a ghost's.
            self._pending = self._batch(work)
            self._push_at = at
        if self.phase is not Phase.CUT_OFF:
            self._urgent = True
            self._beat_at = min(self._beat_at, at)

    def _speak(self) -> Call:
        if self.leaving:
            self._around.judge.freed(self.worker)
            return self._call(Errand.LEAVE, {"reason": "shutdown"})
        if self.token is None:
            return self._call(Errand.AUTH, self._introduction())
        if self._around.rng.random() < STATUS_CHANGES:
            self._status = self._around.rng.randrange(len(STATUSES))
        body: dict[str, Any] = {"status": STATUSES[self._status] if self.work else ""}
        if self.work:
            body["working"] = self.work.named
        else:
            self._around.judge.freed(self.worker)
            body["ended"] = self._ended
        return self._call(Errand.BEAT, body)

    def _introduction(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "hostname": self.hostname,
            "instance": self.instance,
            "version": self._around.version,
            "labels": self._around.labels,
        }
        if self.work:
            body["working"] = {**self.work.named, "lease": self.work.lease}
        return body

    def _push(self) -> list[Call]:
        if self._pending is None and self.work:
            self._pending = self._batch(self.work)
        if self._pending is None:
            self._push_at = NEVER
            return []
        self._pushing = True
        return [Call(Errand.PUSH, self._pending.body, self.token, self.era)]

    def _batch(self, work: Work) -> Batch:
        work.batches += 1
        record = {"kind": "progress", "data": {"step": work.batches, "doing": STATUSES[self._status]}}
        body: dict[str, Any] = {"profile": work.profile, "epoch": work.epoch, "batch": work.batches}
        body["records"] = [record] * self._around.push_records
        return Batch(work.profile, work.epoch, work.batches, to_json(body))

    def _forgotten(self, call: Call, now: float) -> None:
        if call.errand is Errand.PUSH:
            self._pushing, self._push_at = False, now
        else:
            self._beating = False
        if call.token == self.token:
            self.token = None
            self._beat_at = now
            self._show_phase()

    def _drop_batch(self, code: str, now: float) -> None:
        batch, self._pending, self._pushing = self._pending, None, False
        if batch and code == "superseded":
            if self.work and (self.work.profile, self.work.epoch) == (batch.profile, batch.epoch):
                self._end_work(now, flush=False)
            else:
                self._around.tally.ghosts_refused += 1
        self._push_at = now + self._jittered(self._around.push_every) if self.work else NEVER

    def _fail(self, now: float) -> list[Call]:
        """Its work makes it crash: with a good-bye that says so, or without a word."""
        says_so = self._around.poisonous.get(self.work.profile, False) if self.work else False
        self._end_work(now, died=True, flush=False)
        self._vanish()
        self.failed = True
        if not says_so or not self.token:
            return []
        self._around.judge.freed(self.worker)
        return [self._call(Errand.LEAVE, {"reason": "crash", "detail": "poison"})]

    def _lose_slot(self, now: float, retry_after: float | None) -> None:
        """Another process holds its slot: it works for nobody, and asks again later."""
        self._end_work(now)
        self._beating = False
        self._beat_at = now + (retry_after or self.interval) * self._around.rng.uniform(1.0, 1.5)
        self._show_phase()

    def _vanish(self) -> None:
        self.phase = Phase.GONE
        self.era += 1

    def _show_phase(self) -> None:
        if self.phase is Phase.GONE:
            return
        if self.work:
            working = Phase.WORKING if self.work.confirmed else Phase.STARTING
            self.phase = Phase.STOPPING if self._stop_at < NEVER else working
        else:
            self.phase = Phase.JOINING if self.token is None else Phase.IDLE

    def _backoff(self, retry_after: float | None) -> float:
        self._failures += 1
        if retry_after is not None:
            # Below a sixth of the ttl, so that several tries fit into what is left of a lease.
            return min(retry_after, self.ttl / 9) * self._around.rng.uniform(1.0, 1.5)
        grown = FIRST_BACKOFF * 2.0 ** min(self._failures - 1, 10)
        return min(max(FIRST_BACKOFF, self.interval), grown) * self._around.rng.uniform(0.5, 1.0)

    def _jittered(self, seconds: float) -> float:
        return seconds * self._around.rng.uniform(1 - JITTER, 1 + JITTER)

    def _call(self, errand: Errand, body: dict[str, Any]) -> Call:
        return Call(errand, to_json(body), self.token, self.era)
