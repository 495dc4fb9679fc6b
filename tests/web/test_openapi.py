"""openapi.json is what the server describes, and docs/api.md names every route of it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from rota.errors import problem_classes
from rota.web.api.__main__ import description
from rota.web.bot_api import BotApi
from tests.conformance.site import Site

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / "openapi.json"
GUIDE = ROOT / "docs" / "api.md"


def routes(prefix: str = "/api/v1") -> dict[str, Any]:
    """`POST /profiles/{profile_id}/start` → its description."""
    paths = json.loads(description())["paths"]
    return {
        f"{method.upper()} {path.removeprefix(prefix)}": operation
        for path, methods in paths.items()
        for method, operation in methods.items()
        if path.startswith(f"{prefix}/")
    }


def test_the_committed_description_is_what_the_server_says() -> None:
    stale = not COPY.exists() or COPY.read_text(encoding="utf-8") != description()
    assert not stale, "openapi.json is stale: .venv/bin/python -m rota.web.api > openapi.json"


def test_every_operation_says_what_it_does_and_how_it_fails() -> None:
    for name, operation in routes().items():
        assert operation["description"], name
        assert re.fullmatch(r"[a-z_]+", operation["operationId"]), name
        assert {"400", "401", "403", "404", "409", "413", "422", "503"} <= set(operation["responses"]), name
        assert operation["security"], name
    names = [operation["operationId"] for prefix in ("/api/v1", "/bot") for operation in routes(prefix).values()]
    assert len(set(names)) == len(names)


def test_every_call_of_bots_is_described_with_what_it_takes_and_how_it_fails() -> None:
    calls = routes("/bot")
    assert set(calls) == {f"POST {path.removeprefix('/bot')}" for path in BotApi(lambda: None)._handlers}  # type: ignore[arg-type,return-value]
    for name, operation in calls.items():
        assert operation["description"], name
        assert {"400", "401", "403", "409", "413", "422", "503"} <= set(operation["responses"]), name
        assert operation["requestBody"]["content"]["application/json"]["schema"], name
        assert operation["requestBody"]["required"] is (name not in {"POST /heartbeat", "POST /leave"})


def test_the_guide_has_every_route_in_its_table_and_no_other() -> None:
    listed = re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(routes())


def test_the_guide_has_every_code_that_rest_answers_with() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    bots_alone = {
        "unknown_bot",
        "server_not_allowed",
        "slot_contested",
        "superseded",
        "rate_limited",
        "sign_in_required",
    }
    listed = dict(re.findall(r"^\| `(\w+)` \| ([\d, ]+) \|", text, re.MULTILINE))
    classes = {code: cls for code, cls in problem_classes().items() if code not in bots_alone}
    assert set(listed) == set(classes)
    for code, cls in classes.items():
        assert str(cls.status) in listed[code]


def examples() -> list[list[str]]:
    """The words of every curl command of the guide."""
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("curl ")]


def test_the_guide_has_examples() -> None:
    assert len(examples()) >= 6


async def test_every_example_of_the_guide_works(site: Site) -> None:
    """Run in their order; `$PROFILE`, `$ACCOUNT` and `$NEXT` come from the newest answer that tells one."""
    values: dict[str, str] = {}
    for words in examples():
        answer = await _curl(site, words, values)
        assert answer.is_success, (words, answer.text)
        if answer.headers.get("content-type") == "application/json":
            body = answer.json()
            values |= {"PROFILE": body["id"]} if str(body.get("id", "")).startswith("prf_") else {}
            values |= {"ACCOUNT": body["id"]} if str(body.get("id", "")).startswith("acc_") else {}
            values |= {"NEXT": body["next"]} if body.get("next") else {}
    assert set(values) == {"PROFILE", "ACCOUNT", "NEXT"}


async def _curl(site: Site, words: list[str], values: dict[str, str]) -> Any:
    method, url, body = "GET", "", None
    rest = iter(re.sub(r"\$([A-Z]+)", lambda match: values.get(match[1], match[0]), word) for word in words[1:])
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word in ("-d", "--json"):
            body, method = next(rest), "POST" if method == "GET" else method
        elif word == "-H":
            name, _, value = next(rest).partition(": ")
            headers[name] = value
        elif word == "--data-urlencode":
            name, _, value = next(rest).partition("=")
            query[name] = value
        elif word not in ("-s", "-G"):
            url = word
    assert headers.pop("Authorization") == "Bearer $KEY"
    assert "$" not in url, f"{url}: an earlier example must tell"
    assert url.startswith("http://127.0.0.1:7682/")
    path = url.removeprefix("http://127.0.0.1:7682")
    headers |= {"content-type": "application/json"}
    return await site.rest.request(method, path, content=body, headers=headers, params=query or None)


@pytest.mark.parametrize("path", [COPY, GUIDE])
def test_the_files_end_with_one_line_end(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
