"""`docs/protocol.md` says what `rota.protocol` and `rota.errors` say: fields, codes, instructions, limits."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from rota import errors, protocol, storable
from rota.live import beats
from rota.protocol import Instruction, deadline_after_ms
from rota.web.__main__ import KEEP_ALIVE
from rota.web.bot_api import BotApi
from tests.unit.test_docs_pages import blocks, codes, page, section, table

PROTOCOL = page("protocol.md")
CALLS: dict[str, tuple[type[BaseModel], type[BaseModel] | None]] = {
    "/bot/auth": (protocol.AuthRequest, protocol.AuthReply),
    "/bot/heartbeat": (protocol.HeartbeatRequest, protocol.HeartbeatReply),
    "/bot/push_data": (protocol.PushRequest, protocol.PushReply),
    "/bot/leave": (protocol.LeaveRequest, None),
}
MANY = "/bot/heartbeats"
NESTED: dict[type[BaseModel], str] = {
    protocol.LeasedWorking: "working.",
    protocol.Working: "working.",
    protocol.Ended: "ended.",
    protocol.Record: "records[].",
    protocol.Assignment: "assignment.",
}
BOTS_NEVER_SEE = {"sign_in_required", "forbidden", "conflict"}
REVISION = TypeAdapter(protocol.Revision)
BATCH = TypeAdapter(protocol.BatchNumber)
LEASED = {"profile": "prf_1", "epoch": 1}


def statuses() -> dict[str, set[int]]:
    """Code → every status that it is answered with."""
    known = {code: {cls.status} for code, cls in errors.problem_classes().items()}
    known["invalid_request"] |= {cls.status for cls in errors.InvalidRequestError.__subclasses__()}
    return known


def call(path: str) -> str:
    return section(PROTOCOL, f"## POST {path}")


def fields(model: type[BaseModel]) -> set[str]:
    """A model's fields, those of models in it with the way to them."""
    found = set()
    for name, field in model.model_fields.items():
        found.add(name)
        for part, way in NESTED.items():
            if re.search(rf"\b{part.__name__}\b", str(field.annotation)) and way.startswith(name):
                found |= {f"{way}{inner}" for inner in part.model_fields}
    return found


def test_every_call_has_its_section() -> None:
    served = set(BotApi(lambda: None)._handlers)  # type: ignore[arg-type,return-value]
    assert served == {*CALLS, MANY} == set(re.findall(r"^## POST (\S+)$", PROTOCOL, re.MULTILINE))


@pytest.mark.parametrize("path", CALLS)
def test_every_field_of_a_request_is_told_and_no_other(path: str) -> None:
    told = {name for row in table(call(path), "request field", "meaning") for name in codes(row[0])}
    assert told == fields(CALLS[path][0])


def test_every_field_of_a_beat_of_many_is_told_and_no_other() -> None:
    told = {name for row in table(call(MANY), "request field", "meaning") for name in codes(row[0])}
    assert told == {"beats", *(f"beats[].{name}" for name in protocol.BeatOfMany.__annotations__)}
    assert set(protocol.BeatFields.__annotations__) == set(protocol.HeartbeatRequest.model_fields)
    assert f"up to {protocol.MAX_BEATS:,} beats" in call(MANY)
    (example,) = blocks(call(MANY), "json")
    TypeAdapter(protocol.HeartbeatsRequest).validate_json(example)


@pytest.mark.parametrize("path", [path for path, (_, reply) in CALLS.items() if reply])
def test_every_field_of_a_reply_is_told_and_no_other(path: str) -> None:
    told = {name for row in table(call(path), "reply field", "meaning") for name in codes(row[0])}
    reply = CALLS[path][1]
    assert reply is not None
    expected = fields(reply)
    if path == "/bot/auth":
        # Told in the row of `assignment` itself: there it has neither name nor configuration nor lease.
        expected = {name for name in expected if "." not in name}
    assert told == expected


@pytest.mark.parametrize("path", CALLS)
def test_the_examples_of_a_call_are_a_request_and_its_reply(path: str) -> None:
    examples, models = blocks(call(path), "json"), [model for model in CALLS[path] if model]
    assert len(examples) == len(models)
    for example, model in zip(examples, models, strict=True):
        assert set(json.loads(example)) <= set(model.model_fields)
        model.model_validate_json(example)


@pytest.mark.parametrize("path", CALLS)
def test_the_examples_of_a_call_show_every_field_at_the_top(path: str) -> None:
    for example, model in zip(blocks(call(path), "json"), CALLS[path], strict=False):
        assert model is not None
        assert set(json.loads(example)) == set(model.model_fields)


def test_every_code_that_a_bot_may_see_is_told_with_its_status() -> None:
    told: dict[str, set[int]] = {}
    text = section(PROTOCOL, "## Errors")
    for part in (text, text.partition("Three more codes")[2]):
        for code, status, deed in table(part, "code", "status", "what a bot does"):
            told[codes(code)[0]] = {int(number) for number in status.split("/")}
            assert deed
    assert told == {code: found for code, found in statuses().items() if code not in BOTS_NEVER_SEE}


def test_the_other_codes_are_named_with_their_status() -> None:
    text = section(PROTOCOL, "## Errors").partition("REST and the pages")[2]
    assert dict(re.findall(r"`(\w+)` \((\d+)\)", text)) | {"conflict": "409"} == {
        code: str(*statuses()[code]) for code in BOTS_NEVER_SEE
    }


