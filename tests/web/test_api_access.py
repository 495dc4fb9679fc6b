"""Who may see and do what: every route of the OpenAPI description, asked with every kind of key."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from httpx2 import AsyncClient

from rota.web.api.__main__ import description
from tests.conformance.site import Site, speaker

OWN = "/api/v1/profiles"
OWN_RECORDS = "/api/v1/accounts/{account_id}/records"
FOR_CLIENTS = (OWN, OWN_RECORDS, "/api/v1/webhooks")
"""What begins so is for clients too; everything else is the operator's."""
ENDLESS = "follow_records"
"""A stream that ends with the process; tests/acceptance/test_cli_records.py reads it."""
BODIES: dict[str, dict[str, Any]] = {
    "create_profile": {"name": "new"},
    "change_profile": {"name": "changed"},
    "add_server": {"hostname": "h", "expected_bots": 1},
    "change_server": {"expected_bots": 2},
    "create_fleet": {"name": "f"},
    "change_fleet": {"interval": 9},
    "compare_fleet": {},
    "order_drain": {"subject": "h"},
    "create_account": {"name": "a"},
    "change_account": {"keep_days": 9},
    "create_api_key": {"role": "operator"},
    "create_enrolment_key": {},
    "create_webhook": {"url": "http://127.0.0.1:9/"},
    "change_webhook": {"label": "changed"},
    "rotate_webhook_secret": {"overlap": 0},
}
NOBODY = {"webhook_id": "whk_nobody", "message_id": "msg_nobody"}
NOBODY |= {"profile_id": "prf_nobody", "server_id": "srv_nobody", "account_id": "acc_nobody", "key_id": "key_nobody"}


@dataclass(frozen=True)
class Operation:
    """One operation of the description."""

    id: str
    method: str
    path: str

    def address(self, **values: str) -> str:
        """The path with these values; what is missing names nothing that there is."""
        names = {**NOBODY, "server": "nowhere", "instance": "1", "fleet": "nofleet", "subject": "nowhere", **values}
        return re.sub(r"{(\w+)}", lambda match: names[match[1]], self.path)


def operations() -> Iterator[Operation]:
    paths = json.loads(description())["paths"]
    for path, methods in ((path, methods) for path, methods in paths.items() if path.startswith("/api/")):
        for method, operation in methods.items():
            yield Operation(operation["operationId"], method.upper(), path)


OPERATIONS = list(operations())
PROFILE_ROUTES = [item for item in OPERATIONS if "{profile_id}" in item.path]


@pytest.fixture
async def acme(site: Site) -> AsyncIterator[AsyncClient]:
    async with site.client_of(await site.account("acme")) as client:
        yield client


@pytest.fixture
async def rival(site: Site) -> AsyncIterator[AsyncClient]:
    async with site.client_of(await site.account("rival")) as client:
        yield client


async def ask(client: AsyncClient, operation: Operation, **values: str) -> Any:
    return await client.request(operation.method, operation.address(**values), json=BODIES.get(operation.id))


