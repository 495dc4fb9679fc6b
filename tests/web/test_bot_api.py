"""What may be wrong with a request of a bot, and what it is told then."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import product
from typing import Any

import pytest

from rota import protocol
from rota.errors import UnknownBotError
from rota.live.snapshot import totals
from rota.web.tokens import make_token, read_token
from tests.conformance.fleet import Fleet
from tests.conformance.site import Site

SECRET = "x" * 32
CALLS = ["auth", "heartbeat", "push_data", "leave"]


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["title"]
    assert body["detail"]
    return body


def authorized(text: str | None) -> dict[bytes, bytes]:
    return {} if text is None else {b"authorization": text.encode("latin-1")}


async def test_a_body_that_is_no_json_is_refused(bots: Fleet) -> None:
    await bots.auth("1")
    broken = [b"{", b"\xff\xfe", b'{"a": 1,}', b"{'a': 1}", b"", b" ", b"nul", b"\x00", b"{}{}"]
    for call, raw in product(CALLS, broken):
        if raw == b"" and call in ("heartbeat", "leave"):
            continue
        headers = {"authorization": f"Bearer {bots.key}"} if call == "auth" else {}
        problem(await bots.call("1", call, content=raw, headers=headers), 400, "invalid_request")


async def test_a_body_that_is_no_object_is_refused(bots: Fleet) -> None:
    await bots.auth("1")
    values: list[Any] = [None, 1, "text", [], [{}], True]
    for call, value in product(CALLS, values):
        headers = {"authorization": f"Bearer {bots.key}"} if call == "auth" else {}
        answer = await bots.call("1", call, content=json.dumps(value).encode(), headers=headers)
        body = problem(answer, 422, "invalid_request")
        assert body["errors"][0]["field"] == "body"


async def test_at_most_twenty_wrong_fields_are_named(bots: Fleet) -> None:
    await bots.auth("1")
    body = problem(await bots.push("1", [1] * 100), 422, "invalid_request")
    assert [wrong["field"] for wrong in body["errors"]] == [f"records.{number}" for number in range(20)]
    assert body["detail"].startswith("records.0: ")


async def test_an_empty_body_is_an_idle_bot(bots: Fleet) -> None:
    await bots.auth("1")
    answer = await bots.call("1", "heartbeat", content=b"")
    assert answer.json() == {"instruction": "wait", "interval": 30, "ttl": 90, "assignment": None}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.content))


async def test_without_a_known_token_every_call_is_refused(bots: Fleet) -> None:
    too_long = "Bearer " + "a" * 5000 + ".x"
    nothing: list[str | None] = [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "bot_x.y"]
    unknown = ["Bearer bot_.", "Bearer bot_x.y", too_long, "Bearer \xff\xfe.\x80", "Bearer .."]
    for call, authorization in product(CALLS[1:], [*nothing, *unknown]):
        body = {"batch": 1, "records": []} if call == "push_data" else {}
        answer = await bots.site.anybody.post(f"/bot/{call}", json=body, headers=authorized(authorization))
        problem(answer, 401, "unknown_bot")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_an_enrolment_key_is_no_token_and_an_api_key_neither(bots: Fleet) -> None:
    operator = bots.site.rest.headers["authorization"].removeprefix("Bearer ")
    for secret in (bots.key, operator):
        headers = authorized(f"Bearer {secret}")
        problem(await bots.site.anybody.post("/bot/heartbeat", json={}, headers=headers), 401, "unknown_bot")
    token = (await bots.auth("1"))["token"]
    for secret in (operator, token, "enrol_" + "x" * 43, "\xff"):
        headers = authorized(f"Bearer {secret}")
        answer = await bots.site.anybody.post("/bot/auth", json={"hostname": "farm-1"}, headers=headers)
        problem(answer, 401, "invalid_key")


async def test_the_scheme_of_the_authorization_may_be_written_in_any_case(bots: Fleet) -> None:
    token = (await bots.auth("1"))["token"]
    for scheme in ("bearer", "BEARER"):
        answer = await bots.site.anybody.post("/bot/heartbeat", headers={"authorization": f"{scheme} {token}"})
        assert answer.status_code == 200


async def test_a_forged_token_reaches_nothing(bots: Fleet) -> None:
    await bots.auth("1")
    for owner in (
        "default~farm-1/1",
        "nofleet~farm-1/1",
        "a\x00b~farm-1/1",
        "default~../../1",
        "default~farm-1",
        "{}~x/y",
    ):
        headers = authorized(f"Bearer bot_{owner}~{SECRET}")
        problem(await bots.site.anybody.post("/bot/heartbeat", json={}, headers=headers), 401, "unknown_bot")


@pytest.mark.parametrize("owner", ["", "~", "x", "x/y", "fleet~x", "a~b~c/d", "a\nb~c/d", "F~a/b", f"{'f' * 33}~a/b"])
def test_a_token_of_another_form_is_not_read(owner: str) -> None:
    with pytest.raises(UnknownBotError):
        read_token(f"bot_{owner}~{SECRET}")


@pytest.mark.parametrize("secret", ["", "short", "x" * 65, "x" * 31 + "~", "x" * 31 + "ß"])
def test_a_token_with_another_secret_than_rota_makes_is_not_read(secret: str) -> None:
    with pytest.raises(UnknownBotError):
        read_token(f"bot_default~farm-1/1~{secret}")


@pytest.mark.parametrize("bot", ["h/1", f"{'h' * 253}/{'i' * 64}", "_a.b-c/A._-9"])
def test_every_token_that_is_given_out_can_be_read(bot: str) -> None:
    for fleet in ("default", "a", "f" * 32, "0-9"):
        owner = read_token(make_token(fleet, bot))
        assert (owner.fleet, owner.bot) == (fleet, bot)


async def test_unknown_fields_are_ignored_at_every_depth(bots: Fleet) -> None:
    working = await bots.work()
    told = await bots.beat("1", {**working, "lease": "x", "y": [1]}, z=None)
    assert told["instruction"] == "continue"
    assert (await bots.push("1", [{"data": 1, "x": 2}], colour="blue")).json()["accepted"] == 1


async def test_a_body_over_the_limit_is_refused_whole_or_in_chunks(bots: Fleet) -> None:
    await bots.auth("1")

    async def chunks(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 5000):
            yield b" " * min(5000, size - start)

    for call in CALLS:
        limit = 1_048_576 if call == "push_data" else 16_384
        headers = {"authorization": f"Bearer {bots.key}"} if call == "auth" else {}
        for body in (b" " * (limit + 1), chunks(limit + 1), b" " * (limit * 2)):
            problem(await bots.call("1", call, content=body, headers=headers), 413, "body_too_large")
        for body in (b" " * limit, chunks(limit)):
            problem(await bots.call("1", call, content=body, headers=headers), 400, "invalid_request")


async def test_a_body_that_never_ends_is_not_read_to_its_end(bots: Fleet) -> None:
    await bots.auth("1")
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield b" " * 1000

    headers = {"authorization": f"Bearer {bots.tokens['1']}"}
    problem(await bots.site.anybody.post("/bot/heartbeat", content=endless(), headers=headers), 413, "body_too_large")
    assert sent < 20_000


async def test_who_hangs_up_in_the_middle_of_a_request_is_not_answered(bots: Fleet) -> None:
    token = (await bots.auth("1"))["token"]
    scope = {
        "type": "http",
        "path": "/bot/heartbeat",
        "method": "POST",
        "headers": [(b"authorization", f"Bearer {token}".encode())],
    }
    begun = {"type": "http.request", "body": b"{", "more_body": True}
    gone = {"type": "http.disconnect"}
    messages: list[dict[str, Any]] = [begun, gone, gone]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    for _ in ("in the middle", "before it began"):
        await bots.site.app(scope, receive, send)
    assert (sent, messages) == ([], [])


async def test_every_call_is_a_post_and_every_other_path_is_unknown(bots: Fleet) -> None:
    client = bots.site.anybody
    for call in CALLS:
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
            answer = await client.request(method, f"/bot/{call}")
            problem(answer, 405, "method_not_allowed")
            assert answer.headers["allow"] == "POST"
        assert (await client.head(f"/bot/{call}")).status_code == 405
    for path in ("/bot/", "/bot/nothing", "/bot/heartbeat/", "/bot/heartbeat/x", "/bot/%00", "/bot/AUTH"):
        problem(await client.post(path, json={}), 404, "not_found")


async def test_a_host_may_be_written_in_capitals_and_is_the_same_server(bots: Fleet) -> None:
    first = await bots.auth("1", hostname="FARM-1")
    assert first["bot"] == "farm-1/1"
    await bots.auth("1")
    answer = await bots.site.anybody.post("/bot/heartbeat", headers={"authorization": f"Bearer {first['token']}"})
    problem(answer, 401, "unknown_bot")
    assert (await totals(bots.site.state.live, "default")).bots_total == 1


async def test_tokens_are_random_and_rota_keeps_none(bots: Fleet) -> None:
    tokens = {(await bots.auth(str(number)))["token"] for number in range(10)}
    secrets = {token.rpartition("~")[2] for token in tokens}
    assert len(secrets) == 10
    assert all(len(secret) >= 32 for secret in secrets)
    (everything,) = await bots.site.state.live.read(("HGETALL", "{default}:roster"))
    assert not [secret for secret in secrets if secret in str(everything)]


async def test_a_new_policy_is_told_with_the_replies(bots: Fleet, site: Site) -> None:
    await bots.auth("1")
    answer = await site.rest.patch("/api/v1/fleets/default", json={"interval": 0.75, "ttl": 2.5})
    assert answer.status_code == 200
    await site.state.policies.refresh()
    told = await bots.beat("1")
    assert (told["interval"], told["ttl"]) == (0.75, 2.5)
    told = await bots.auth("2")
    assert (told["interval"], told["ttl"]) == (0.75, 2.5)


async def test_labels_and_texts_of_all_kinds_arrive_as_they_were(bots: Fleet, site: Site) -> None:
    await bots.auth("1", version='1 "quoted" \u2028\n ü', labels={"a/b.c-d_e": "X/9"})
    await bots.beat("1", status='"; {"x": 1} \u0000 \x7f ü 🚀 ' + "z" * 80)
    shown = await site.shown("bots/farm-1/1")
    assert shown["version"] == '1 "quoted"   ü'
    assert shown["labels"] == {"a/b.c-d_e": "X/9"}
    assert shown["status"] == ('"; {"x": 1}     ü 🚀 ' + "z" * 80)[: protocol.MAX_STATUS]


async def test_a_configuration_of_any_shape_reaches_the_bot(bots: Fleet) -> None:
    config = {"": {"nested": [[], {}, None, True, 1e-9, 2**53, "\u2028</script>ü🚀"]}, "quote\"'": -0.5}
    await bots.profile(name='a "name" ü', config=config)
    await bots.auth("1")
    told = await bots.beat("1")
    assert told["assignment"]["config"] == json.loads(json.dumps(config))
    assert told["assignment"]["name"] == 'a "name" ü'
