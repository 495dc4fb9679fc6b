"""What is the operator's alone over REST: servers, bots, fleets, accounts, keys, sign-in links."""

from __future__ import annotations

from typing import Any

from tests.conformance.fleet import Fleet
from tests.conformance.site import Json, Site, speaker


def wrong_fields(answer: Any) -> list[str]:
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text
    return [wrong["field"] for wrong in answer.json()["errors"]]


def is_problem(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def collect(site: Site, path: str, limit: int, **query: Any) -> list[Json]:
    found: list[Json] = []
    after: dict[str, str] = {}
    while True:
        page = await site.shown(path, limit=limit, **query, **after)
        found += page["items"]
        if page["next"] is None:
            return found
        assert len(page["items"]) == limit
        after = {"after": page["next"]}


async def test_a_server_is_listed_shown_changed_and_removed(bots: Fleet) -> None:
    site = bots.site
    made = await site.made("servers", hostname=" Barn-7 ", expected_bots=3, labels={"region": "eu"})
    assert (made["hostname"], made["expected_bots"], made["actual_bots"]) == ("barn-7", 3, 0)
    path = f"/api/v1/servers/{made['id']}"
    assert (await site.rest.get(path)).json() == made
    await bots.auth("1", hostname="barn-7")
    changed = (await site.rest.patch(path, json={"expected_bots": 0, "labels": {}})).json()
    assert (changed["expected_bots"], changed["labels"], changed["actual_bots"]) == (0, {}, 1)
    assert (await site.rest.patch(path, json={})).json() == changed
    assert (await site.rest.delete(path)).status_code == 204
    is_problem(await site.rest.get(path), 404, "not_found")
    is_problem(await site.rest.delete(path), 404, "not_found")
    is_problem(await site.rest.patch(path, json={"expected_bots": 1}), 404, "not_found")
    key = {"authorization": f"Bearer {bots.key}"}
    is_problem(
        await site.anybody.post("/bot/auth", json={"hostname": "barn-7"}, headers=key), 403, "server_not_allowed"
    )
    assert (await bots.beat("1"))["instruction"] == "wait"


async def test_a_pattern_counts_all_of_its_hosts(bots: Fleet) -> None:
    made = await bots.site.made("servers", hostname="barn-*", expected_bots=2)
    for host in ("barn-1", "barn-2", "barn-x.y"):
        await bots.auth("1", hostname=host)
    assert (await bots.site.shown(f"servers/{made['id']}"))["actual_bots"] == 3


async def test_a_server_is_listed_once_in_a_fleet(site: Site) -> None:
    await site.made("fleets", name="other")
    await site.made("servers", hostname="h", expected_bots=1)
    is_problem(await site.rest.post("/api/v1/servers", json={"hostname": "H", "expected_bots": 1}), 409, "conflict")
    await site.made("servers", hostname="h", expected_bots=1, fleet="other")
    is_problem(
        await site.rest.post("/api/v1/servers", json={"hostname": "i", "expected_bots": 1, "fleet": "no"}),
        404,
        "not_found",
    )


async def test_a_wrong_field_of_a_server_is_named(site: Site) -> None:
    good = {"hostname": "h", "expected_bots": 1}
    cases: list[tuple[Json, str]] = [
        ({"hostname": ""}, "hostname"),
        ({"hostname": "two words"}, "hostname"),
        ({"hostname": "a/b"}, "hostname"),
        ({"hostname": "h%"}, "hostname"),
        ({"hostname": "h\u0000"}, "hostname"),
        ({"hostname": "x" * 254}, "hostname"),
        ({"hostname": None}, "hostname"),
        ({"expected_bots": -1}, "expected_bots"),
        ({"expected_bots": 1_000_001}, "expected_bots"),
        ({"expected_bots": "many"}, "expected_bots"),
        ({"expected_bots": 10**30}, "expected_bots"),
        ({"labels": {"a b": "c"}}, "labels"),
        ({"labels": 1}, "labels"),
        ({"fleet": "nul\u0000"}, "fleet"),
        ({"color": "blue"}, "color"),
    ]
    for fields, named in cases:
        assert wrong_fields(await site.rest.post("/api/v1/servers", json=good | fields))[0].startswith(named)
    assert wrong_fields(await site.rest.post("/api/v1/servers", json={})) == ["hostname", "expected_bots"]
    path = f"/api/v1/servers/{(await site.made('servers', **good))['id']}"
    for name, value in (("expected_bots", None), ("labels", None), ("expected_bots", -1), ("hostname", "new")):
        assert wrong_fields(await site.rest.patch(path, json={name: value})) == [name]


async def test_servers_are_paged_and_filtered_by_fleet(site: Site) -> None:
    await site.made("fleets", name="other")
    for number in range(7):
        fleet = "other" if number % 2 else "default"
        await site.made("servers", hostname=f"h{number}", expected_bots=1, fleet=fleet)
    for limit in (1, 3, 7, 500):
        assert {item["hostname"] for item in await collect(site, "servers", limit)} == {f"h{n}" for n in range(7)}
        there = await collect(site, "servers", limit, fleet="other")
        assert {item["hostname"] for item in there} == {"h1", "h3", "h5"}
    assert await collect(site, "servers", 5, fleet="nofleet") == []


async def test_bots_are_listed_in_natural_order_and_filtered(bots: Fleet) -> None:
    site = bots.site
    await site.made("servers", hostname="farm-10", expected_bots=1)
    await site.made("servers", hostname="farm-2", expected_bots=1)
    for host in ("farm-10", "farm-2", "farm-1"):
        for slot in ("10", "9", "web-1"):
            await bots.auth(f"{host}:{slot}", hostname=host, instance=slot)
    await bots.profile()
    await bots.beat("farm-2:10")
    await bots.beat("farm-1:9", status="busy", accepting=False)
    order = [f"{host}/{slot}" for host in ("farm-1", "farm-2", "farm-10") for slot in ("9", "10", "web-1")]
    for limit in (1, 2, 4, 9, 500):
        assert [item["id"] for item in await collect(site, "bots", limit)] == order
        assert [item["id"] for item in await collect(site, "bots", limit, server="farm-2")] == order[3:6]
        assert [item["id"] for item in await collect(site, "bots", limit, phase="starting")] == ["farm-2/10"]
        assert len(await collect(site, "bots", limit, phase="idle")) == 8
        assert await collect(site, "bots", limit, phase="idle", server="nowhere") == []
    shown = await site.shown("bots/farm-1/9")
    assert (shown["status"], shown["quiet"], shown["draining"], shown["silent"]) == ("busy", True, False, False)
    assert 0 <= shown["beat_age"] < 60
    for query, field in (
        ({"phase": "asleep"}, "phase"),
        ({"limit": 0}, "limit"),
        ({"limit": 501}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"after": "\u00b2/1"}, "after"),
        ({"server": "\u00b2"}, "server"),
        ({"fleet": "No Fleet"}, "fleet"),
    ):
        assert wrong_fields(await site.rest.get("/api/v1/bots", params=query)) == [field]
    is_problem(await site.rest.get("/api/v1/bots", params={"fleet": "nofleet"}), 404, "not_found")


