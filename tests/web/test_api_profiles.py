"""Profiles over REST: their life, their configurations, what is shown of them, and which fields are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from rota.live.entries import ProfileView
from rota.web.api.holds import attempt, held_because
from tests.conformance.fleet import Fleet
from tests.conformance.site import Json, Site

PROFILES = "/api/v1/profiles"


def wrong_fields(answer: Any) -> list[str]:
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return [wrong["field"] for wrong in answer.json()["errors"]]


async def collect(site: Site, path: str, limit: int, **query: Any) -> list[Json]:
    """All pages of a list, which must be full but the last."""
    found: list[Json] = []
    after: dict[str, str] = {}
    while True:
        page = await site.shown(path, limit=limit, **query, **after)
        found += page["items"]
        if page["next"] is None:
            assert len(page["items"]) <= limit
            return found
        assert len(page["items"]) == limit
        after = {"after": page["next"]}


async def test_a_profile_lives_from_create_to_delete(bots: Fleet) -> None:
    site = bots.site
    made = await site.made("profiles", name=" acme ", config={"url": "https://example.com"}, priority=7)
    profile, path = made["id"], f"{PROFILES}/{made['id']}"
    assert profile.startswith("prf_")
    assert (made["name"], made["revision"], made["wanted"], made["phase"]) == ("acme", 1, False, "stopped")
    assert (made["bot"], made["epoch"], made["crashes"], made["priority"]) == (None, None, 0, 7)
    assert (await site.rest.get(path)).json() == made

    started = (await site.rest.post(f"{path}/start")).json()
    assert (started["wanted"], started["phase"]) == (True, "waiting")
    assert (await site.rest.post(f"{path}/start")).json() == started
    await bots.auth("1")
    told = (await bots.beat("1"))["assignment"]
    shown = await site.shown(f"profiles/{profile}")
    assert (shown["phase"], shown["bot"], shown["epoch"]) == ("starting", "farm-1/1", told["epoch"])
    working = {key: told[key] for key in ("profile", "epoch", "revision")}
    await bots.beat("1", working)
    assert (await site.shown(f"profiles/{profile}"))["phase"] == "working"

    changed = (await site.rest.patch(path, json={"config": {"url": "https://example.org"}, "name": "new"})).json()
    assert (changed["revision"], changed["name"], changed["phase"]) == (2, "new", "working")
    assert (await bots.beat("1", working))["instruction"] == "reconfigure"

    stopped = (await site.rest.post(f"{path}/stop")).json()
    assert (stopped["wanted"], stopped["phase"]) == (False, "stopping")
    assert (await bots.beat("1", working))["instruction"] == "stop"
    await bots.beat("1")
    assert (await site.shown(f"profiles/{profile}"))["phase"] == "stopped"

    assert (await site.rest.delete(path)).status_code == 204
    for answer in (await site.rest.get(path), await site.rest.delete(path), await site.rest.post(f"{path}/start")):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await site.shown("profiles"))["items"] == []


async def test_a_profile_may_be_started_as_it_is_made(site: Site) -> None:
    made = await site.made("profiles", name="acme", start=True)
    assert (made["wanted"], made["phase"]) == (True, "waiting")
    assert made["since"] is not None


async def test_revisions_are_kept_and_only_a_difference_makes_one(site: Site) -> None:
    made = await site.made("profiles", name="acme", config={"n": 1})
    path = f"{PROFILES}/{made['id']}"
    for config in ({"n": 1}, {"n": 2}, {"n": 2}, {"n": 3}, {}, {"n": 1}):
        assert (await site.rest.patch(path, json={"config": config})).status_code == 200
    found = await collect(site, f"profiles/{made['id']}/revisions", 2)
    assert [(item["revision"], item["config"]) for item in found] == [
        (1, {"n": 1}),
        (2, {"n": 2}),
        (3, {"n": 3}),
        (4, {}),
        (5, {"n": 1}),
    ]


async def test_a_change_of_nothing_changes_nothing(site: Site) -> None:
    made = await site.made("profiles", name="acme")
    answer = await site.rest.patch(f"{PROFILES}/{made['id']}", json={})
    assert answer.json() == made


async def test_labels_and_priority_can_be_changed_while_it_waits(bots: Fleet) -> None:
    site = bots.site
    profile = await bots.profile(labels={"region": "us"})
    await bots.auth("1", labels={"region": "eu"})
    assert (await bots.beat("1"))["instruction"] == "wait"
    answer = await site.rest.patch(f"{PROFILES}/{profile}", json={"labels": {"region": "eu"}, "priority": -100})
    assert (answer.json()["labels"], answer.json()["priority"]) == ({"region": "eu"}, -100)
    assert (await bots.beat("1"))["instruction"] == "start"


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_wrong_field_is_named(site: Site, method: str) -> None:
    path = PROFILES
    if method == "PATCH":
        path += "/" + (await site.made("profiles", name="acme"))["id"]
    cases: list[tuple[Json, str]] = [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "nul\u0000"}, "name"),
        ({"name": "\u202eevil"}, "name"),
        ({"name": 7}, "name"),
        ({"name": None}, "name"),
        ({"config": "text"}, "config"),
        ({"config": []}, "config"),
        ({"config": None}, "config"),
        ({"config": {"a": "x" * 65_536}}, "config"),
        ({"config": {"a": {"b": ["\u0000"]}}}, "config.a.b.0"),
        ({"config": {"a\u0000": 1}}, "config.(name)"),
        ({"labels": {"two words": "x"}}, "labels.two words"),
        ({"labels": {"a": "x,y"}}, "labels.a"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"labels": ["a"]}, "labels"),
        ({"labels": {f"l{n}": "x" for n in range(17)}}, "labels"),
        ({"labels": None}, "labels"),
        ({"priority": 101}, "priority"),
        ({"priority": -101}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"priority": None}, "priority"),
        ({"colour": "blue"}, "colour"),
        ({"wanted": True}, "wanted"),
    ]
    for fields, named in cases:
        body = {"name": "acme", **fields} if method == "POST" else fields
        (found, *_) = wrong_fields(await site.rest.request(method, path, json=body))
        assert found.startswith(named), (fields, found)
    names = [item["name"] for item in (await site.shown("profiles"))["items"]]
    assert names == (["acme"] if method == "PATCH" else [])


async def test_a_profile_needs_a_name_and_a_fleet_and_account_that_there_are(site: Site) -> None:
    assert wrong_fields(await site.rest.post(PROFILES, json={})) == ["name"]
    for fields in ({"fleet": "nofleet"}, {"account": "acc_nobody"}, {"fleet": ""}):
        answer = await site.rest.post(PROFILES, json={"name": "acme", **fields})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    for field in ("fleet", "account"):
        assert wrong_fields(await site.rest.post(PROFILES, json={"name": "acme", field: "nul\u0000"})) == [field]


async def test_numbers_that_are_no_json_are_refused(site: Site) -> None:
    for value, named in (("NaN", "config.a"), ("Infinity", "config.a"), ("1e400", "config.a")):
        content = f'{{"name": "acme", "config": {{"a": {value}}}}}'
        answer = await site.rest.post(PROFILES, content=content, headers={"content-type": "application/json"})
        assert wrong_fields(answer)[0] in (named, "config")


async def test_hostile_names_are_kept_as_they_are(site: Site) -> None:
    names = ["<script>alert(1)</script>", "'; DROP TABLE profiles; --", "{{7*7}}", "%00", "../../etc", "ü🚀", "a b"]
    for name in names:
        made = await site.made("profiles", name=name, config={name: name}, start=True)
        shown = await site.shown(f"profiles/{made['id']}")
        assert (shown["name"], shown["config"]) == (name, {name: name})
        assert name in [item["name"] for item in (await site.shown("profiles", name=name))["items"]]
    assert len((await site.shown("profiles"))["items"]) == len(names)


async def test_a_name_is_searched_as_it_stands(site: Site) -> None:
    for name in ("50% off", "50 percent", "a_b", "aXb", "back\\slash"):
        await site.made("profiles", name=name)
    for part, found in (("%", ["50% off"]), ("_", ["a_b"]), ("\\", ["back\\slash"]), ("50", ["50 percent", "50% off"])):
        assert sorted(item["name"] for item in (await site.shown("profiles", name=part))["items"]) == found
    assert [item["name"] for item in (await site.shown("profiles", name="AXB"))["items"]] == ["aXb"]


async def test_pages_lead_through_everything_and_filters_hold_on_each(site: Site) -> None:
    await site.made("fleets", name="other")
    await site.build("other")
    for number in range(11):
        fleet = "other" if number % 3 == 0 else "default"
        await site.made("profiles", name=f"p{number}", fleet=fleet, start=number % 2 == 0)
    everything = await collect(site, "profiles", 1)
    assert everything == await collect(site, "profiles", 500)
    assert len({item["id"] for item in everything}) == 11
    for limit in (1, 2, 11, 12):
        there = await collect(site, "profiles", limit, fleet="other")
        assert sorted(item["name"] for item in there) == ["p0", "p3", "p6", "p9"]
        wanted = await collect(site, "profiles", limit, wanted="true", fleet="other")
        assert sorted(item["name"] for item in wanted) == ["p0", "p6"]
        stopped = await collect(site, "profiles", limit, wanted="false")
        assert len(stopped) == 5
    assert {item["phase"] for item in everything} == {"waiting", "stopped"}


async def test_crashes_are_shown_and_can_be_forgotten(bots: Fleet) -> None:
    site = bots.site
    working = await bots.work()
    await bots.call("1", "leave", json={"reason": "crash"})
    path = f"profiles/{working['profile']}"
    held = await site.shown(path)
    assert (held["phase"], held["crashes"], held["bot"]) == ("held", 1, None)
    assert held["not_before"] > held["since"]
    assert (held["attempt"], held["held_because"]) == (2, "its bot crashed once")
    answer = await site.rest.post(f"/api/v1/{path}/release")
    assert (answer.json()["phase"], answer.json()["crashes"], answer.json()["not_before"]) == ("waiting", 0, None)
    assert (answer.json()["attempt"], answer.json()["held_because"]) == (1, None)
    assert (await site.rest.post(f"/api/v1/{path}/release")).status_code == 200


async def test_the_client_sees_attempt_and_next_try_of_its_own_profile(bots: Fleet) -> None:
    site, account = bots.site, await bots.site.account("acme")
    profile = await bots.profile(account=account)
    await bots.auth("1")
    assert (await bots.beat("1"))["instruction"] == "start"
    await bots.call("1", "leave", json={"reason": "crash"})
    async with site.client_of(account) as client:
        shown = (await client.get(f"{PROFILES}/{profile}")).json()
    assert (shown["phase"], shown["attempt"], shown["held_because"]) == ("held", 2, "its bot crashed once")
    assert shown["not_before"] is not None


async def test_a_profile_whose_bot_was_killed_says_what_it_waits_for(bots: Fleet) -> None:
    working = await bots.work("1")
    await bots.site.rest.post("/api/v1/bots/farm-1/1/kill")
    shown = await bots.site.shown(f"profiles/{working['profile']}")
    assert (shown["phase"], shown["attempt"]) == ("held", 1)
    assert "until its lease is over" in shown["held_because"]


@pytest.mark.parametrize(
    ("phase", "held_for", "minutes", "number", "because"),
    [
        ("held", "crash", 0, 4, "its bots crashed, or died soon after their start, 3 times in a row"),
        ("held", "lease", 0, 4, "a bot that was killed or replaced may work on it until its lease is over"),
        ("waiting", None, 60, 4, None),
        ("working", None, 9, 4, None),
        ("working", None, 11, 1, None),
    ],
)
def test_an_attempt_counts_crashes_until_a_bot_has_worked_for_ten_minutes(
    phase: str, held_for: Literal["crash", "lease"] | None, minutes: int, number: int, because: str | None
) -> None:
    since = datetime.now(UTC) - timedelta(minutes=minutes)
    view = ProfileView("prf_1", phase, None, 1, 1, since, 3, None, None, "started", 1, 0, "-", held_for)
    assert (attempt(view), held_because(view)) == (number, because)


async def test_records_are_paged_and_filtered_by_kind(bots: Fleet) -> None:
    working = await bots.work()
    path = f"profiles/{working['profile']}/records"
    for batch in range(3):
        await bots.push("1", [{"kind": kind, "data": [batch, kind]} for kind in ("a", "b", "c:/d.e-f")], batch=batch)
    for limit in (1, 4, 9, 500):
        found = await collect(bots.site, path, limit)
        assert [(item["batch"], item["position"]) for item in found] == [(b, p) for b in range(3) for p in range(3)]
        assert [item["data"][0] for item in await collect(bots.site, path, limit, kind="b")] == [0, 1, 2]
    assert await collect(bots.site, path, 5, kind="nothing") == []


async def test_assignments_say_who_worked_and_why_it_ended(bots: Fleet) -> None:
    site = bots.site
    first = await bots.work("1")
    await bots.call("1", "leave", json={"reason": "shutdown"})
    await bots.auth("2")
    second = (await bots.beat("2"))["assignment"]
    await site.record()
    newest, oldest = await collect(site, f"profiles/{first['profile']}/assignments", 1)
    assert (newest["epoch"], newest["bot"], newest["server"]) == (second["epoch"], "farm-1/2", "farm-1")
    assert (newest["confirmed_at"], newest["ended_at"], newest["reason"]) == (None, None, None)
    assert (oldest["epoch"], oldest["bot"], oldest["reason"]) == (first["epoch"], "farm-1/1", "left: shutdown")
    assert oldest["started_at"] <= oldest["confirmed_at"] <= oldest["ended_at"]
