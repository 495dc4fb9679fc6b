"""A simulated bot keeps the protocol through any life at all."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rota.protocol import Instruction, PushReply
from rota.simulator.bot import NEVER, Phase
from rota.simulator.calls import Call, Errand
from tests.unit.test_simulator_bot import a_bot, body_of, judge_of, reply, welcome


class AnyLife(RuleBasedStateMachine):
    """A bot that is told anything at all, in any order, and to which anything may happen."""

    @initialize(seed=st.integers(0, 2**16))
    def is_born(self, seed: int) -> None:
        self.now = 0.0
        self.bot = a_bot(seed)
        self.under_way: list[tuple[Call, float]] = []
        self.pushes: dict[tuple[str, int], dict[int, bytes]] = {}

    @rule(seconds=st.floats(0, 4))
    def time_passes(self, seconds: float) -> None:
        """Wakes the bot at each of its own times, as the crowd does."""
        until = self.now + seconds
        for _ in range(1000):
            at = max(self.now, self.bot.next_wake())
            if at > until:
                break
            self.now = at
            self.note(self.bot.wake(at))
        else:
            pytest.fail("the bot never rests")
        self.now = until

    def note(self, calls: list[Call]) -> None:
        for call in calls:
            self.under_way = [(other, sent) for other, sent in self.under_way if other.era == self.bot.era]
            same = [
                other for other, _ in self.under_way if (other.errand is Errand.PUSH) == (call.errand is Errand.PUSH)
            ]
            assert not same, "two calls of one kind are under way"
            self.under_way.append((call, self.now))
            if call.errand is Errand.PUSH:
                body = body_of(call)
                batches = self.pushes.setdefault((body["profile"], body["epoch"]), {})
                assert batches.setdefault(body["batch"], call.body) == call.body
                assert sorted(batches) == list(range(min(batches), max(batches) + 1))
            elif call.errand is Errand.BEAT:
                work = self.bot.work
                said = body_of(call).get("working")
                assert said == (work and {"profile": work.profile, "epoch": work.epoch, "revision": work.revision})

    def take(self, data: st.DataObject) -> tuple[Call, float] | None:
        open_calls = [entry for entry in self.under_way if entry[0].era == self.bot.era]
        if not open_calls:
            return None
        entry = data.draw(st.sampled_from(open_calls))
        self.under_way.remove(entry)
        self.note(self.bot.wake(self.now))
        return entry if entry[0].era == self.bot.era else None

    @rule(
        data=st.data(),
        instruction=st.sampled_from(Instruction),
        profile=st.sampled_from(["prf_a", "prf_b"]),
        epoch=st.integers(1, 3),
        revision=st.integers(1, 3),
    )
    def is_answered(
        self, data: st.DataObject, instruction: Instruction, profile: str, epoch: int, revision: int
    ) -> None:
        entry = self.take(data)
        if entry is None:
            return
        call, sent = entry
        if call.errand is Errand.AUTH:
            bound = {"profile": profile, "epoch": epoch, "revision": revision}
            self.bot.authenticated(welcome(**(bound if revision > 1 else {})), self.now)
        elif call.errand is Errand.BEAT:
            self.bot.beaten(reply(instruction, profile, epoch, revision), sent, self.now)
        elif call.errand is Errand.PUSH:
            self.bot.pushed(PushReply(accepted=1, duplicate=revision == 3), sent, self.now)
        else:
            self.bot.left()

    @rule(data=st.data())
    def is_answered_as_by_a_rota_in_good_health(self, data: st.DataObject) -> None:
        entry = self.take(data)
        if entry is None:
            return
        call, sent = entry
        if call.errand is Errand.AUTH:
            self.bot.authenticated(welcome(), self.now)
        elif call.errand is Errand.BEAT:
            said = body_of(call).get("working")
            told = reply(Instruction.CONTINUE, **said) if said else reply(Instruction.START)
            self.bot.beaten(told, sent, self.now)
        elif call.errand is Errand.PUSH:
            self.bot.pushed(PushReply(accepted=1, duplicate=False), sent, self.now)
        else:
            self.bot.left()

    @rule(
        data=st.data(),
        code=st.sampled_from(
            ["unknown_bot", "superseded", "unavailable", "rate_limited", "invalid_request", "slot_contested"]
        ),
    )
    def is_refused(self, data: st.DataObject, code: str) -> None:
        if entry := self.take(data):
            self.bot.refused(entry[0], code, self.now, 1.0 if code == "unavailable" else None)

    @rule(data=st.data())
    def hears_nothing(self, data: st.DataObject) -> None:
        if entry := self.take(data):
            self.bot.unanswered(entry[0], self.now)

    @precondition(lambda self: self.bot.phase is Phase.WORKING)
    @rule(seconds=st.floats(0.5, 15))
    def is_cut_off(self, seconds: float) -> None:
        self.bot.wake(self.now)
        if self.bot.phase is Phase.WORKING:
            self.bot.cut_off(self.now, seconds)

    @invariant()
    def works_only_while_its_lease_lasts(self) -> None:
        if self.bot.work and self.now > self.bot.lease_end:
            self.note(self.bot.wake(self.now))
            assert self.bot.work is None

    @invariant()
    def is_told_of_as_it_is(self) -> None:
        at_work = [profile for profile in ("prf_a", "prf_b") if judge_of(self.bot).working(profile)]
        assert at_work == ([self.bot.work.profile] if self.bot.work else [])

    @invariant()
    def never_falls_asleep_for_ever(self) -> None:
        waits = any(call.era == self.bot.era for call, _ in self.under_way)
        assert self.bot.phase is Phase.GONE or waits or self.bot.next_wake() < NEVER


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(deadline=None)  # a busy machine is no bug