def is_problem(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert (answer.json()["status"], answer.json()["code"]) == (status, code)


async def test_without_a_valid_key_every_route_answers_401(site: Site) -> None:
    revoked = await site.made("api-keys", role="operator")
    await site.rest.delete(f"/api/v1/api-keys/{revoked['id']}")
    expired = await site.made("api-keys", role="operator")
    await site.expire("api_keys", expired["id"])
    enrolment = await site.made("enrolment-keys")
    for secret in (None, "", "rota_nobody", "\u00ff", revoked["key"], expired["key"], enrolment["key"]):
        headers = {} if secret is None else {b"authorization": f"Bearer {secret}".encode("latin-1")}
        for operation in OPERATIONS:
            answer = await site.anybody.request(
                operation.method, operation.address(), json=BODIES.get(operation.id), headers=headers
            )
            is_problem(answer, 401, "invalid_key")
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_key_counts_until_it_is_revoked_or_over(site: Site) -> None:
    for end in ("revoke", "expire"):
        made = await site.made("api-keys", role="operator", expires_at="2999-01-01T00:00:00Z")
        async with speaker(site.app, made["key"]) as client:
            assert (await client.get("/api/v1/fleets")).status_code == 200
            if end == "revoke":
                assert (await site.rest.delete(f"/api/v1/api-keys/{made['id']}")).status_code == 204
                assert (await site.rest.delete(f"/api/v1/api-keys/{made['id']}")).status_code == 204
            else:
                await site.expire("api_keys", made["id"])
            is_problem(await client.get("/api/v1/fleets"), 401, "invalid_key")


async def test_the_operators_routes_answer_403_to_a_client(acme: AsyncClient) -> None:
    closed = [operation for operation in OPERATIONS if not operation.path.startswith(FOR_CLIENTS)]
    assert len(closed) > 20
    for operation in closed:
        is_problem(await ask(acme, operation), 403, "forbidden")


async def test_every_route_answers_404_for_what_there_is_not(site: Site) -> None:
    named = [operation for operation in OPERATIONS if "{" in operation.path]
    assert len(named) > 20
    for operation in named:
        is_problem(await ask(site.rest, operation), 404, "not_found")


async def test_a_clients_profile_is_nothing_to_another_client(
    site: Site, acme: AsyncClient, rival: AsyncClient
) -> None:
    mine = (await acme.post(OWN, json={"name": "mine", "start": True})).json()
    before = await site.shown(f"profiles/{mine['id']}")
    assert len(PROFILE_ROUTES) >= 9
    for operation in PROFILE_ROUTES:
        is_problem(await ask(rival, operation, profile_id=mine["id"]), 404, "not_found")
    assert await site.shown(f"profiles/{mine['id']}") == before


async def test_a_client_may_use_every_profile_route_for_its_own(acme: AsyncClient) -> None:
    mine = (await acme.post(OWN, json={"name": "mine"})).json()["id"]
    last = {"delete_profile": 1}
    ending = [operation for operation in PROFILE_ROUTES if operation.id != ENDLESS]
    for operation in sorted(ending, key=lambda item: last.get(item.id, 0)):
        answer = await ask(acme, operation, profile_id=mine)
        assert answer.status_code == (204 if operation.id == "delete_profile" else 200), answer.text


async def test_a_clients_list_holds_its_own_alone_whatever_it_asks_for(
    site: Site, acme: AsyncClient, rival: AsyncClient
) -> None:
    mine = (await acme.post(OWN, json={"name": "mine"})).json()
    theirs = (await rival.post(OWN, json={"name": "theirs"})).json()
    ours = await site.made("profiles", name="the operator's")
    for query in ({}, {"account": theirs["account"]}, {"name": "t"}, {"fleet": "default"}, {"after": "a"}):
        for client, account in ((acme, mine["account"]), (rival, theirs["account"])):
            items = (await client.get(OWN, params=query)).json()["items"]
            assert {item["account"] for item in items} <= {account}
    items = (await site.shown("profiles"))["items"]
    assert {item["id"] for item in items} == {mine["id"], theirs["id"], ours["id"]}
    items = (await site.shown("profiles", account=mine["account"]))["items"]
    assert [item["id"] for item in items] == [mine["id"]]


async def test_a_client_makes_profiles_for_itself_alone(site: Site, acme: AsyncClient) -> None:
    other = await site.account("other")
    is_problem(await acme.post(OWN, json={"name": "x", "account": other}), 403, "forbidden")
    own = (await acme.post(OWN, json={"name": "x"})).json()["account"]
    assert (await acme.post(OWN, json={"name": "y", "account": own})).status_code == 201
    assert (await site.made("profiles", name="z", account=other))["account"] == other


async def test_nobody_is_told_why_a_profile_cannot_be_seen(acme: AsyncClient, rival: AsyncClient) -> None:
    mine = (await acme.post(OWN, json={"name": "mine"})).json()["id"]
    theirs = (await rival.get(f"{OWN}/{mine}")).json()
    nothing = (await rival.get(f"{OWN}/prf_{'0' * 20}")).json()
    assert theirs["detail"].replace(mine, "") == nothing["detail"].replace(f"prf_{'0' * 20}", "")


async def test_an_unknown_address_and_a_wrong_method_are_problems_too(site: Site) -> None:
    is_problem(await site.rest.get("/api/v1/nothing"), 404, "not_found")
    is_problem(await site.anybody.get("/api/v1"), 404, "not_found")
    answer = await site.rest.put("/api/v1/profiles")
    is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"]


async def test_the_description_is_served(site: Site) -> None:
    answer = await site.anybody.get("/api/v1/openapi.json")
    assert answer.json()["info"]["title"] == "rota"
