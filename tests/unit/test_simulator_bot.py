"""A simulated bot keeps the protocol, whatever it is told and whatever befalls it."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rota.protocol import Assignment, AuthReply, HeartbeatReply, Instruction, PushReply
from rota.simulator.bot import NEVER, Phase, SimulatedBot
from rota.simulator.calls import Call, Errand
from rota.simulator.judge import Judge
from rota.simulator.surroundings import Surroundings, Tally

INTERVAL, TTL = 2.0, 6.0
EPOCH = 1_763_900_000_123_456


def a_bot(seed: int = 1, joins_at: float = 0.0) -> SimulatedBot:
    around = Surroundings(Judge(), Tally(), Random(seed), {"kind": "simulated"}, push_every=5.0)
    return SimulatedBot("sim-1", "3", 1, around, joins_at=joins_at, interval=INTERVAL)


def judge_of(bot: SimulatedBot) -> Judge:
    return bot._around.judge


def tally_of(bot: SimulatedBot) -> Tally:
    return bot._around.tally


def welcome(**assignment: Any) -> AuthReply:
    bound = Assignment(**assignment) if assignment else None
    return AuthReply(bot="sim-1/3", token="t1", interval=INTERVAL, ttl=TTL, assignment=bound)


def reply(instruction: Instruction, profile: str = "prf_a", epoch: int = EPOCH, revision: int = 1) -> HeartbeatReply:
    bound = instruction is not Instruction.WAIT
    assignment = Assignment(profile=profile, epoch=epoch, revision=revision, config={}, lease="signed")
    return HeartbeatReply(instruction=instruction, interval=INTERVAL, ttl=TTL, assignment=assignment if bound else None)


def body_of(call: Call) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(call.body)
    return body


def joined(seed: int = 1) -> SimulatedBot:
    """A bot that is authenticated at 0 and has sent its first beat."""
    bot = a_bot(seed)
    assert [call.errand for call in bot.wake(0.0)] == [Errand.AUTH]
    bot.authenticated(welcome(), 0.0)
    assert [call.errand for call in bot.wake(0.0)] == [Errand.BEAT]
    return bot


def at_work(seed: int = 1) -> SimulatedBot:
    """A bot whose start was confirmed by a beat that was sent at 0; no call is under way."""
    bot = joined(seed)
    bot.beaten(reply(Instruction.START), 0.0, 0.0)
    [beat] = [call for call in bot.wake(0.0) if call.errand is Errand.BEAT]
    assert body_of(beat)["working"] == {"profile": "prf_a", "epoch": EPOCH, "revision": 1}
    bot.beaten(reply(Instruction.CONTINUE), 0.0, 0.0)
    assert bot.phase is Phase.WORKING
    return bot


def beats(bot: SimulatedBot, now: float) -> list[Call]:
    return [call for call in bot.wake(now) if call.errand is not Errand.PUSH]


def test_a_start_is_confirmed_by_a_beat_at_once() -> None:
    bot = joined()
    bot.beaten(reply(Instruction.START), 0.0, 0.5)
    assert bot.phase is Phase.STARTING
    [beat] = beats(bot, 0.5)
    assert body_of(beat)["working"]["epoch"] == EPOCH


def test_the_next_beat_comes_an_interval_after_the_last_was_sent_give_or_take_a_tenth() -> None:
    for seed in range(50):
        bot = joined(seed)
        bot.beaten(reply(Instruction.WAIT), 0.0, 0.3)
        assert 0.9 * INTERVAL <= bot.next_wake() <= 1.1 * INTERVAL


def test_work_ends_a_ttl_after_the_last_successful_beat_was_sent() -> None:
    bot = at_work()
    bot.cut_off(1.0, 30.0)
    assert bot.next_wake() == TTL
    bot.wake(TTL - 0.001)
    assert judge_of(bot).working("prf_a") != ()
    bot.wake(TTL)
    assert judge_of(bot).working("prf_a") == ()


def test_a_lease_counts_from_when_the_beat_was_sent_and_not_from_its_answer() -> None:
    bot = at_work()
    bot.wake(2.5)
    bot.beaten(reply(Instruction.CONTINUE), 2.5, 4.0)
    assert bot.lease_end == 2.5 + TTL


def test_an_answer_that_comes_after_its_lease_would_have_ended_starts_nothing() -> None:
    bot = joined()
    bot.beaten(reply(Instruction.START), 0.0, TTL)
    assert bot.work is None


def test_a_stop_is_obeyed_within_half_a_second_and_then_reported_at_once() -> None:
    bot = at_work()
    bot.wake(2.5)
    bot.beaten(reply(Instruction.STOP), 2.5, 2.5)
    assert bot.phase is Phase.STOPPING
    ends_at = bot.next_wake()
    assert 2.5 <= ends_at <= 3.0
    [beat] = beats(bot, ends_at)
    assert "working" not in body_of(beat)


def test_a_stop_by_a_rota_that_does_not_know_the_work_is_obeyed_at_once_and_renews_no_lease() -> None:
    bot = at_work()
    bot.wake(2.5)
    bot.beaten(HeartbeatReply(instruction=Instruction.STOP, interval=INTERVAL, ttl=TTL), 2.5, 2.5)
    assert bot.work is None


def test_a_new_revision_is_taken_and_reported_at_once() -> None:
    bot = at_work()
    bot.wake(2.5)
    bot.beaten(reply(Instruction.RECONFIGURE, revision=2), 2.5, 2.5)
    [beat] = beats(bot, 2.5)
    assert body_of(beat)["working"]["revision"] == 2


def test_exit_makes_a_bot_end_its_work_and_leave() -> None:
    bot = at_work()
    bot.wake(2.5)
    bot.beaten(reply(Instruction.EXIT), 2.5, 2.5)
    [call] = beats(bot, 2.5)
    assert (call.errand, body_of(call)) == (Errand.LEAVE, {"reason": "shutdown"})
    bot.left()
    assert bot.phase is Phase.GONE
    assert bot.next_wake() == NEVER


def test_a_forgotten_bot_comes_back_with_its_work_and_its_lease_and_works_on() -> None:
    bot = at_work()
    [beat] = beats(bot, 2.5)
    bot.refused(beat, "unknown_bot", 2.5, None)
    assert bot.work is not None
    [auth] = beats(bot, 2.5)
    assert auth.errand is Errand.AUTH
    assert body_of(auth)["working"] == {"profile": "prf_a", "epoch": EPOCH, "revision": 1, "lease": "signed"}
    bot.authenticated(welcome(profile="prf_a", epoch=EPOCH, revision=1), 2.6)
    assert bot.work is not None
    assert judge_of(bot).starts == 1


def test_a_bot_whose_work_is_not_given_back_stops_at_once() -> None:
    bot = at_work()
    [beat] = beats(bot, 2.5)
    bot.refused(beat, "unknown_bot", 2.5, None)
    beats(bot, 2.5)
    bot.authenticated(welcome(), 2.6)
    assert bot.work is None


def test_a_late_unknown_bot_for_an_old_token_does_not_throw_the_new_one_away() -> None:
    bot = at_work()
    old = Call(Errand.PUSH, b"{}", "an older token", bot.era)
    bot.refused(old, "unknown_bot", 1.0, None)
    assert bot.token == "t1"


@pytest.mark.parametrize("code", ["unavailable", "rate_limited", "http_502"])
def test_a_rota_that_is_away_does_not_stop_the_work_before_the_lease_does(code: str) -> None:
    bot = at_work()
    now = 2.5
    while now < TTL:
        for call in beats(bot, now):
            bot.refused(call, code, now, 1.0)
            assert bot.next_wake() <= now + 1.5
        assert bot.work is not None
        now += 0.5
    bot.wake(TTL)
    assert bot.work is None


@pytest.mark.parametrize("code", ["invalid_key", "server_not_allowed"])
def test_a_bot_that_may_not_enter_stops_and_says_why(code: str) -> None:
    bot = a_bot()
    [auth] = bot.wake(0.0)
    bot.refused(auth, code, 0.0, None)
    assert (bot.phase, bot.refusal) == (Phase.GONE, code)


def test_a_batch_is_sent_again_unchanged_until_it_is_acknowledged_and_the_next_has_the_next_number() -> None:
    bot = at_work()
    pushes: list[dict[str, Any]] = []
    now = 0.0
    while len(pushes) < 4:
        now += 0.25
        for call in bot.wake(now):
            if call.errand is Errand.BEAT:
                bot.beaten(reply(Instruction.CONTINUE), now, now)
                continue
            pushes.append(body_of(call))
            if len(pushes) < 3:
                bot.unanswered(call, now)
            else:
                bot.pushed(PushReply(accepted=1, duplicate=False), now, now)
    assert pushes[0] == pushes[1] == pushes[2]
    assert [push["batch"] for push in pushes] == [1, 1, 1, 2]
    assert tally_of(bot).records == 2


def test_a_bot_that_was_cut_off_pushes_its_last_data_under_its_old_epoch_when_it_is_back() -> None:
    bot = at_work()
    bot.cut_off(1.0, 12.0)
    bot.wake(TTL)
    calls = bot.wake(13.0)
    [push] = [call for call in calls if call.errand is Errand.PUSH]
    assert body_of(push)["epoch"] == EPOCH
    bot.refused(push, "superseded", 13.1, None)
    assert tally_of(bot).ghosts_refused == 1
    assert [call.errand for call in bot.wake(13.1)] == []


def test_data_that_is_superseded_ends_the_work_it_belongs_to() -> None:
    bot = at_work()
    now = bot.next_wake()
    calls = bot.wake(now)
    while not any(call.errand is Errand.PUSH for call in calls):
        bot.beaten(reply(Instruction.CONTINUE), now, now)
        now = bot.next_wake()
        calls = bot.wake(now)
    [push] = [call for call in calls if call.errand is Errand.PUSH]
    bot.refused(push, "superseded", now, None)
    assert bot.work is None


def test_a_bot_that_leaves_says_good_bye_and_a_crashed_one_does_not() -> None:
    bot = at_work()
    call = bot.leave(1.0)
    assert call is not None
    assert call.errand is Errand.LEAVE
    crashed = at_work()
    crashed.crash(1.0)
    assert crashed.phase is Phase.GONE
    assert crashed.wake(2.0) == []


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
        code=st.sampled_from(["unknown_bot", "superseded", "unavailable", "rate_limited", "invalid_request"]),
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
