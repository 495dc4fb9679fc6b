"""Random orders of everything that bots, clients, operators, time and the network do; checked after each step.

Bots here keep the lease rule: a process stops its work when the model's clock reaches the end of its lease. Replies get
lost, so rota may have done what a bot never hears of. All keys may vanish; then the ledger, as far as live state needs
it, is what the model remembers. The store's clock is set while nobody looks, and time goes on evenly all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import uuid4

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rota.errors import NotFoundError, SlotContestedError, SupersededError, UnavailableError, UnknownBotError
from rota.live import bots as live_bots
from rota.live import liveness, profiles
from rota.live.beats import Answer
from rota.live.liveness import Hearing
from rota.live.scripts import Live
from rota.protocol import Working
from tests.live.conftest import build
from tests.live.driver import TTL, Driver
from tests.live.invariants import check, read_everything

SERVERS = ("s1", "s2")
SLOTS = [f"{server}/{instance}" for server in SERVERS for instance in "12"]
CLASSES = ("-", "kind=site")
PROFILES = ["prf_1", "prf_2"]
LABELS = {"s1/1": {"kind": "site"}, "s2/1": {"kind": "site"}}
slots = st.sampled_from(SLOTS)
profile_ids = st.sampled_from(PROFILES)
lost = st.sampled_from([False, False, False, True])


NOTHING = ("-", 0)


class Message(NamedTuple):
    """A heartbeat as it went over the wire; the network may deliver it again, or late."""

    slot: str
    digest: bytes
    work: Working | None
    ended: tuple[str, int]


@dataclass
class Process:
    """What one bot process knows; `lease_ends` is on the model's clock, in seconds."""

    digest: bytes | None = None
    work: Working | None = None
    lease_ends: float = 0
    granted: Working | None = None
    ended: tuple[str, int] = NOTHING


