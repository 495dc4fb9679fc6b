"""A crowd under faults, in imagined time: kept promises are found kept, and each broken one is found out.

`Toy` is no second implementation of rota: it knows just enough to be wrong on purpose.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar, cast

import pytest

from rota.simulator.crowd import Crowd, Plan
from rota.simulator.faults import Fault, Rate
from rota.simulator.judge import Judge
from rota.simulator.surroundings import Surroundings, Tally
from rota.simulator.wire import Answer, Wire

INTERVAL, TTL = 2.0, 6.0
T = TypeVar("T")


class ImaginedTime(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to whatever is due next, so that minutes pass in milliseconds."""

    def __init__(self) -> None:
        super().__init__(_NoWaiting(self))
        self.moment = 0.0

    def time(self) -> float:
        return self.moment


class _NoWaiting(selectors.SelectSelector):
    def __init__(self, loop: ImaginedTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.moment += timeout or 0.0
        return super().select(0)


def imagine(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=ImaginedTime) as runner:
        return runner.run(coroutine)


@dataclass
class Member:
    """A bot as the toy knows it."""

    instance: str
    heard_at: float
    profile: str | None = None


@dataclass
class Toy:
    """Answers like rota, some milliseconds later. The flags break one promise each."""

    profiles: int
    patience: float = TTL + 1.0
    takes_data_of_ghosts: bool = False
    repeats_epochs: bool = False
    always_away: bool = False
    refuses_everybody: bool = False
    drains: bool = False
    members: dict[str, Member] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    stored: set[tuple[str, int, int]] = field(default_factory=set)
    slowest: float = 0.02
    timeout: float = 5.0

    def __post_init__(self) -> None:
        self.waiting = [f"prf_{number}" for number in range(self.profiles)]
        self.tokens = itertools.count()
        self.rng = Random(7)

    def post(self, path: str, body: bytes, token: str | None, done: Callable[[Answer], None]) -> None:
        loop = asyncio.get_running_loop()
        sent = loop.time()

        def answer() -> None:
            status, reply = self.answer(path.rpartition("/")[2], json.loads(body), token, loop.time())
            done(Answer(status, json.dumps(reply).encode(), sent))

        loop.call_later(self.rng.uniform(0.001, self.slowest), answer)

    def answer(self, errand: str, body: dict[str, Any], token: str | None, now: float) -> tuple[int, Any]:
        if self.always_away:
            return 503, {"code": "unavailable"}
        if errand == "auth":
            return (401, {"code": "invalid_key"}) if self.refuses_everybody else (200, self.auth(body, now))
        self.reap(now)
        member = self.members.get(token or "")
        if member is None:
            return 401, {"code": "unknown_bot"}
        member.heard_at = now
        if errand == "heartbeat":
            return 200, self.beat(member, body.get("working"))
        if errand == "push_data":
            return self.push(body)
        self.forget(cast("str", token))
        return 204, None

    def auth(self, body: dict[str, Any], now: float) -> dict[str, Any]:
        name = f"{body['hostname']}/{body['instance']}"
        before = next((token for token, member in self.members.items() if member.instance == name), None)
        heir = Member(name, now)
        if before is not None and (profile := self.members.pop(before).profile):
            heir.profile = profile
            self.epochs[profile] += 1
        token = f"token-{next(self.tokens)}"
        self.members[token] = heir
        return {"bot": name, "token": token, "interval": INTERVAL, "ttl": TTL, "assignment": None}

    def beat(self, member: Member, working: dict[str, Any] | None) -> dict[str, Any]:
        reply: dict[str, Any] = {"interval": INTERVAL, "ttl": TTL, "assignment": None}
        if self.drains:
            return {**reply, "instruction": "exit"}
        if member.profile is None and working is None and self.waiting:
            member.profile = self.waiting.pop(0)
            self.epochs[member.profile] = self.epochs.get(member.profile, 0) + (not self.repeats_epochs)
            self.epochs[member.profile] = max(1, self.epochs[member.profile])
        if member.profile is None:
            return {**reply, "instruction": "stop" if working else "wait"}
        mine = {"profile": member.profile, "epoch": self.epochs[member.profile], "revision": 1}
        if working is None:
            return {**reply, "instruction": "start", "assignment": {**mine, "config": {}, "lease": "signed"}}
        return {**reply, "instruction": "continue" if working == mine else "stop", "assignment": mine}

    def push(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["epoch"] < self.epochs[body["profile"]] and not self.takes_data_of_ghosts:
            return 409, {"code": "superseded"}
        batch = (body["profile"], body["epoch"], body["batch"])
        duplicate = batch in self.stored
        self.stored.add(batch)
        return 200, {"accepted": 0 if duplicate else 1, "duplicate": duplicate}

    def reap(self, now: float) -> None:
        for token in [token for token, member in self.members.items() if now - member.heard_at > self.patience]:
            self.forget(token)

    def forget(self, token: str) -> None:
        if profile := self.members.pop(token).profile:
            self.waiting.append(profile)


def live(
    toy: Toy,
    *,
    bots: int = 30,
    seconds: float = 120.0,
    kill: str | None = "60/min",
    poisonous: dict[str, bool] | None = None,
) -> Crowd:
    """Lets a crowd of bots on three servers live with the toy."""
    around = Surroundings(Judge(), Tally(), Random(3), {"kind": "simulated"}, push_every=1.0, poisonous=poisonous or {})
    plan = Plan(
        servers={f"sim-{number}": bots // 3 for number in (1, 2, 3)},
        profiles=toy.profiles,
        enrolment_key="enrol",
        interval=INTERVAL,
        ttl=TTL,
        kill=Rate.parse(kill) if kill else None,
    )
    crowd = Crowd(plan, around, cast("Wire", toy))

    async def whole_life() -> None:
        await crowd.run(seconds)
        assert await crowd.leave(5.0) == 0

    imagine(whole_life())
    return crowd


def test_a_rota_that_keeps_its_promises_is_found_clean_whatever_befalls_its_bots() -> None:
    toy = Toy(profiles=25)
    crowd = live(toy)
    judge = crowd.around.judge
    assert judge.violations == []
    assert crowd.most_bound == 25
    assert set(crowd.faults) == set(Fault)
    assert judge.takeovers.count > 20
    assert judge.takeovers.longest > TTL
    assert judge.restored.count >= crowd.faults[Fault.RESTART] - 1
    assert crowd.around.tally.ghosts_refused > 5
    assert 0 <= len(toy.stored) - crowd.around.tally.records <= crowd.deaths, "only a dead bot's are unheard"


def test_a_bot_that_is_cut_off_does_not_hear_what_was_under_way() -> None:
    crowd = live(Toy(profiles=25, slowest=1.5))
    assert crowd.around.judge.violations == []
    assert crowd.around.tally.ghosts_refused > crowd.faults[Fault.CUT_OFF] / 2


def test_a_rota_that_gives_a_profile_away_while_a_lease_lasts_is_found_out() -> None:
    crowd = live(Toy(profiles=25, patience=TTL - 2.0))
    assert any("promise 1" in text for text in crowd.around.judge.violations)


def test_a_rota_that_takes_data_under_an_old_epoch_is_found_out() -> None:
    crowd = live(Toy(profiles=25, takes_data_of_ghosts=True))
    assert any("promise 2" in text for text in crowd.around.judge.violations)


def test_a_rota_that_gives_the_same_epoch_twice_is_found_out() -> None:
    crowd = live(Toy(profiles=25, repeats_epochs=True))
    assert any("the same epoch" in text for text in crowd.around.judge.violations)


def test_without_faults_every_bot_beats_once_in_an_interval() -> None:
    toy = Toy(profiles=25)
    crowd = live(toy, seconds=60.0, kill=None)
    assert crowd.deaths == 0
    assert crowd.around.tally.beats == pytest.approx(30 * 60 / INTERVAL, rel=0.1)
    assert crowd.unanswered == 0
    assert toy.members == {}, "all have said good-bye"


def test_there_are_as_many_processes_as_bots_whatever_befalls_them() -> None:
    crowd = live(Toy(profiles=25))
    assert 25 <= len(crowd.bots) <= 30


def test_bots_that_poison_has_killed_are_replaced_and_missing_until_then() -> None:
    crowd = live(Toy(profiles=25), kill=None, seconds=60.0, poisonous={"prf_1": True, "prf_2": False})
    assert crowd.around.judge.starts > 25 + 10
    assert 25 <= len(crowd.bots) <= 30
    assert 0 < crowd.most_missing <= 30


def test_bots_that_are_told_to_exit_come_back_and_not_at_once() -> None:
    toy = Toy(profiles=25, drains=True)
    crowd = live(toy, kill=None, seconds=60.0)
    visits = crowd.around.tally.beats
    assert 30 * 60 / (TTL + INTERVAL) <= visits <= 30 * (60 / (TTL / 2) + 1)


def test_bots_keep_trying_while_rota_is_away() -> None:
    crowd = live(Toy(profiles=5, always_away=True), seconds=30.0, kill=None)
    assert crowd.around.tally.refusals["unavailable"] > 30 * 5
    assert crowd.most_bound == 0


def test_a_crowd_that_is_refused_altogether_ends_at_once() -> None:
    crowd = live(Toy(profiles=5, refuses_everybody=True), seconds=3600.0)
    assert crowd.around.tally.refusals == {"invalid_key": 30}
    assert crowd.bots == []


def test_the_same_seed_lives_the_same_life() -> None:
    first, second = (live(Toy(profiles=25)) for _ in range(2))
    assert first.around.tally == second.around.tally
    assert first.faults == second.faults
