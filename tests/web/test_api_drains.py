"""Drains over REST: ordered for a server or a bot, shown, changed, undone; carried out at once or as soon as can be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from rota.embedded import EmbeddedValkey
from rota.steward.drain import drain as carry_out
from tests.conformance.fleet import SERVER, Fleet
from tests.conformance.site import Json, Site

DRAINS = "/api/v1/fleets/default/drains"


def is_problem(answer: Any, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return str(answer.json()["detail"])


async def listed(site: Site, **query: Any) -> list[Json]:
    items: list[Json] = (await site.shown("fleets/default/drains", **query))["items"]
    return items


async def draining(bots: Fleet, *names: str) -> list[bool]:
    return [(await bots.site.shown(f"bots/{SERVER}/{name}"))["draining"] for name in names]


async def test_a_server_is_drained_and_what_comes_in_meanwhile_is_told_to_exit(bots: Fleet) -> None:
    site = bots.site
    working = await bots.work("1")
    await bots.auth("2")
    made = await site.made("fleets/default/drains", subject=SERVER)
    assert (made["subject"], made["deadline"], made["bots_left"]) == (SERVER, None, 2)
    assert await listed(site) == [made]
    assert await draining(bots, "1", "2") == [True, True]
    assert (await bots.beat("1", working))["instruction"] == "stop"
    assert (await bots.beat("2"))["instruction"] == "exit"
    await bots.call("2", "leave", json={})
    assert [drain["bots_left"] for drain in await listed(site)] == [1]
    await bots.auth("3")
    assert (await bots.beat("3"))["instruction"] == "exit"
    assert (await site.rest.delete(f"{DRAINS}/{SERVER}")).status_code == 204
    assert await listed(site) == []
    assert await draining(bots, "1", "3") == [False, False]
    assert (await bots.beat("3"))["instruction"] == "wait"
    told = is_problem(await site.rest.delete(f"{DRAINS}/{SERVER}"), 404, "not_found")
    assert told == f"{SERVER} is not being drained in fleet default."


async def test_ordering_again_changes_the_deadline(bots: Fleet) -> None:
    site = bots.site
    await bots.auth("1")
    first = await site.made("fleets/default/drains", subject=SERVER, within=600)
    left = datetime.fromisoformat(first["deadline"]) - datetime.now(UTC)
    assert timedelta(seconds=590) < left <= timedelta(seconds=600)
    longer = await site.made("fleets/default/drains", subject=SERVER.upper(), within=7200)
    assert longer["deadline"] > first["deadline"]
    assert longer["created_at"] == first["created_at"]
    assert (await site.made("fleets/default/drains", subject=SERVER, within=None))["deadline"] is None
    assert len(await listed(site)) == 1


async def test_what_has_not_ended_at_the_deadline_is_killed(bots: Fleet) -> None:
    site = bots.site
    working = await bots.work("1")
    drained = await site.made("fleets/default/drains", subject=SERVER, within=0)
    assert drained["bots_left"] == 0
    assert (await bots.call("1", "heartbeat", json={"working": working})).status_code == 401
    assert (await site.shown(f"profiles/{working['profile']}"))["phase"] == "held"


async def test_the_fleet_and_the_list_of_servers_tell_what_is_draining(bots: Fleet) -> None:
    site = bots.site
    await site.made("servers", hostname="barn-*", expected_bots=1)
    await bots.auth("1")
    for subject in (SERVER, "barn-7", f"{SERVER}/1"):
        await site.made("fleets/default/drains", subject=subject, within=600)
    shown = {server["hostname"]: server for server in (await site.shown("fleets/default"))["servers"]}
    assert set(shown) == {SERVER, "barn-7"}
    assert all(server["draining"] and server["drain_deadline"] for server in shown.values())
    assert (shown["barn-7"]["actual"], shown["barn-7"]["expected"]) == (0, 1)
    servers = {server["hostname"]: server for server in (await site.shown("servers"))["items"]}
    assert (servers[SERVER]["draining"], servers["barn-*"]["draining"]) == (True, False)
    assert servers["barn-*"]["drain_deadline"] is None
    assert await site.shown(f"servers/{servers[SERVER]['id']}") == servers[SERVER]
    changed = (await site.rest.patch(f"/api/v1/servers/{servers[SERVER]['id']}", json={"expected_bots": 9})).json()
    assert changed["draining"] is True


async def test_what_there_is_not_cannot_be_drained(bots: Fleet) -> None:
    site = bots.site
    await bots.site.made("servers", hostname="barn-*", expected_bots=1)
    for subject, words in (
        ("nowhere", "There is no server nowhere"),
        (f"{SERVER}/9", f"There is no bot {SERVER}/9"),
        ("barn", "There is no server barn"),
    ):
        answer = await site.rest.post(DRAINS, json={"subject": subject})
        assert words in is_problem(answer, 404, "not_found")
    is_problem(await site.rest.post("/api/v1/fleets/nofleet/drains", json={"subject": SERVER}), 404, "not_found")
    is_problem(await site.rest.get("/api/v1/fleets/nofleet/drains"), 404, "not_found")
    assert await listed(site) == []
    await site.made("fleets/default/drains", subject="barn-12")


async def test_bots_whose_server_is_not_listed_any_more_can_be_drained(bots: Fleet) -> None:
    site = bots.site
    made = await site.made("servers", hostname="stray", expected_bots=1)
    await bots.auth("1", hostname="stray")
    await site.rest.delete(f"/api/v1/servers/{made['id']}")
    assert (await site.made("fleets/default/drains", subject="stray"))["bots_left"] == 1


async def test_a_wrong_field_of_a_drain_is_named(bots: Fleet) -> None:
    cases: list[tuple[Json, str]] = [
        ({"subject": "two words"}, "subject"),
        ({"subject": "bot-farm-*"}, "subject"),
        ({"subject": "a/b/c"}, "subject"),
        ({"subject": ""}, "subject"),
        ({"subject": None}, "subject"),
        ({}, "subject"),
        ({"subject": SERVER, "within": -1}, "within"),
        ({"subject": SERVER, "within": 30 * 86_400 + 1}, "within"),
        ({"subject": SERVER, "within": "soon"}, "within"),
        ({"subject": SERVER, "deadline": "2999-01-01"}, "deadline"),
    ]
    for body, named in cases:
        answer = await bots.site.rest.post(DRAINS, json=body)
        is_problem(answer, 422, "invalid_request")
        assert [wrong["field"] for wrong in answer.json()["errors"]] == [named]
    await bots.auth("1")
    answer = await bots.site.rest.post(f"/api/v1/bots/{SERVER}/1/drain", json={"within": -1})
    assert [wrong["field"] for wrong in answer.json()["errors"]] == ["within"]


async def test_a_bots_drain_has_a_deadline_where_one_is_given(bots: Fleet) -> None:
    site, path = bots.site, f"/api/v1/bots/{SERVER}/1/drain"
    await bots.auth("1")
    for body, has_deadline in (({"within": 600}, True), (None, False), ({}, False), ({"within": None}, False)):
        assert (await site.rest.post(path, json=body)).status_code == 204
        (drain,) = await listed(site)
        assert (drain["subject"], drain["bots_left"]) == (f"{SERVER}/1", 1)
        assert (drain["deadline"] is not None) is has_deadline
    assert (await site.rest.delete(f"{DRAINS}/{SERVER}/1")).status_code == 204
    assert await draining(bots, "1") == [False]
    await bots.work("1")
    assert (await site.rest.post(path, json={"within": 0})).status_code == 204
    is_problem(await site.rest.get(f"/api/v1/bots/{SERVER}/1"), 404, "not_found")


async def test_a_bot_of_a_draining_server_cannot_be_taken_back_alone(bots: Fleet) -> None:
    site = bots.site
    await bots.auth("1")
    await site.rest.post(f"/api/v1/bots/{SERVER}/1/drain")
    await site.made("fleets/default/drains", subject=SERVER)
    told = is_problem(await site.rest.post(f"/api/v1/bots/{SERVER}/1/undrain"), 409, "conflict")
    assert f"rota server undrain {SERVER}" in told
    await site.rest.delete(f"{DRAINS}/{SERVER}")
    assert await draining(bots, "1") == [True], "it was drained by itself, too"
    assert (await site.rest.post(f"/api/v1/bots/{SERVER}/1/undrain")).status_code == 204
    assert await draining(bots, "1") == [False]
    assert (await site.rest.post(f"/api/v1/bots/{SERVER}/1/undrain")).status_code == 204
    is_problem(await site.rest.post(f"/api/v1/bots/{SERVER}/9/undrain"), 404, "not_found")


async def test_drains_survive_the_loss_of_live_state(bots: Fleet) -> None:
    site = bots.site
    await bots.auth("1")
    await site.rest.post(f"/api/v1/bots/{SERVER}/1/drain")
    await site.made("servers", hostname="barn", expected_bots=1)
    await site.made("fleets/default/drains", subject="barn")
    await site.lose_live_state()
    await carry_out(site.state.ledger, site.state.live, "default")
    assert [drain["bots_left"] for drain in await listed(site)] == [0, 0], "nobody is back yet"
    await bots.auth("1")
    await bots.auth("2", hostname="barn")
    await carry_out(site.state.ledger, site.state.live, "default")
    assert await draining(bots, "1") == [True]
    assert (await bots.beat("2"))["instruction"] == "exit"


async def test_a_drain_is_forgotten_with_its_bot(bots: Fleet) -> None:
    site = bots.site
    await bots.auth("1")
    await site.rest.post(f"/api/v1/bots/{SERVER}/1/drain")
    await bots.call("1", "leave", json={})
    await carry_out(site.state.ledger, site.state.live, "default")
    assert await listed(site) == []


async def test_while_live_state_is_away_a_listed_server_is_drained_later(
    fragile: Site, own_valkey: EmbeddedValkey
) -> None:
    bots = await Fleet.of(fragile)
    await bots.auth("1")
    own_valkey.stop(5)
    made = await fragile.made("fleets/default/drains", subject=SERVER)
    assert made["bots_left"] is None
    assert [drain["bots_left"] for drain in await listed(fragile)] == [None]
    for subject in (f"{SERVER}/1", "stray"):
        is_problem(await fragile.rest.post(DRAINS, json={"subject": subject}), 503, "unavailable")
    assert (await fragile.rest.delete(f"{DRAINS}/{SERVER}")).status_code == 204
    assert await listed(fragile) == []


async def test_drains_are_paged(bots: Fleet) -> None:
    for name in ("a", "b", "c"):
        await bots.site.made("servers", hostname=name, expected_bots=0)
        await bots.site.made("fleets/default/drains", subject=name)
    first = await bots.site.shown("fleets/default/drains", limit=2)
    assert [drain["subject"] for drain in first["items"]] == ["a", "b"]
    rest = await bots.site.shown("fleets/default/drains", limit=2, after=first["next"])
    assert ([drain["subject"] for drain in rest["items"]], rest["next"]) == (["c"], None)
