"""What nobody should send over REST: every route answers it with 4xx, names the field, and never fails inside."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from rota.web.api.__main__ import description
from tests.conformance.site import Json, Site

DESCRIPTION: Json = json.loads(description())
JSON = {"content-type": "application/json"}
STRANGE = ["\x00", "a\x00b", "²", "ü🚀", "' OR 1=1 --", "../..", "%", "x" * 300, "-1", "9" * 30, "{}", "\n", "\u202e"]


def all_operations() -> list[tuple[str, str, Json]]:
    """Method, path and description."""
    paths: dict[str, Json] = {path: found for path, found in DESCRIPTION["paths"].items() if path.startswith("/api/")}
    return [(method, path, item) for path, methods in paths.items() for method, item in methods.items()]


def refused(answer: Any, *statuses: int) -> Json:
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: Json = answer.json()
    return problem


async def test_strange_values_in_the_query_are_refused_or_find_nothing(site: Site) -> None:
    await site.made("profiles", name="acme")
    for method, path, operation in all_operations():
        names = [item["name"] for item in operation.get("parameters", []) if item["in"] == "query"]
        address = re.sub(r"{\w+}", "default", path)
        for name in names:
            for value in STRANGE:
                answer = await site.rest.request(method, address, params={name: value})
                if answer.is_success:
                    assert method == "get"
                    continue
                problem = refused(answer, 404, 422)
                assert problem["code"] == "not_found" or problem["errors"][0]["field"] == name


async def test_strange_names_in_the_path_are_nothing_that_there_is(site: Site) -> None:
    bodies: dict[str, Json] = {"change_profile": {}, "change_server": {}, "change_fleet": {}, "compare_fleet": {}}
    bodies |= {"order_drain": {"subject": "x"}, "change_webhook": {}, "rotate_webhook_secret": {}}
    bodies["change_account"] = {}
    for method, path, operation in all_operations():
        for part in re.findall(r"{(\w+)}", path):
            for value in ("\x00", "²", "../..", "%", "x" * 300):
                address = re.sub(r"{\w+}", "x", path.replace(f"{{{part}}}", quote(value, safe="")))
                answer = await site.rest.request(
                    method, address, json=bodies.get(operation["operationId"]), follow_redirects=True
                )
                problem = refused(answer, 404, 405, 422)
                if answer.status_code == 422:
                    assert problem["errors"] == [{"field": part, "message": "must not hold a NUL character"}]


async def test_a_cursor_of_another_list_is_refused_or_leads_to_an_honest_page(site: Site) -> None:
    profile = (await site.made("profiles", name="acme"))["id"]
    for part, foreign in (("records", "999999999-0"), ("assignments", "9" * 9), ("revisions", "9" * 9)):
        for after in ("prf_x", "-1", "1.5", "٣", "²", "9" * 19, " ", ""):
            answer = await site.rest.get(f"/api/v1/profiles/{profile}/{part}", params={"after": after})
            assert refused(answer, 422)["errors"][0]["field"] == "after"
        assert (await site.shown(f"profiles/{profile}/{part}", after=foreign))["items"] == []


async def test_a_body_that_is_no_json_object_is_refused(site: Site) -> None:
    writing = [item for item in all_operations() if "requestBody" in item[2]]
    assert len(writing) >= 8
    await site.made("profiles", name="acme")
    for method, path, operation in writing:
        address = re.sub(r"{\w+}", "default", path)
        optional = not operation["requestBody"].get("required")
        for content in (b"{", b"\xff", b"{'a': 1}", b"nul", b'"\\ud800'):
            problem = refused(await site.rest.request(method, address, content=content, headers=JSON), 400)
            assert problem["code"] == "invalid_request"
        for content in (b"[]", b"1", b'"text"', *(() if optional else (b"null", b""))):
            problem = refused(await site.rest.request(method, address, content=content, headers=JSON), 422)
            assert problem["errors"][0]["field"] == "body"
        for value in ("[" * 100_000, '{"a":' * 100_000):
            refused(await site.rest.request(method, address, content=value.encode(), headers=JSON), 400)


async def test_half_a_surrogate_pair_is_refused_wherever_it_stands(site: Site) -> None:
    for content in (
        b'{"name": "\\ud800"}',
        b'{"name": "a", "config": {"b": "\\ud800"}}',
        b'{"name": "a", "fleet": "\\ud800"}',
    ):
        refused(await site.rest.post("/api/v1/profiles", content=content, headers=JSON), 422)


async def test_a_form_or_a_text_is_no_json(site: Site) -> None:
    answer = await site.rest.post("/api/v1/accounts", data={"name": "acme"})
    assert refused(answer, 422)["errors"][0]["field"] == "body"


@pytest.mark.parametrize("path", ["profiles", "accounts", "nothing"])
async def test_a_body_over_a_mebibyte_is_refused_unread(site: Site, path: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 50_000
            yield b" " * 50_000

    whole = b'{"name": "' + b"x" * 1_100_000 + b'"}'
    for content in (whole, endless()):
        answer = await site.rest.post(f"/api/v1/{path}", content=content, headers=JSON)
        if path == "nothing":
            refused(answer, 404)
        else:
            assert refused(answer, 413)["code"] == "body_too_large"
    assert sent < 1_200_000


async def test_a_configuration_over_its_limit_is_refused_and_one_below_it_is_kept(site: Site) -> None:
    fits = {"a": "x" * (65_536 - len('{"a": ""}'))}
    made = await site.made("profiles", name="large", config=fits)
    assert (await site.shown(f"profiles/{made['id']}"))["config"] == fits
    answer = await site.rest.post("/api/v1/profiles", json={"name": "large", "config": {"a": fits["a"] + "x"}})
    assert refused(answer, 422)["errors"][0]["field"] == "config"


async def test_numbers_without_end_are_refused_or_kept_whole(site: Site) -> None:
    made = await site.made("profiles", name="exact", config={"n": 2**70, "f": 1e300})
    config = (await site.shown(f"profiles/{made['id']}"))["config"]
    assert config["n"] == 2**70
    assert float(config["f"]) == 1e300
    content = b'{"name": "a", "config": {"n": ' + b"9" * 5000 + b"}}"
    refused(await site.rest.post("/api/v1/profiles", content=content, headers=JSON), 400, 422)
    content = b'{"name": "a", "priority": ' + b"9" * 4000 + b"}"
    refused(await site.rest.post("/api/v1/profiles", content=content, headers=JSON), 422)