async def test_a_bot_can_be_killed_and_its_profile_waits_for_its_lease(bots: Fleet) -> None:
    working = await bots.work()
    path = "/api/v1/bots/farm-1/1"
    assert (await bots.site.rest.post(f"{path}/kill")).status_code == 204
    assert (await bots.call("1", "heartbeat", json={"working": working})).status_code == 401
    is_problem(await bots.site.rest.get(path), 404, "not_found")
    is_problem(await bots.site.rest.post(f"{path}/kill"), 404, "not_found")
    assert (await bots.site.shown(f"profiles/{working['profile']}"))["phase"] == "held"


async def test_a_bot_can_be_drained_and_taken_back(bots: Fleet) -> None:
    path = "/api/v1/bots/farm-1/1"
    await bots.auth("1")
    for verb, flag, instruction in (("drain", True, "exit"), ("drain", True, "exit"), ("undrain", False, "wait")):
        assert (await bots.site.rest.post(f"{path}/{verb}")).status_code == 204
        assert (await bots.site.rest.get(path)).json()["draining"] is flag
        assert (await bots.beat("1"))["instruction"] == instruction


async def test_a_fleet_shows_its_totals_and_its_servers(bots: Fleet) -> None:
    site = bots.site
    await site.made("servers", hostname="barn", expected_bots=4)
    pattern = await site.made("servers", hostname="hut-*", expected_bots=2)
    await bots.work("1")
    await bots.auth("2", hostname="hut-1")
    await bots.profile("waits", labels={"region": "mars"})
    await bots.profile("stopped", start=False)
    shown = await site.shown("fleets/default")
    assert (shown["name"], shown["interval"], shown["ttl"]) == ("default", 30, 90)
    assert shown["bots"] == {"total": 2, "free": 1, "idle": 1, "starting": 0, "working": 1, "stopping": 0}
    assert shown["profiles"] == {
        "total": 3,
        "stopped": 1,
        "waiting": 1,
        "held": 0,
        "starting": 0,
        "working": 1,
        "stopping": 0,
    }
    await site.rest.delete(f"/api/v1/servers/{pattern['id']}")
    quiet = {"draining": False, "drain_deadline": None}
    assert (await site.shown("fleets/default"))["servers"] == [
        {"hostname": "barn", "actual": 0, "expected": 4, **quiet},
        {"hostname": "farm-1", "actual": 1, "expected": 1, **quiet},
        {"hostname": "hut-1", "actual": 1, "expected": None, **quiet},
    ]


