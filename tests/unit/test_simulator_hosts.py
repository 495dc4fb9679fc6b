"""Hosts that speak for many bots at once, in imagined time: kept promises are found kept, and broken ones found out."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, cast

from rota.simulator.bot import Phase
from rota.simulator.crowd import Plan
from rota.simulator.hosts import Hosts
from rota.simulator.judge import Judge
from rota.simulator.surroundings import Surroundings, Tally
from rota.simulator.wire import Wire
from tests.unit.test_simulator_crowd import INTERVAL, TTL, Toy, imagine


@dataclass
class HostToy(Toy):
    """Takes the beats of many, and can be away for a while, or behind a wall for one call."""

    away: tuple[float, float] = (0.0, 0.0)
    nonsense: bool = False
    most_beats: int = 0
    said: int = 0
    ends: tuple[str, float] = ("", 0.0)
    """A profile whose bot is told to stop at that moment."""

    def answer(self, errand: str, body: dict[str, Any], token: str | None, now: float) -> tuple[int, Any]:
        if self.away[0] <= now < self.away[1]:
            return 503, {"code": "unavailable"}
        if errand != "heartbeats":
            return super().answer(errand, body, token, now)
        self.said += 1
        self.most_beats = max(self.most_beats, len(body["beats"]))
        if self.nonsense:
            return 200, {"replies": []}
        return 200, {"replies": [self.one(beat, now) for beat in body["beats"]]}

    def one(self, beat: dict[str, Any], now: float) -> dict[str, Any]:
        status, reply = super().answer("heartbeat", beat, beat["token"], now)
        if status != 200:
            return {"error": {"code": reply["code"]}}
        profile, at = self.ends
        if reply["instruction"] == "continue" and beat["working"]["profile"] == profile and now >= at:
            self.ends = ("", 0.0)
            self.members[beat["token"]].profile = None
            self.waiting.append(profile)
            return {**reply, "instruction": "stop", "assignment": None}
        return cast("dict[str, Any]", reply)


def live(toy: HostToy, *, seconds: float = 60.0, batch: int = 10, bots: int = 25) -> Hosts:
    """Lets hosts with many bots each live with the toy."""
    around = Surroundings(Judge(), Tally(), Random(3), {"kind": "simulated"})
    plan = Plan({"sim-1": bots, "sim-2": bots}, toy.profiles, "enrol", INTERVAL, TTL)
    hosts = Hosts(plan, batch, around, cast("Wire", toy), cast("Wire", toy))

    async def whole_life() -> None:
        await hosts.run(seconds)
        await hosts.leave(5.0)

    imagine(whole_life())
    return hosts


def test_many_bots_beat_in_few_calls_and_nobody_dies() -> None:
    toy = HostToy(profiles=30)
    hosts = live(toy)
    tally = hosts.around.tally
    assert (hosts.around.judge.violations, tally.refusals, hosts.unanswered) == ([], {}, 0)
    assert hosts.most_bound == hosts.around.judge.starts == 30
    assert hosts.settled_at is not None
    assert toy.most_beats == 10, "of 25 bots on a server, ten and ten and five"
    assert tally.beats > 50 * 60 / (INTERVAL * 1.2)
    assert toy.said < tally.beats / 4
    assert not toy.members, "all have said good-bye"


def test_a_profile_that_one_bot_is_told_to_stop_is_given_to_another() -> None:
    hosts = live(HostToy(profiles=30, ends=("prf_7", 20.0)))
    assert hosts.around.judge.violations == []
    assert hosts.around.judge.starts == 31


def test_all_work_ends_with_its_lease_while_rota_is_away_and_goes_on_afterwards() -> None:
    toy = HostToy(profiles=30, away=(20.0, 20.0 + 3 * TTL))
    hosts = live(toy, seconds=100)
    judge, tally = hosts.around.judge, hosts.around.tally
    assert judge.violations == []
    assert tally.refusals["unavailable"] > 5
    assert tally.refusals["unknown_bot"] == 50
    assert judge.starts == 60
    assert hosts.phases[Phase.WORKING] == 30, "until they said good-bye"


def test_a_rota_that_gives_work_away_too_soon_is_found_out() -> None:
    hosts = live(HostToy(profiles=30, patience=INTERVAL * 0.8))
    assert any(text.partition(": ")[2].startswith("promise 1") for text in hosts.around.judge.violations)


def test_an_answer_that_makes_no_sense_is_no_sign_of_life() -> None:
    hosts = live(HostToy(profiles=30, nonsense=True), seconds=10)
    assert hosts.around.tally.beats == 0
    assert hosts.around.tally.refusals["unreadable_answer"] > 3


def test_bots_that_are_refused_for_good_do_not_come_again() -> None:
    hosts = live(HostToy(profiles=30, refuses_everybody=True), seconds=10)
    assert hosts.phases[Phase.GONE] == 50
    assert hosts.around.tally.refusals == {"invalid_key": 50}


def test_who_is_told_to_exit_leaves_and_comes_back() -> None:
    hosts = live(HostToy(profiles=0, drains=True), seconds=40)
    assert hosts.around.judge.violations == []
    assert hosts.around.tally.refusals == {}
    assert hosts.around.tally.beats > 100
