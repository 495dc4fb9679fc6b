"""The bot protocol in OpenAPI's words, written from the models that the server and the SDK share.

`/bot/…` is plain ASGI, of which FastAPI knows nothing; `app.py` puts this beside what FastAPI describes.
`docs/protocol.md` remains the contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter

from rota.protocol import (
    AuthReply,
    AuthRequest,
    HeartbeatReply,
    HeartbeatRequest,
    HeartbeatsRequest,
    LeaveRequest,
    PushReply,
    PushRequest,
)

ENROLMENT, TOKEN = "Enrolment key", "Bot token"
SCHEMES = {
    ENROLMENT: "A key made by `rota enrolment create`, `enrol_…`.",
    TOKEN: "What `/bot/auth` answered, `bot_…`.",
}


class HeartbeatError(BaseModel):
    """Why a bot's beat failed, in the place of its reply."""

    code: str
    detail: str


class FailedBeat(BaseModel):
    """Stands in the place of a bot that failed."""

    error: HeartbeatError


class HeartbeatsReply(BaseModel):
    """Reply of `POST /bot/heartbeats`: one for each beat, in their order."""

    replies: list[HeartbeatReply | FailedBeat]


@dataclass(frozen=True)
class _Call:
    does: str
    takes: Any
    answers: Any = None
    key: str | None = TOKEN
    may_be_empty: bool = False


CALLS = {
    "auth": _Call("Brings a bot in; what it works on it may keep.", AuthRequest, AuthReply, ENROLMENT),
    "heartbeat": _Call(
        "Says what the bot does; the reply says what it should do.", HeartbeatRequest, HeartbeatReply, may_be_empty=True
    ),
    "heartbeats": _Call("The heartbeats of up to 1,000 bots of one host.", HeartbeatsRequest, HeartbeatsReply, None),
    "push_data": _Call("Commits a batch of records, once.", PushRequest, PushReply),
    "leave": _Call("Takes the bot off the roster; its profile waits again.", LeaveRequest, may_be_empty=True),
}
_PROBLEMS = {
    400: "The body is not JSON.",
    401: "The key, or the token, is not known (any more).",
    403: "The hostname is not on the list.",
    409: "The profile has a newer owner, or the slot is contested.",
    413: "The body is over its limit.",
    422: "A field is wrong; `errors` names it.",
    429: "Too many requests: wait as long as Retry-After says.",
    503: "A store is away; Retry-After tells when to come back.",
}


def described(description: dict[str, Any]) -> dict[str, Any]:
    """The description with the bot protocol in it."""
    wanted = [((name, "takes"), call.takes) for name, call in CALLS.items()]
    wanted += [((name, "answers"), call.answers) for name, call in CALLS.items() if call.answers]
    references, definitions = TypeAdapter.json_schemas(
        [(key, "validation", TypeAdapter(model)) for key, model in wanted],
        # Records and assignments are called so in REST, too, and look otherwise there.
        ref_template="#/components/schemas/Bot{model}",
    )
    found = {key: reference for (key, _), reference in references.items()}
    schemas = {f"Bot{name}": schema for name, schema in definitions["$defs"].items()}
    components = description["components"]
    schemes = {name: {"type": "http", "scheme": "bearer", "description": text} for name, text in SCHEMES.items()}
    return {
        **description,
        "paths": {**description["paths"], **{f"/bot/{name}": {"post": _operation(name, found)} for name in CALLS}},
        "components": {
            **components,
            "schemas": {**components["schemas"], **schemas},
            "securitySchemes": {**components["securitySchemes"], **schemes},
        },
    }


def _operation(name: str, found: Mapping[tuple[str, str], Any]) -> dict[str, Any]:
    call = CALLS[name]
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    done: dict[str, Any] = {"description": "Done."}
    if call.answers:
        done["content"] = {"application/json": {"schema": found[name, "answers"]}}
    return {
        "tags": ["bots' own"],
        "summary": name.replace("_", " ").capitalize(),
        "description": call.does,
        "operationId": f"bot_{name}",
        "security": [{call.key: []}] if call.key else [],
        "requestBody": {
            "required": not call.may_be_empty,
            "content": {"application/json": {"schema": found[name, "takes"]}},
        },
        "responses": {
            "200" if call.answers else "204": done,
            **{str(status): {"description": text, "content": problem} for status, text in _PROBLEMS.items()},
        },
    }