async def test_the_check_tells_what_is_wrong(bots: Fleet) -> None:
    site = bots.site
    await bots.auth("1")
    assert await site.shown("fleets/default/check") == {"ok": True, "findings": []}
    await bots.auth("2")
    await site.made("servers", hostname="barn", expected_bots=1)
    report = await site.shown("fleets/default/check")
    assert report["ok"] is False
    assert [(item["kind"], item["subject"]) for item in report["findings"]] == [
        ("too_few_bots", "barn"),
        ("too_many_bots", "farm-1"),
    ]
    await site.made("fleets", name="unbuilt")
    (finding,) = (await site.shown("fleets/unbuilt/check"))["findings"]
    assert finding["kind"] == "not_built"


async def test_fleets_are_made_and_their_policy_is_changed(site: Site) -> None:
    made = await site.made("fleets", name="fast", interval=0.5, ttl=1)
    usual = {"beats_per_second": 50_000, "keep_days": None, "keep_records": None}
    assert made == {"name": "fast", "interval": 0.5, "ttl": 1, **usual}
    assert [item["name"] for item in (await site.shown("fleets"))["items"]] == ["default", "fast"]
    is_problem(await site.rest.post("/api/v1/fleets", json={"name": "fast"}), 409, "conflict")
    changed = await site.rest.patch("/api/v1/fleets/fast", json={"ttl": 86_400})
    assert changed.json() == {"name": "fast", "interval": 0.5, "ttl": 86_400, **usual}
    cases: list[tuple[Json, str]] = [
        ({"name": "Upper"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 33}, "name"),
        ({"name": "a{b}"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"interval": 0.4}, "interval"),
        ({"interval": 3601, "ttl": 86_400}, "interval"),
        ({"interval": "soon"}, "interval"),
        ({"interval": 50}, "ttl"),
        ({"ttl": 86_401}, "ttl"),
    ]
    for fields, named in cases:
        assert wrong_fields(await site.rest.post("/api/v1/fleets", json={"name": "new", **fields})) == [named]
    for name in ("interval", "ttl"):
        assert wrong_fields(await site.rest.patch("/api/v1/fleets/fast", json={name: None})) == [name]
    for value in ("NaN", "Infinity", "-Infinity"):
        content = f'{{"interval": {value}}}'
        answer = await site.rest.patch(
            "/api/v1/fleets/fast", content=content, headers={"content-type": "application/json"}
        )
        assert wrong_fields(answer) == ["interval"]


async def test_how_long_records_are_kept_is_said_by_fleets_and_accounts(site: Site) -> None:
    changed = await site.rest.patch("/api/v1/fleets/default", json={"keep_days": 30})
    assert (changed.json()["keep_days"], changed.json()["keep_records"]) == (30, None)
    changed = await site.rest.patch("/api/v1/fleets/default", json={"keep_records": 500})
    assert (changed.json()["keep_days"], changed.json()["keep_records"]) == (30, 500)
    assert (await site.shown("fleets/default"))["keep_records"] == 500
    account = f"accounts/{await site.account('client')}"
    limits: list[Json] = [{"keep_days": 7}, {"keep_records": 0}, {"keep_days": None}]
    for limit in limits:
        assert (await site.rest.patch(f"/api/v1/{account}", json=limit)).status_code == 200
    found = await site.shown(account)
    assert (found["keep_days"], found["keep_records"]) == (None, 0)
    for path in ("fleets/default", account):
        for name, value in (("keep_days", -1), ("keep_days", 36_501), ("keep_records", 10_000_001)):
            assert wrong_fields(await site.rest.patch(f"/api/v1/{path}", json={name: value})) == [name]
    is_problem(await site.rest.patch("/api/v1/accounts/acc_none", json={"keep_days": 1}), 404, "not_found")