class Fleet(RuleBasedStateMachine):
    valkey_url = ""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.live = Live(self.valkey_url)
        self.driver = Driver(self.live, f"m{uuid4().hex[:10]}")
        self.processes: dict[str, Process] = {}
        self.messages: list[Message] = []
        self.clock = 0.0
        self.epochs: dict[str, int] = {}
        self.fences: dict[str, int] = {}
        """What the ledger knows: raised before a bot is told its epoch, so also where it never hears of it."""
        self.drained: set[str] = set()
        self.incarnation = 1
        self.clock_set_ms = 0
        """By how much the store's clock was set since a web worker looked at it last."""
        self.hearing = [self._web_worker(), self._web_worker()]
        self.revisions: dict[str, int] = dict.fromkeys(PROFILES, 1)
        self.wanted: dict[str, str] = {}
        self.wishes: dict[str, dict[str, Any]] = {}
        self.run(build(self.live, self.driver.fleet))
        self.the_web_pulses([0, 1])
        for slot in SLOTS:
            self.a_process_starts(slot, lost=False)
        for profile in PROFILES:
            self._want(profile, "started")

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    # What bots do

    @rule(slot=slots, lost=lost)
    def a_process_starts(self, slot: str, lost: bool) -> None:
        """A supervisor starts a process in this slot; one that was there is gone before."""
        process = self.processes[slot] = Process()
        self._auth(slot, process, None, lost=lost)

    @precondition(lambda self: any(process.granted for process in self.processes.values()))
    @rule(data=st.data(), lost=lost)
    def a_process_comes_back_with_its_lease(self, data: st.DataObject, lost: bool) -> None:
        slot = data.draw(st.sampled_from([s for s, p in self.processes.items() if p.granted]))
        process = self.processes[slot]
        self._auth(slot, process, process.work, lost=lost)

    @rule(slot=slots, accepting=st.sampled_from([True, True, True, False]), lost=lost)
    def a_bot_beats(self, slot: str, accepting: bool, lost: bool) -> None:
        self._beat(slot, accepting=accepting, lost=lost)

    @rule(times=st.sampled_from([1, 1, 2, 5]))
    def an_ordinary_minute_passes(self, times: int) -> None:
        """Everybody beats, rota hears, the steward works: what most of a fleet's life is."""
        for _ in range(times):
            for slot in SLOTS:
                self._beat(slot, accepting=True, lost=False)
            self.the_web_pulses([0, 1])
            self.the_steward_works(limit=100)
            self.time_passes(seconds=30, hearing=True)

    @rule(order=st.permutations(SLOTS))
    def everybody_beats(self, order: list[str]) -> None:
        for slot in order:
            self._beat(slot, accepting=True, lost=False)
            self.nobody_shares_a_profile()

    @rule(slot=slots)
    def two_beats_of_one_bot_cross(self, slot: str) -> None:
        """A retry overtakes its original, and both are answered in one batch."""
        process = self.processes.get(slot)
        if process is None or process.digest is None:
            return

        async def both() -> list[Answer]:
            first = self.driver.beat(slot, process.work, digest=process.digest, ended=process.ended)
            second = self.driver.beat(slot, process.work, digest=process.digest, ended=process.ended)
            return list(await asyncio.gather(first, second))

        sent = self.clock
        first, second = self.run(both())
        if first.code == "start" and second.code == "start":
            assert first == second
        for told in (first, second):
            if told.code == "start":
                self.fences[told.profile] = max(told.epoch, self.fences.get(told.profile, 0))
        self._obey(slot, process, second, sent)

    @rule(data=st.data())
    def an_old_beat_arrives(self, data: st.DataObject) -> None:
        """Held up on its way, or repeated; nobody hears the answer."""
        if self.messages:
            old = data.draw(st.sampled_from(self.messages))
            self.run(self.driver.beat(old.slot, old.work, digest=old.digest, ended=old.ended))

    @rule(slot=slots)
    def an_auth_without_work_is_repeated(self, slot: str) -> None:
        """The slot's process goes on working meanwhile, and learns of it by `unknown_bot`."""
        process = self.processes.get(slot)
        if process is not None:
            self._auth(slot, process, None, lost=True)

    @precondition(lambda self: self.messages)
    @rule(profile=profile_ids, order=st.permutations(SLOTS), data=st.data())
    def a_restart_meets_an_old_beat(self, profile: str, order: list[str], data: st.DataObject) -> None:
        if self.wanted[profile] == "started":
            self._want(profile, "stopped")
            self.an_old_beat_arrives(data)
            self._want(profile, "started")
            self.everybody_beats(order)

    @rule(slot=slots, order=st.permutations(SLOTS))
    def a_drain_meets_a_repeated_auth(self, slot: str, order: list[str]) -> None:
        self.an_operator_drains(slot, draining=True)
        self.an_auth_without_work_is_repeated(slot)
        self.everybody_beats(order)
        self.an_operator_drains(slot, draining=False)

    @rule(slot=slots)
    def a_bot_ends_its_work_by_itself(self, slot: str) -> None:
        if slot in self.processes:
            self._end(self.processes[slot])

    @rule(slot=slots, reason=st.sampled_from(["shutdown", "crash"]), lost=lost)
    def a_bot_leaves(self, slot: str, reason: str, lost: bool) -> None:
        process = self.processes.get(slot)
        if process is None or process.digest is None:
            return
        process.work = None
        with contextlib.suppress(UnknownBotError):
            self.run(live_bots.leave(self.live, self.driver.fleet, slot, process.digest, reason))
        if not lost:
            del self.processes[slot]

    @rule(slot=slots)
    def a_process_dies_without_a_word(self, slot: str) -> None:
        self.processes.pop(slot, None)

    @rule(slot=slots, old=st.booleans())
    def a_bot_pushes(self, slot: str, old: bool) -> None:
        process = self.processes.get(slot)
        if process is None or process.digest is None or process.granted is None:
            return
        work = process.granted if old or process.work is None else process.work
        try:
            profile, epoch = self.run(
                live_bots.resolve(
                    self.live,
                    self.driver.fleet,
                    slot,
                    process.digest,
                    ttl=TTL,
                    profile=work.profile,
                    epoch=work.epoch,
                )
            )
        except (UnknownBotError, SupersededError):
            return
        assert epoch >= self.epochs[profile], "data was taken under an epoch older than one that was granted"

    # What clients and operators do

    @rule(profile=profile_ids, labelled=st.booleans(), priority=st.sampled_from([0, 0, 10, -3]))
    def a_client_starts(self, profile: str, labelled: bool, priority: int) -> None:
        if self.wanted.get(profile) != "deleted":
            labels = {"kind": "site"} if labelled else {}
            self._want(profile, "started", labels=labels, priority=priority)

    @rule(profile=profile_ids, want=st.sampled_from(["stopped", "stopped", "stopped", "deleted"]))
    def a_client_stops_or_deletes(self, profile: str, want: str) -> None:
        if self.wanted.get(profile) not in (None, "deleted"):
            self._want(profile, want)

    @rule(profile=profile_ids)
    def a_client_reconfigures(self, profile: str) -> None:
        if self.wanted.get(profile) not in (None, "deleted"):
            self.revisions[profile] += 1
            self._want(profile, self.wanted[profile])

    @rule(profile=profile_ids, want=st.sampled_from(["started", "stopped", "deleted"]))
    def an_old_wish_arrives_late(self, profile: str, want: str) -> None:
        known = self.driver.versions.get(profile, 0)
        if known:
            applied = self.run(self.driver.want(profile, want, version=known))
            assert applied == 0

    @rule(slot=slots)
    def an_operator_kills(self, slot: str) -> None:
        try:
            self.run(live_bots.kill(self.live, self.driver.fleet, slot))
        except NotFoundError:
            return

    @rule(subject=st.sampled_from([*SLOTS, *SERVERS]), draining=st.booleans())
    def an_operator_drains(self, subject: str, draining: bool) -> None:
        try:
            self.run(live_bots.drain(self.live, self.driver.fleet, subject, draining=draining))
        except NotFoundError:
            return
        if subject in SERVERS:
            (self.drained.add if draining else self.drained.discard)(subject)

    @rule(profile=profile_ids)
    def an_operator_releases(self, profile: str) -> None:
        try:
            self.run(profiles.release(self.live, self.driver.fleet, profile))
        except NotFoundError:
            return

    # What time and the steward do

    @rule(
        seconds=st.sampled_from([0.5, 5, 12, 31, 45, 91, 100, 601]),
        hearing=st.sampled_from([True, True, False]),
    )
    def time_passes(self, seconds: float, hearing: bool) -> None:
        if self.clock_set_ms:
            # Somebody looks within a second.
            self.the_web_pulses([0, 1])
        self.clock += seconds
        self.run(self.driver.pass_time(seconds * 1000, hearing=hearing))
        for process in self.processes.values():
            if process.lease_ends <= self.clock:
                self._end(process)

    @rule(seconds=st.sampled_from([6, 31, 100, 601]))
    def an_outage_passes(self, seconds: float) -> None:
        """Rota hears nobody, and holds it against nobody."""
        before = set(self.run(read_everything(self.live, self.driver.fleet)).roster)
        self.time_passes(seconds=seconds, hearing=False)
        self.the_web_pulses([0, 1])
        self.the_steward_works(limit=100)
        assert before <= set(self.run(read_everything(self.live, self.driver.fleet)).roster), "died while rota was deaf"

    @rule(order=st.permutations([0, 1]))
    def the_web_pulses(self, order: list[int]) -> None:
        for number in order:
            self.run(self.hearing[number].pulse(TTL))
        # What one worker that has just started leaves to the other, that has done.
        self.clock_set_ms = 0

    @rule()
    def a_web_worker_is_restarted(self) -> None:
        self.hearing[1] = self._web_worker()

    @rule(by=st.sampled_from([3_600_000, 50_000, 1_000, -1_000, -50_000, -3_600_000]))
    def the_clock_of_the_store_is_set(self, by: int) -> None:
        self.clock_set_ms += by
        self.run(self.driver.set_clock(by))

    @rule(by=st.sampled_from([3_600_000, -3_600_000]), order=st.permutations(SLOTS), workers=st.permutations([0, 1]))
    def the_clock_is_set_amid_work(self, by: int, order: list[str], workers: list[int]) -> None:
        self.the_clock_of_the_store_is_set(by)
        self.everybody_beats(order)
        self.the_steward_works(limit=100)
        self.the_web_pulses(workers)
        self.the_steward_works(limit=100)
        self.everybody_beats(order)

    @rule(limit=st.sampled_from([1, 2, 100]))
    def the_steward_works(self, limit: int) -> None:
        self.run(liveness.reap(self.live, self.driver.fleet, limit))
        self.run(profiles.promote(self.live, self.driver.fleet, limit))

    @rule(really=st.sampled_from([True, *[False] * 9]))
    def the_store_is_restarted(self, really: bool) -> None:
        """Rarely, because nothing is granted for one ttl after it."""
        if really:
            self.run(self.driver.forget_run())

    @rule(
        really=st.sampled_from([True, *[False] * 5]),
        early=st.lists(slots, unique=True),
        then=st.lists(slots, unique=True),
        minutes=st.sampled_from([0, 0, 5]),
    )
    def all_keys_are_lost(self, really: bool, early: list[str], then: list[str], minutes: int) -> None:
        """Bots come back with their leases, some before everything is rebuilt from the ledger, and some do not."""
        if not really:
            return
        self.clock_set_ms = 0
        self.run(self.driver.forget_everything(SERVERS, CLASSES))
        self._come_back(early)
        self._rebuild()
        self._come_back(then)
        for slot in then:
            self._beat(slot, accepting=True, lost=False)
            self.nobody_shares_a_profile()
        self.an_ordinary_minute_passes(minutes)

    # What must be true after each of them

    @invariant()
    def live_state_is_consistent(self) -> None:
        if hasattr(self, "live"):
            check(self.run(read_everything(self.live, self.driver.fleet)))

    @invariant()
    def nobody_shares_a_profile(self) -> None:
        busy = [p.work.profile for p in getattr(self, "processes", {}).values() if p.work]
        assert len(busy) == len(set(busy)), "two bots work on one profile"

    def teardown(self) -> None:
        if hasattr(self, "live"):
            self.run(self.live.aclose())
            self.loop.close()

    def _auth(self, slot: str, process: Process, work: Working | None, *, lost: bool) -> None:
        sent, digest = self.clock, os.urandom(32)
        newcomer = live_bots.Newcomer(slot, digest, "1", LABELS.get(slot, {}), "::1")
        try:
            restored = self.run(live_bots.auth(self.live, self.driver.fleet, newcomer, ttl=TTL, leased=work))
        except UnavailableError:
            return
        except SlotContestedError:
            if not lost:
                self._end(process)
            return
        if lost:
            return
        process.digest = digest
        if restored is None:
            self._end(process)
        else:
            assert work is not None
            assert (restored.profile, restored.epoch) == (work.profile, work.epoch)
            process.lease_ends = sent + TTL

    def _beat(self, slot: str, *, accepting: bool, lost: bool) -> None:
        process = self.processes.get(slot)
        if process is None or process.digest is None:
            return
        sent = self.clock
        self.messages = [*self.messages[-20:], Message(slot, process.digest, process.work, process.ended)]
        told = self.run(
            self.driver.beat(slot, process.work, accepting=accepting, digest=process.digest, ended=process.ended)
        )
        if told.code == "start":
            self.fences[told.profile] = max(told.epoch, self.fences.get(told.profile, 0))
        if not lost:
            self._obey(slot, process, told, sent)

    def _obey(self, slot: str, process: Process, told: Answer, sent: float) -> None:
        if told.code == "unknown":
            return
        process.lease_ends = sent + TTL
        if process.work is None:
            process.ended = (told.profile, told.epoch) if told.code == "stop" else NOTHING
        if told.code == "start":
            assert process.work is None
            process.work = Working(profile=told.profile, epoch=told.epoch, revision=told.revision)
            process.granted = process.work
            assert told.epoch >= self.epochs.get(told.profile, 0), "an epoch fell"
            self.epochs[told.profile] = told.epoch
        elif told.code == "reconfigure":
            assert process.work is not None
            process.work = process.work.model_copy(update={"revision": told.revision})
        elif told.code in ("stop", "exit"):
            self._end(process)

    def _end(self, process: Process) -> None:
        if process.work is not None:
            process.ended = (process.work.profile, process.work.epoch)
            process.work = None

    def _web_worker(self) -> Hearing:
        return Hearing(self.live, self.driver.fleet, clock=lambda: time.monotonic() + self.clock)

    def _rebuild(self) -> None:
        """As the steward's duty does it."""
        self.incarnation += 1
        name, known = f"incarnation {self.incarnation}", f"incarnation {self.incarnation - 1}"
        fleet = self.driver.fleet
        self.run(liveness.pulse(self.live, fleet, "steward", ttl=TTL, incarnation=name, known=known))
        for profile, want in self.wanted.items():
            changes = {"revision": self.revisions[profile], "epoch": self.fences.get(profile, 0)}
            self.run(self.driver.want(profile, want, **changes, **self.wishes[profile]))
        for server in self.drained:
            self.run(live_bots.drain(self.live, fleet, server, draining=True))
        self.run(liveness.pulse(self.live, fleet, "built", ttl=TTL, incarnation=name))
        self.the_web_pulses([0, 1])

    def _come_back(self, order: list[str]) -> None:
        for slot in order:
            process = self.processes.get(slot)
            if process is not None:
                self._auth(slot, process, process.work, lost=False)

    def _want(self, profile: str, want: str, **changes: Any) -> None:
        self.wishes[profile] = changes
        self.wanted[profile] = want
        applied = self.run(self.driver.want(profile, want, revision=self.revisions[profile], **changes))
        assert applied == 1


def test_no_order_of_moves_breaks_an_invariant(valkey_url: str) -> None:
    class Machine(Fleet):
        pass

    Machine.valkey_url = valkey_url
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=int(os.environ.get("ROTA_TEST_EXAMPLES", "40")),
            stateful_step_count=80,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


pytestmark = pytest.mark.timeout(300)
