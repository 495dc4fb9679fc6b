"""A simulated bot keeps the protocol, whatever it is told and whatever befalls it."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

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


def poisoned(bot: SimulatedBot, *, says_so: bool) -> None:
    bot._around.poisonous["prf_a"] = says_so


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


def test_a_bot_whose_slot_another_process_holds_stops_at_once_and_asks_again_later() -> None:
    bot = at_work()
    [beat] = beats(bot, 2.5)
    bot.refused(beat, "unknown_bot", 2.5, None)
    [auth] = beats(bot, 2.5)
    bot.refused(auth, "slot_contested", 2.6, 4.0)
    assert bot.work is None
    assert tally_of(bot).refusals == {"unknown_bot": 1, "slot_contested": 1}
    assert 2.6 + 4.0 <= bot.next_wake() <= 2.6 + 1.5 * 4.0
    [again] = bot.wake(bot.next_wake())
    assert again.errand is Errand.AUTH
    assert "working" not in body_of(again)


@pytest.mark.parametrize("says_so", [True, False])
def test_a_poisonous_profile_makes_its_bot_crash_a_moment_after_the_start(says_so: bool) -> None:
    bot = joined()
    poisoned(bot, says_so=says_so)
    bot.beaten(reply(Instruction.START), 0.0, 0.0)
    bot.wake(0.05)
    assert bot.work is not None
    calls = bot.wake(0.5)
    assert [body_of(call)["reason"] for call in calls] == (["crash"] if says_so else [])
    assert (bot.phase, bot.failed) == (Phase.GONE, True)
    assert judge_of(bot).working("prf_a") == ()


def test_a_bot_that_works_for_a_profile_when_it_becomes_poisonous_crashes_too() -> None:
    bot = at_work()
    poisoned(bot, says_so=False)
    bot.sicken(1.0)
    assert 1.1 <= bot.next_wake() <= 1.5
    bot.wake(1.5)
    assert bot.failed


def test_a_bot_that_is_stopped_in_time_survives_a_poisonous_profile() -> None:
    bot = joined()
    poisoned(bot, says_so=True)
    bot.beaten(reply(Instruction.START), 0.0, 0.0)
    [beat] = beats(bot, 0.0)
    bot.refused(beat, "superseded", 0.05, None)
    bot.beaten(HeartbeatReply(instruction=Instruction.STOP, interval=INTERVAL, ttl=TTL), 0.0, 0.05)
    bot.wake(1.0)
    assert (bot.work, bot.failed) == (None, False)


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