def test_every_instruction_is_told_and_no_other() -> None:
    (row,) = [row for row in table(section(PROTOCOL, "## Words"), "word") if row[0] == "instruction"]
    assert codes(row[1]) == list(Instruction)
    answers = table(call("/bot/heartbeat"), "recorded", "the bot reports", "instruction", "effect")
    assert {code for row in answers for code in codes(row[2])} == set(Instruction)


def limit(name: str) -> str:
    rows = table(section(PROTOCOL, "## Limits"), "limit", "value")
    (value,) = [row[1] for row in rows if row[0] == name]
    return value


def number(name: str) -> int:
    return int(re.findall(r"[\d,]+", limit(name))[0].replace(",", ""))


def test_the_limits_are_those_of_the_code() -> None:
    assert number("body of `push_data`, of `heartbeats`") == protocol.MAX_BODY_BYTES
    assert number("body of every other call") == protocol.MAX_BEAT_BYTES
    assert number("records in one `push_data`") == protocol.MAX_RECORDS
    assert number("`status`") == protocol.MAX_STATUS
    assert number("`labels`") == protocol.MAX_LABELS
    assert number("heartbeats that may wait for their turn in one web worker") == beats.MOST_WAITING
    assert number("lists and objects within each other in a record's `data`") == storable.MAX_DEPTH
    assert number("integers in `data`") == storable.MAX_DIGITS
    waits = "heartbeats in calls of many that may wait for their answers in one web worker"
    assert number(waits) == beats.MOST_OF_CALLS
    assert f"{protocol.MAX_EPOCH:,}" in limit("`epoch`")
    assert f"stay open for {KEEP_ALIVE} seconds" in PROTOCOL


@pytest.mark.parametrize(("name", "adapter"), [("`revision`", REVISION), ("`batch`", BATCH)])
def test_a_number_is_taken_up_to_its_limit_and_not_beyond(name: str, adapter: TypeAdapter[Any]) -> None:
    low, high = (int(text.replace(",", "")) for text in re.findall(r"[\d,]+", limit(name)))
    for value in (low, high):
        adapter.validate_python(value)
    for value in (low - 1, high + 1):
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


@pytest.mark.parametrize(
    ("model", "name", "rest", "letter"),
    [
        (protocol.AuthRequest, "hostname", {}, "a"),
        (protocol.AuthRequest, "instance", {"hostname": "h"}, "a"),
        (protocol.AuthRequest, "version", {"hostname": "h"}, "é"),
        (protocol.LeasedWorking, "lease", LEASED, "é"),
        (protocol.Record, "kind", {}, "a"),
    ],
)
def test_a_text_is_taken_up_to_its_limit_and_not_beyond(
    model: type[BaseModel], name: str, rest: dict[str, Any], letter: str
) -> None:
    most = number(f"`{name}`")
    model.model_validate({**rest, name: letter * most})
    with pytest.raises(ValidationError):
        model.model_validate({**rest, name: letter * (most + 1)})


@pytest.mark.parametrize(
    ("model", "name", "rest"),
    [
        (protocol.AuthRequest, "hostname", {}),
        (protocol.AuthRequest, "instance", {"hostname": "h"}),
        (protocol.Record, "kind", {}),
    ],
)
def test_a_word_takes_the_marks_that_are_told_and_no_other(
    model: type[BaseModel], name: str, rest: dict[str, Any]
) -> None:
    told = codes(limit(f"`{name}`"))[0]
    for mark in map(chr, range(33, 127)):
        if not mark.isalnum():
            try:
                model.model_validate({**rest, name: f"a{mark}"})
            except ValidationError:
                assert mark not in told
            else:
                assert mark in told


def test_a_text_for_people_is_cut_where_it_is_told() -> None:
    assert len(protocol.LeaveRequest(detail="x" * 9_999).detail) == number("`detail`")
    assert len(protocol.HeartbeatRequest(status="x" * 9_999).status) == number("`status`")


def test_a_wait_is_taken_up_to_its_limit_and_not_beyond() -> None:
    low, high = map(int, re.findall(r"\d+", limit("`wait`")))
    assert f"at most {high}" in call("/bot/heartbeat")
    assert (protocol.HeartbeatRequest(wait=low).wait, protocol.HeartbeatRequest(wait=high).wait) == (low, high)
    with pytest.raises(ValidationError):
        protocol.HeartbeatRequest(wait=high + 1)


def test_every_limit_stands_for_something() -> None:
    rows = {row[0] for row in table(section(PROTOCOL, "## Limits"), "limit", "value")}
    named = {name for row in rows for name in codes(row)} - {"push_data", "heartbeats", "beats"}
    everything = {name for pair in CALLS.values() for model in pair if model for name in fields(model)}
    assert named <= {name.rpartition(".")[2] for name in everything}
    assert len(rows) == len(table(section(PROTOCOL, "## Limits"), "limit", "value"))


def test_rota_waits_beyond_the_lease_as_long_as_is_told() -> None:
    share, more = re.findall(r"`ttl` \+ (\d+) %, at least `ttl` \+ (\d+) s", PROTOCOL)[0]
    assert deadline_after_ms(90) == 90_000 * (100 + int(share)) // 100
    assert deadline_after_ms(1) == 1_000 + int(more) * 1_000


def test_the_sketch_of_a_bot_is_as_short_as_its_heading_says() -> None:
    title = re.findall(r"^## A bot in (\d+) lines$", PROTOCOL, re.MULTILINE)
    (sketch,) = blocks(section(PROTOCOL, f"## A bot in {title[0]} lines"), "text")
    assert len(sketch.splitlines()) <= int(title[0])
    assert all(word in sketch for word in Instruction)
