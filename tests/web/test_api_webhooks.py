"""Webhooks over REST: registered, shown without their secrets, changed, tested; and their dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx2 import AsyncClient

from rota.ledger import webhook_deliveries, webhook_positions
from tests.conformance.site import Json, Site
from tests.hooks.receiver import Answer, Received, Receiver, answer, is_signed_by
from tests.ledger.hooked import Hooked

HOOKS = "/api/v1/webhooks"
URL = "http://127.0.0.1:9/hook"


@pytest.fixture
async def acme(site: Site) -> AsyncIterator[AsyncClient]:
    async with site.client_of(await site.account("acme")) as client:
        yield client


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as made:
        yield made


def is_problem(answered: Any, status: int, code: str) -> Json:
    assert (answered.status_code, answered.json()["code"]) == (status, code), answered.text
    told: Json = answered.json()
    return told


async def dead_letter(site: Site, webhook: str, *data: Any) -> str:
    """A message that was given up."""
    hooked = Hooked(site.state.ledger)
    await hooked.add_profiles(1)
    await hooked.push(0, *data)
    await hooked.find()
    async with site.state.ledger.begin() as tx:
        ((delivery,), _) = await webhook_deliveries.begin(tx, webhook, [], 10)
        await webhook_deliveries.failed(tx, delivery, status=500, error="answered 500", again_in=None)
    return delivery.id


async def test_a_webhook_is_registered_with_a_secret_that_is_shown_once(site: Site) -> None:
    made = await site.made("webhooks", url=URL, kinds=["alarm", "order"], label="shop")
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert (made["fleet"], made["account"], made["state"]) == ("default", None, "enabled")
    assert (made["kinds"], made["label"], made["waiting"], made["dead_letters"]) == (["alarm", "order"], "shop", 0, 0)
    assert await site.shown(f"webhooks/{made['id']}") == made
    assert (await site.shown("webhooks"))["items"] == [made]
    assert (await site.shown("webhooks", fleet="none"))["items"] == []
    assert secret not in (await site.rest.get(HOOKS)).text


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://localhost:6379/",
        "https://user:secret@127.0.0.1/",
        "ftp://127.0.0.1/",
        "nothing",
        "",
    ],
)
async def test_an_address_that_may_not_be_reached_is_refused_and_named(site: Site, url: str) -> None:
    if "localhost" in url:
        url = url.replace("localhost", "[::ffff:10.0.0.1]")
    made = await site.made("webhooks", url=URL)
    for refused in (
        await site.rest.post(HOOKS, json={"url": url}),
        await site.rest.patch(f"{HOOKS}/{made['id']}", json={"url": url}),
    ):
        assert is_problem(refused, 422, "invalid_request")["errors"][0]["field"] == "url"
    assert len((await site.shown("webhooks"))["items"]) == 1


@pytest.mark.parametrize(
    "body",
    [{"kinds": ["a b"]}, {"kinds": ["x" * 65]}, {"kinds": ["x"] * 51}, {"label": "x" * 201}, {"other": 1}, {"url": 1}],
)
async def test_what_makes_no_sense_is_refused(site: Site, body: Json) -> None:
    is_problem(await site.rest.post(HOOKS, json={"url": URL, **body}), 422, "invalid_request")


async def test_a_client_has_webhooks_of_its_own_account_alone(site: Site, acme: AsyncClient) -> None:
    fleets = await site.made("webhooks", url=URL)
    made = (await acme.post(HOOKS, json={"url": URL})).json()
    assert made["account"]
    assert made["fleet"] is None
    assert [item["id"] for item in (await acme.get(HOOKS)).json()["items"]] == [made["id"]]
    assert [item["id"] for item in (await site.shown("webhooks", account=made["account"]))["items"]] == [made["id"]]
    is_problem(await acme.post(HOOKS, json={"url": URL, "fleet": "default"}), 403, "forbidden")
    is_problem(await acme.post(HOOKS, json={"url": URL, "account": "acc_another"}), 403, "forbidden")
    nobody = "whk_nobody"
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"label": "mine"}),
        ("POST", "/rotate", {}),
        ("POST", "/test", None),
        ("GET", "/dead-letters", None),
        ("POST", "/dead-letters/replay", None),
        ("DELETE", "/dead-letters", None),
        ("GET", "/dead-letters/msg_1", None),
        ("POST", "/dead-letters/msg_1/replay", None),
        ("DELETE", "/dead-letters/msg_1", None),
        ("DELETE", "", None),
    ):
        told = [await acme.request(method, f"{HOOKS}/{one}{path}", json=body) for one in (fleets["id"], nobody)]
        problems = [is_problem(item, 404, "not_found")["detail"] for item in told]
        assert problems[0].replace(fleets["id"], nobody) == problems[1], "that it is there is not told either"
    assert (await acme.delete(f"{HOOKS}/{made['id']}")).status_code == 204


async def test_the_operator_chooses_whose_it_is(site: Site) -> None:
    owner = await site.account("acme")
    assert (await site.made("webhooks", url=URL, account=owner))["account"] == owner
    is_problem(await site.rest.post(HOOKS, json={"url": URL, "fleet": "none"}), 404, "not_found")
    is_problem(await site.rest.post(HOOKS, json={"url": URL, "account": "acc_none"}), 404, "not_found")
    both = await site.rest.post(HOOKS, json={"url": URL, "account": owner, "fleet": "default"})
    is_problem(both, 422, "invalid_request")


async def test_a_webhook_is_paused_enabled_changed_and_deleted(site: Site) -> None:
    made = await site.made("webhooks", url=URL, paused=True)
    path = f"{HOOKS}/{made['id']}"
    assert made["state"] == "paused"
    changed = (await site.rest.patch(path, json={"paused": False, "kinds": ["a"], "url": URL + "2"})).json()
    assert (changed["state"], changed["kinds"], changed["url"]) == ("enabled", ["a"], URL + "2")
    is_problem(await site.rest.patch(path, json={"label": None}), 422, "invalid_request")
    assert (await site.rest.delete(path)).status_code == 204
    is_problem(await site.rest.get(path), 404, "not_found")


async def test_a_test_tells_what_the_receiver_said_and_is_signed_with_old_and_new(
    site: Site, receiver: Receiver
) -> None:
    made = await site.made("webhooks", url=receiver.url, paused=True)
    path = f"{HOOKS}/{made['id']}"
    new = (await site.rest.post(f"{path}/rotate", json={})).json()["secret"]
    told = (await site.rest.post(f"{path}/test")).json()
    assert (told["delivered"], told["status"], told["error"]) == (True, 204, None)
    (got,) = receiver.received
    assert got.json["type"] == "webhook.test"
    assert got.data["webhook"] == made["id"]
    assert is_signed_by(made["secret"], got)
    assert is_signed_by(new, got)
    newest = (await site.rest.post(f"{path}/rotate", json={"overlap": 0})).json()["secret"]

    async def refuse(_received: Received) -> Answer:
        return answer(503, b"the receiver's own words")

    receiver.decide = refuse
    answered = await site.rest.post(f"{path}/test")
    told = answered.json()
    assert (told["delivered"], told["status"], told["error"]) == (False, 503, "answered 503 Service Unavailable")
    assert "own words" not in answered.text, "what a receiver says is nobody's business"
    assert is_signed_by(newest, receiver.received[-1])
    assert not is_signed_by(new, receiver.received[-1])


async def test_dead_letters_are_seen_replayed_and_discarded(site: Site) -> None:
    made = await site.made("webhooks", url=URL, paused=True)
    first, second = await dead_letter(site, made["id"], 1, 2), await dead_letter(site, made["id"], 3)
    path = f"webhooks/{made['id']}/dead-letters"
    listed = (await site.shown(path))["items"]
    assert [item["id"] for item in listed] == [second, first]
    assert (listed[1]["count"], listed[1]["attempts"], listed[1]["last_error"]) == (2, 1, "answered 500")
    assert await site.shown(f"{path}/{first}") == listed[1]
    assert (await site.shown(f"webhooks/{made['id']}"))["dead_letters"] == 2
    page = await site.shown(path, limit=1)
    assert (await site.shown(path, limit=1, after=page["next"]))["items"] == [listed[1]]
    assert (await site.rest.post(f"/api/v1/{path}/{first}/replay")).json() == {"count": 1}
    is_problem(await site.rest.get(f"/api/v1/{path}/{first}"), 404, "not_found")
    assert (await site.rest.post(f"/api/v1/{path}/replay")).json() == {"count": 1}
    third, fourth = await dead_letter(site, made["id"], 4), await dead_letter(site, made["id"], 5)
    assert (await site.rest.delete(f"/api/v1/{path}/{third}")).status_code == 204
    is_problem(await site.rest.delete(f"/api/v1/{path}/{third}"), 404, "not_found")
    assert (await site.rest.delete(f"/api/v1/{path}")).json() == {"count": 1}
    is_problem(await site.rest.post(f"/api/v1/{path}/{fourth}/replay"), 404, "not_found")


async def test_a_webhook_may_begin_with_the_records_that_are_kept(site: Site) -> None:
    hooked = Hooked(site.state.ledger)
    await hooked.add_profiles(1)
    await hooked.push(0, 1)
    made = await site.made("webhooks", url=URL, from_start=True)
    later = await site.made("webhooks", url=URL)
    await hooked.find()
    assert (await site.shown(f"webhooks/{made['id']}"))["waiting"] == 1
    assert (await site.shown(f"webhooks/{later['id']}"))["waiting"] == 0
    async with site.state.ledger.begin() as tx:
        assert await webhook_positions.spread(tx) == 0
