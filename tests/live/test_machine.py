"""Random orders of everything that bots, clients, operators, time and the network do; checked after each step.

Bots here keep the lease rule: a process stops its work when the model's clock reaches the end of its lease. Replies get
lost, so rota may have done what a bot never hears of. All keys may vanish; then the ledger, as far as live state needs
it, is what the model remembers. The store's clock is set while nobody looks, and time goes on evenly all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rota.errors import NotFoundError, SupersededError, UnknownBotError
from rota.live import bots as live_bots
from rota.live import liveness, profiles
from rota.live.beats import Answer
from tests.live.driver import TTL
from tests.live.invariants import check, read_everything
from tests.live.model import CLASSES, PROFILES, SERVERS, SLOTS, Model

slots = st.sampled_from(SLOTS)
profile_ids = st.sampled_from(PROFILES)
lost = st.sampled_from([False, False, False, True])


class Fleet(Model):
    # What bots do

    @rule(slot=slots, lost=lost)
    def a_process_starts(self, slot: str, lost: bool) -> None:
        self.start(slot, lost=lost)

    @precondition(lambda self: any(process.granted for process in self.processes.values()))
    @rule(data=st.data(), lost=lost)
    def a_process_comes_back_with_its_lease(self, data: st.DataObject, lost: bool) -> None:
        slot = data.draw(st.sampled_from([s for s, p in self.processes.items() if p.granted]))
        process = self.processes[slot]
        self.auth(slot, process, process.work, lost=lost)

    @rule(slot=slots, accepting=st.sampled_from([True, True, True, False]), lost=lost)
    def a_bot_beats(self, slot: str, accepting: bool, lost: bool) -> None:
        self.beat(slot, accepting=accepting, lost=lost)

    @rule(times=st.sampled_from([1, 1, 2, 5]))
    def an_ordinary_minute_passes(self, times: int) -> None:
        """Everybody beats, rota hears, the steward works: what most of a fleet's life is."""
        for _ in range(times):
            for slot in SLOTS:
                self.beat(slot, accepting=True, lost=False)
            self.the_web_pulses([0, 1])
            self.the_steward_works(limit=100)
            self.time_passes(seconds=30, hearing=True)

    @rule(order=st.permutations(SLOTS))
    def everybody_beats(self, order: list[str]) -> None:
        for slot in order:
            self.beat(slot, accepting=True, lost=False)
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
        self.obey(slot, process, second, sent)

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
            self.auth(slot, process, None, lost=True)

    @precondition(lambda self: self.messages)
    @rule(profile=profile_ids, order=st.permutations(SLOTS), data=st.data())
    def a_restart_meets_an_old_beat(self, profile: str, order: list[str], data: st.DataObject) -> None:
        if self.wanted[profile] == "started":
            self.want(profile, "stopped")
            self.an_old_beat_arrives(data)
            self.want(profile, "started")
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
            self.end(self.processes[slot])

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
        claim = live_bots.Claim(slot, process.digest, work.profile, work.epoch)
        (owned,) = self.run(live_bots.resolve(self.live, self.driver.fleet, [claim], ttl=TTL))
        if isinstance(owned, UnknownBotError | SupersededError):
            return
        profile, epoch = owned
        assert epoch >= self.epochs[profile], "data was taken under an epoch older than one that was granted"

    # What clients and operators do

    @rule(profile=profile_ids, labelled=st.booleans(), priority=st.sampled_from([0, 0, 10, -3]))
    def a_client_starts(self, profile: str, labelled: bool, priority: int) -> None:
        if self.wanted.get(profile) != "deleted":
            labels = {"kind": "site"} if labelled else {}
            self.want(profile, "started", labels=labels, priority=priority)

    @rule(profile=profile_ids, want=st.sampled_from(["stopped", "stopped", "stopped", "deleted"]))
    def a_client_stops_or_deletes(self, profile: str, want: str) -> None:
        if self.wanted.get(profile) not in (None, "deleted"):
            self.want(profile, want)

    @rule(profile=profile_ids)
    def a_client_reconfigures(self, profile: str) -> None:
        if self.wanted.get(profile) not in (None, "deleted"):
            self.revisions[profile] += 1
            self.want(profile, self.wanted[profile])

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
                self.end(process)

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
        self.pulse(order)

    @rule()
    def a_web_worker_is_restarted(self) -> None:
        self.hearing[1] = self.web_worker()

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
        self.come_back(early)
        self.rebuild()
        self.come_back(then)
        for slot in then:
            self.beat(slot, accepting=True, lost=False)
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
