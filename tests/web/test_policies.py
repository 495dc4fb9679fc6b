"""What bots are granted: the fleet's policy, and more where their beats would not fit into its budget."""

from __future__ import annotations

from collections import Counter

import pytest

from rota.errors import UnavailableError
from rota.live import snapshot
from rota.live.beats import Answer, Beats
from rota.live.entries import DIGEST_BYTES, idle_entry, working_entry
from rota.protocol import deadline_after_ms
from rota.web import load as load_module
from rota.web.load import Load
from tests.conformance.fleet import Fleet
from tests.conformance.site import Json, Site


async def _crowd(bots: Fleet, number: int) -> None:
    for name in range(number):
        await bots.auth(str(name))
    await bots.site.state.policies._pulse()


async def test_a_fleet_within_its_budget_is_granted_its_policy(bots: Fleet, site: Site) -> None:
    await _crowd(bots, 3)
    told = await bots.beat("1")
    assert (told["interval"], told["ttl"]) == (30, 90)
    status = await site.shown("fleets/default")
    assert (status["granted_interval"], status["granted_ttl"], status["beats_per_second"]) == (30, 90, 50_000)


async def test_a_fleet_over_its_budget_is_granted_longer_intervals_and_leases(bots: Fleet, site: Site) -> None:
    await site.rest.patch("/api/v1/fleets/default", json={"beats_per_second": 1, "interval": 0.5, "ttl": 2})
    await site.state.policies.refresh()
    await _crowd(bots, 20)
    told = [await bots.beat(str(name)) for name in range(16)]
    assert {one["ttl"] for one in told} == {84}
    intervals = [one["interval"] for one in told]
    assert len(set(intervals)) > 10, "they are spread"
    assert 18 <= min(intervals) < 20 < max(intervals) <= 24
    status = await site.shown("fleets/default")
    assert (status["interval"], status["ttl"]) == (0.5, 2)
    assert (status["granted_interval"], status["granted_ttl"]) == (21, 84)


@pytest.mark.parametrize("policy", [{"interval": 120, "ttl": 360}, {"interval": 1, "ttl": 3}])
async def test_a_change_of_what_is_granted_makes_no_beat_older(bots: Fleet, site: Site, policy: Json) -> None:
    await site.rest.patch("/api/v1/fleets/default", json={"interval": 30, "ttl": 90})
    await site.state.policies.refresh()
    await bots.auth("1")
    await bots.beat("1")
    await site.rest.patch("/api/v1/fleets/default", json=policy)
    await site.state.policies.refresh()
    assert 0 <= (await site.shown("bots/farm-1/1"))["beat_age"] < 25
    deadline = (await site.state.policies.of("default")).beat
    told = await snapshot.bot(site.state.live, "default", "farm-1/1", beat_of=deadline)
    assert told is not None
    assert told.interval == 30
    await bots.beat("1")
    told = await snapshot.bot(site.state.live, "default", "farm-1/1", beat_of=deadline)
    assert told is not None
    assert told.beat_age < 25


async def test_bots_of_one_call_are_granted_intervals_of_their_own(bots: Fleet, site: Site) -> None:
    await site.rest.patch("/api/v1/fleets/default", json={"beats_per_second": 1, "interval": 0.5, "ttl": 2})
    for number in range(20):
        await bots.auth(str(number))
    await site.state.policies.refresh()
    await site.state.policies._pulse()
    await bots.profile()
    beats = {"beats": [{"token": token} for token in bots.tokens.values()]}
    replies = (await bots.call("1", "heartbeats", json=beats)).json()["replies"]
    assert {reply["instruction"] for reply in replies} == {"wait", "start"}
    assert len({reply["interval"] for reply in replies}) > 10
    assert len({reply["ttl"] for reply in replies}) == 1


async def test_reaping_honours_what_was_granted(bots: Fleet, site: Site) -> None:
    await site.rest.patch("/api/v1/fleets/default", json={"beats_per_second": 1, "interval": 0.5, "ttl": 2})
    await site.state.policies.refresh()
    await _crowd(bots, 20)
    await bots.beat("1")
    (score,) = await site.state.live.read(("ZSCORE", "{default}:due", "farm-1/1"))
    (now,) = await site.state.live.read(("TIME",))
    left = float(score) - (int(now[0]) * 1000 + int(now[1]) / 1000)
    assert deadline_after_ms(84) - 5000 < left <= deadline_after_ms(84)


async def test_a_grant_does_not_follow_every_bot_that_comes_or_goes(bots: Fleet, site: Site) -> None:
    await site.rest.patch("/api/v1/fleets/default", json={"beats_per_second": 1, "interval": 0.5, "ttl": 2})
    await site.state.policies.refresh()
    await _crowd(bots, 20)
    before = (await site.state.policies.granted("default")).interval
    await bots.call("3", "leave", json={})
    await site.state.policies._pulse()
    assert (await site.state.policies.granted("default")).interval == before
    for name in range(4, 20):
        await bots.call(str(name), "leave", json={})
    await site.state.policies._pulse()
    assert (await site.state.policies.granted("default")).interval < before / 3


@pytest.mark.parametrize("budget", [0, -1, 10**9])
async def test_a_budget_that_makes_no_sense_is_refused(budget: float, site: Site) -> None:
    answer = await site.rest.patch("/api/v1/fleets/default", json={"beats_per_second": budget})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "beats_per_second")


async def test_too_much_to_do_stretches_intervals_and_less_brings_them_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(site.state.beats)
    load.judge()
    assert load.stretch == 1.0
    for expected in (1.0, 1.0, 1.0, 1.0, load_module.GROWS):
        monkeypatch.setattr(load, "_latest", 2 * load_module.LATE)
        load.judge()
        assert load.stretch == expected
    for _ in range(30):
        monkeypatch.setattr(site.state.beats, "_slowest", 2 * load_module.SLOW)
        load.judge()
    assert load.stretch == load_module.MOST
    for _ in range(60):
        load.judge()
    assert load.stretch == 1.0


async def test_with_too_many_beats_at_once_idle_bots_are_refused_first_and_answered_last(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.live.beats.MOST_WAITING", 300)
    beats, heard = Beats(site.state.live), []

    def add(number: int, *, idle: bool) -> None:
        digest = bytes(DIGEST_BYTES)
        working = working_entry(digest, "prf_1", 1, 1, accepting=True, status="")
        entry = idle_entry(digest, accepting=True, status="") if idle else working
        beats.add("default", f"s/{number}", entry, 1000, lambda _: heard.append(idle))

    refused: Counter[bool] = Counter()
    for number in range(400):
        for idle in (True, False):
            try:
                add(number, idle=idle)
            except UnavailableError:
                refused[idle] += 1
    assert refused == {True: 250, False: 100}
    await beats.aclose()
    assert heard == [False] * 300 + [True] * 150


async def test_a_beat_that_nobody_can_be_told_of_keeps_no_other_from_its_answer(site: Site) -> None:
    beats = Beats(site.state.live)
    heard: list[object] = []

    def broken(_: object) -> None:
        raise RuntimeError("made up")

    entry = idle_entry(bytes(DIGEST_BYTES), accepting=True, status="")
    for number, tell in enumerate((broken, heard.append, broken, heard.append)):
        beats.add("default", f"s/{number}", entry, 1000, tell)
    await beats.aclose()
    assert [answer.code for answer in heard if isinstance(answer, Answer)] == ["unknown", "unknown"]