async def test_events_are_shown_newest_first_paged_and_filtered(bots: Fleet) -> None:
    site = bots.site
    working = await bots.work("1")
    await bots.auth("2")
    await site.record()
    everything = await collect(site, "fleets/default/events", 500)
    for limit in (1, 2, 5):
        assert await collect(site, "fleets/default/events", limit) == everything
    assert everything[0]["kind"] == "auth"
    moments = [item["at"] for item in everything]
    assert moments == sorted(moments, reverse=True)
    about = await collect(site, "fleets/default/events", 2, profile=working["profile"])
    assert [item["kind"] for item in about] == ["working", "granted", "waiting"]
    about = await collect(site, "fleets/default/events", 2, bot="farm-1/2")
    assert [(item["kind"], item["reason"]) for item in about] == [("auth", "new")]
    assert await collect(site, "fleets/default/events", 5, after="0-0") == []


async def test_accounts_are_made_shown_and_paged(site: Site) -> None:
    made = [await site.made("accounts", name=f"client {number}") for number in range(5)]
    assert await site.shown(f"accounts/{made[2]['id']}") == made[2]
    for limit in (1, 2, 5, 6):
        assert sorted(item["name"] for item in await collect(site, "accounts", limit)) == [
            f"client {number}" for number in range(5)
        ]
    is_problem(await site.rest.post("/api/v1/accounts", json={"name": "client 1"}), 409, "conflict")
    for name in ("", " ", "x" * 201, "a\tb", 1, None):
        assert wrong_fields(await site.rest.post("/api/v1/accounts", json={"name": name})) == ["name"]


async def test_keys_show_their_secret_once_and_are_listed_without_it(site: Site) -> None:
    account = await site.account("acme")
    api = await site.made(
        "api-keys", role="client", account=account, label="shop", expires_at="2999-12-31T23:59:59+01:00"
    )
    enrolment = await site.made("enrolment-keys", label="rack 7")
    assert (api["role"], api["account"], api["label"], api["revoked_at"]) == ("client", account, "shop", None)
    assert api["expires_at"] == "2999-12-31T22:59:59Z"
    assert (enrolment["fleet"], enrolment["label"], enrolment["expires_at"]) == ("default", "rack 7", None)
    for made, path in ((api, "api-keys"), (enrolment, "enrolment-keys")):
        listed = {item["id"]: item for item in await collect(site, path, 1)}
        assert listed[made["id"]] == {name: made[name] for name in made if name != "key"}
        assert made["key"] not in str(listed)
        assert (await site.rest.delete(f"/api/v1/{path}/{made['id']}")).status_code == 204
        listed = {item["id"]: item for item in await collect(site, path, 500)}
        assert listed[made["id"]]["revoked_at"] is not None


async def test_a_wrong_field_of_a_key_is_named(site: Site) -> None:
    account = await site.account("acme")
    cases: list[tuple[str, Json, str]] = [
        ("api-keys", {}, "role"),
        ("api-keys", {"role": "king"}, "role"),
        ("api-keys", {"role": "client"}, "account"),
        ("api-keys", {"role": "operator", "account": account}, "account"),
        ("api-keys", {"role": "client", "account": "nul\u0000"}, "account"),
        ("enrolment-keys", {"fleet": "nul\u0000"}, "fleet"),
    ]
    for path, body in (("api-keys", {"role": "operator"}), ("enrolment-keys", {})):
        cases += [
            (path, body | {"label": "x" * 201}, "label"),
            (path, body | {"label": "two\nlines"}, "label"),
            (path, body | {"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
            (path, body | {"expires_at": "soon"}, "expires_at"),
            (path, body | {"expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
            (path, body | {"key": "mine"}, "key"),
        ]
    for path, body, named in cases:
        assert wrong_fields(await site.rest.post(f"/api/v1/{path}", json=body)) == [named], body
    for path, body in (("api-keys", {"role": "client", "account": "acc_no"}), ("enrolment-keys", {"fleet": "no"})):
        is_problem(await site.rest.post(f"/api/v1/{path}", json=body), 404, "not_found")


async def test_enrolment_keys_are_filtered_by_fleet(site: Site) -> None:
    await site.made("fleets", name="other")
    for number in range(6):
        await site.made("enrolment-keys", fleet="other" if number % 2 else "default", label=f"k{number}")
    there = await collect(site, "enrolment-keys", 2, fleet="other")
    assert {item["label"] for item in there} == {"k1", "k3", "k5"}


async def test_a_sign_in_link_signs_in_once(site: Site) -> None:
    made = await site.made("sign-ins")
    assert made["url"].startswith("http://rota.test/sign-in?token=")
    async with speaker(site.app) as browser:
        page = await browser.get(made["url"])
        assert page.status_code < 400
