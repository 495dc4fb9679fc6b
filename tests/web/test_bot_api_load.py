"""Many bots at once, and stores that go away while bots call."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from rota.embedded import EmbeddedPostgres, EmbeddedValkey
from rota.embedded.postgres import USER
from rota.live.beats import BATCH
from rota.protocol import LeasedWorking
from rota.settings import Settings
from rota.web.app import create_app
from rota.web.load import Load
from rota.web.policies import Policies
from rota.web.state import State
from tests.conformance.fleet import Fleet
from tests.conformance.site import Json, Site, open_site, speaker

PATIENCE = 20.0
"""Seconds to wait at most for what must become true."""


@pytest.fixture
def calls(site: Site, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Verb → how often its script was called from now on."""
    counted: Counter[str] = Counter()
    call = site.state.live.call

    async def count(verb: str, *arguments: Any) -> Any:
        counted[verb] += 1
        return await call(verb, *arguments)

    monkeypatch.setattr(site.state.live, "call", count)
    return counted


async def until(true: Callable[[], Any]) -> None:
    """Waits until the awaited condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not await true():  # noqa: ASYNC110 - another process has to come up
            await asyncio.sleep(0.01)


async def test_heartbeats_of_one_moment_go_to_the_store_in_few_calls(bots: Fleet, calls: Counter[str]) -> None:
    names = [str(number) for number in range(200)]
    await asyncio.gather(*(bots.auth(name) for name in names))
    calls.clear()
    told = await asyncio.gather(*(bots.beat(name) for name in names))
    assert {item["instruction"] for item in told} == {"wait"}
    assert calls["beat"] <= 2 * -(-len(names) // BATCH)


async def test_everyone_of_a_crowd_gets_another_profile(bots: Fleet) -> None:
    crowd = 30
    names = [str(number) for number in range(crowd + 10)]
    profiles = await asyncio.gather(*(bots.profile(f"p{number}", config={"n": number}) for number in range(crowd)))
    await asyncio.gather(*(bots.auth(name) for name in names))
    told = await asyncio.gather(*(bots.beat(name) for name in names))
    assert Counter(item["instruction"] for item in told) == {"start": crowd, "wait": 10}
    given = [item["assignment"] for item in told if item["assignment"]]
    assert {item["profile"] for item in given} == set(profiles)
    assert all(item["name"] == f"p{item['config']['n']}" for item in given)
    await bots.site.record()
    report = await bots.site.shown("fleets/default/check")
    assert {finding["kind"] for finding in report["findings"]} == {"too_many_bots"}


async def test_the_same_bot_twice_at_once_is_bound_once(bots: Fleet, calls: Counter[str]) -> None:
    await bots.profile("one")
    await bots.profile("two")
    await bots.auth("1")
    told = await asyncio.gather(*(bots.beat("1") for _ in range(6)))
    assert {item["instruction"] for item in told} == {"start"}
    assert len({(item["assignment"]["profile"], item["assignment"]["epoch"]) for item in told}) == 1
    assert calls["beat"] < 6
    assert (await bots.site.shown("fleets/default"))["profiles"]["waiting"] == 1


async def test_reports_that_contradict_each_other_at_once_leave_everything_sound(bots: Fleet) -> None:
    working = await bots.work()
    other = {**working, "epoch": working["epoch"] - 1}
    for _ in range(5):
        told = await asyncio.gather(*(bots.beat("1", work) for work in (working, None, other, working)))
        assert [item["instruction"] for item in told] == ["continue", "start", "stop", "continue"]
    report = await bots.site.shown("fleets/default/check")
    assert report == {"ok": True, "findings": []}


async def test_one_bots_bad_heartbeat_spoils_nobody_elses(bots: Fleet) -> None:
    await asyncio.gather(*(bots.auth(name) for name in "123"))
    bots.tokens["2"] = bots.tokens["2"][:-2] + "xx"
    answers = await asyncio.gather(
        bots.call("1", "heartbeat", json={}),
        bots.call("2", "heartbeat", json={}),
        bots.call("3", "heartbeat", content=b"{"),
        bots.call("3", "heartbeat", json={}),
    )
    assert [answer.status_code for answer in answers] == [200, 401, 400, 200]


async def test_bots_of_two_fleets_do_not_meet(bots: Fleet, site: Site) -> None:
    await site.made("fleets", name="other", interval=5, ttl=20)
    await site.build("other")
    await site.made("servers", hostname="farm-1", expected_bots=1, fleet="other")
    elsewhere = Fleet(site, (await site.made("enrolment-keys", fleet="other"))["key"])
    await bots.profile("here")
    assert (await elsewhere.auth("1"))["interval"] == 5
    await bots.auth("1")
    told = await asyncio.gather(elsewhere.beat("1"), bots.beat("1"))
    assert [item["instruction"] for item in told] == ["wait", "start"]
    assert [item["ttl"] for item in told] == [20, 90]


async def test_a_worker_opens_its_stores_when_it_starts_and_closes_them_when_it_ends(
    site: Site, valkey_url: str, web_database_url: str
) -> None:
    app = create_app(Settings(), f"{valkey_url}?db=1", web_database_url)
    async with app.fastapi.router.lifespan_context(app.fastapi), speaker(app) as client:
        assert (await client.get("/healthz")).json() == {"ok": True}
        state: State = app.fastapi.state.rota
        assert state.signing == site.state.signing
    assert all(task.done() for task in state.policies._tasks)


async def test_a_worker_ends_even_where_a_driver_loses_the_cancellation(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def deaf(self: Policies) -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    monkeypatch.setattr(Policies, "_pulse", deaf)
    policies = Policies(site.state.ledger, site.state.live, Load(site.state.beats))
    await policies.start()
    async with asyncio.timeout(PATIENCE):
        await begun.wait()
        await policies.aclose()


def refused(answer: Any) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1


async def test_without_the_live_store_every_call_is_to_be_tried_again(
    fragile: Site, own_valkey: EmbeddedValkey
) -> None:
    bots = await Fleet.of(fragile)
    working = await bots.work()
    own_valkey.stop()
    key = {"authorization": f"Bearer {bots.key}"}
    bodies: list[tuple[str, Json]] = [
        ("heartbeat", {"working": working}),
        ("push_data", {"batch": 1, "records": []}),
        ("leave", {}),
    ]
    for call, body in bodies:
        refused(await bots.call("1", call, json=body))
    refused(await fragile.anybody.post("/bot/auth", json={"hostname": "farm-1"}, headers=key))
    refused(await fragile.rest.get("/api/v1/fleets/default"))
    refused(await fragile.rest.get("/api/v1/bots"))
    answers = await asyncio.gather(*(bots.call("1", "heartbeat", json={}) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {503}


async def test_a_client_is_served_without_the_live_store_and_its_wish_is_carried_out_later(
    fragile: Site, own_valkey: EmbeddedValkey
) -> None:
    bots = await Fleet.of(fragile)
    profile = await bots.profile(start=False)
    own_valkey.stop()
    answer = await fragile.rest.post(f"/api/v1/profiles/{profile}/start")
    assert (answer.status_code, answer.json()["wanted"], answer.json()["phase"]) == (200, True, None)
    assert (await fragile.shown("servers"))["items"][0]["actual_bots"] is None
    assert [item["phase"] for item in (await fragile.shown("profiles"))["items"]] == [None]
    own_valkey.start()
    await fragile.build()
    assert (await fragile.shown(f"profiles/{profile}"))["phase"] == "waiting"


async def test_work_goes_on_under_the_same_epoch_when_the_store_comes_back_empty(
    fragile: Site, own_valkey: EmbeddedValkey
) -> None:
    bots = await Fleet.of(fragile)
    profile = await bots.profile()
    await bots.auth("1")
    started = (await bots.beat("1"))["assignment"]
    working = {key: started[key] for key in ("profile", "epoch", "revision")}
    await bots.beat("1", working)
    own_valkey.stop()
    refused(await bots.call("1", "heartbeat", json={"working": working}))
    own_valkey.start()
    key = {"authorization": f"Bearer {bots.key}"}
    body = {"hostname": "farm-1", "instance": "1", "working": {**working, "lease": started["lease"]}}

    async def rebuilding() -> bool:
        answer = await fragile.anybody.post("/bot/auth", json=body, headers=key)
        refused(answer)
        return "rebuilt" in str(answer.json()["detail"])

    await until(rebuilding)
    await fragile.build()
    assert (await bots.call("1", "heartbeat", json={"working": working})).status_code == 401
    told = await bots.auth("1", working=body["working"])
    lease = told["assignment"].pop("lease")
    assert told["assignment"] == working
    assert fragile.state.leases.prove("default", LeasedWorking(**working, lease=lease)) is not None
    assert (await bots.beat("1", working))["instruction"] == "continue"
    assert (await fragile.shown(f"profiles/{profile}"))["epoch"] == started["epoch"]


@asynccontextmanager
async def shut(postgres: EmbeddedPostgres, database: str) -> AsyncIterator[None]:
    """The database lets nobody in for the length of the block."""
    admin = await asyncpg.connect(host=str(postgres.sockets), user=USER, database="postgres")
    try:
        await admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
        await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", database)
        yield
    finally:
        await admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
        await admin.close()


async def test_without_the_ledger_work_goes_on_and_what_needs_it_is_to_be_tried_again(
    valkey_url: str, migrated_database_url: str, postgres: EmbeddedPostgres
) -> None:
    database = migrated_database_url.partition("@/")[2].partition("?")[0]
    async with open_site(f"{valkey_url}?db=2", migrated_database_url) as site:
        bots = await Fleet.of(site)
        working = await bots.work()
        await bots.auth("2")
        await bots.profile("second")
        async with shut(postgres, database):
            assert (await bots.beat("1", working))["instruction"] == "continue"
            refused(await bots.call("2", "heartbeat", json={}))
            refused(await bots.push("1", [{"data": 1}]))
            refused(await site.rest.get("/api/v1/profiles"))
            key = {"authorization": f"Bearer {bots.key}"}
            refused(await site.anybody.post("/bot/auth", json={"hostname": "farm-1"}, headers=key))
        told = await bots.beat("2")
        assert (told["instruction"], told["assignment"]["name"]) == ("start", "second")
        assert (await bots.push("1", [{"data": 1}])).json() == {"accepted": 1, "duplicate": False}
