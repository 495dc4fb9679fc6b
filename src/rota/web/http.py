"""Plain ASGI pieces of the bot protocol: reading a bounded body, answering JSON and problems."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from rota import storable
from rota.errors import (
    BodyTooLargeError,
    FieldError,
    InvalidRequestError,
    MalformedRequestError,
    ProblemError,
)
from rota.ledger.lines import refuse_faults

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

FOLLOWED = "rota.followed"
"""In the scope of a request while another has come behind it on its connection."""
JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")
# What encoders write and our parser refuses: numbers too long, nesting too deep, halves of surrogate pairs.
_POISON = re.compile(
    r"(?P<what>recursion limit|out of range|surrogate|hex escape).* at line (?P<line>\d+) column (?P<column>\d+)"
)
_HALF = "holds half of a surrogate pair, which is no character and cannot be stored"
_IN_WORDS = {
    "recursion limit": f"is nested more than {storable.MAX_DEPTH} levels deep",
    "out of range": f"holds a number of more than {storable.MAX_DIGITS} digits",
    "surrogate": _HALF,
    "hex escape": _HALF,
}


class ClientGoneError(Exception):
    """The caller hung up before its request was whole; there is nobody to answer."""


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The key or token in `Authorization: Bearer …`, or an empty text."""
    for name, value in headers:
        if name == b"authorization":
            kind, _, secret = value.partition(b" ")
            return secret.strip().decode("latin-1") if kind.lower() == b"bearer" else ""
    return ""


async def read_body(receive: Receive, limit: int) -> bytes:
    """The request's body.

    Raises:
        BodyTooLargeError: it is longer than `limit` bytes.
    """
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit:
        return body
    parts, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            break
    if size > limit:
        msg = f"The body is over {limit} bytes: split the batch."
        raise BodyTooLargeError(msg)
    return b"".join(parts)


def bounded(receive: Receive, limit: int) -> Receive:
    """`receive` that raises BodyTooLargeError as soon as a body is longer than `limit` bytes."""
    size = 0

    async def receive_bounded() -> MutableMapping[str, Any]:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise BodyTooLargeError(f"The body is over {limit} bytes.")
        return message

    return receive_bounded


async def answer(send: Send, body: bytes, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    """Sends one JSON answer."""
    length = (b"content-length", b"%d" % len(body))
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [headers[0] if headers else JSON, length, *headers[1:]],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def answer_problem(send: Send, problem: ProblemError, *more: tuple[bytes, bytes]) -> None:
    """Sends `application/problem+json`, with Retry-After where the caller is to come back."""
    await answer(send, problem_body(problem), problem.status, *problem_headers(problem), *more)


def problem_body(problem: ProblemError) -> bytes:
    """What `application/problem+json` says."""
    return json.dumps(problem.problem()).encode()


def problem_headers(problem: ProblemError) -> list[tuple[bytes, bytes]]:
    """The headers of a problem's answer, its media type first."""
    headers = [_PROBLEM]
    if problem.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(problem.retry_after))))
    if problem.status == 401:  # noqa: PLR2004 - RFC 9110 wants the scheme named
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


def as_problem(error: ValidationError, body: bytes) -> InvalidRequestError:
    """A pydantic error in the words of the protocol: 400 where the body is no JSON, else 422 with the fields."""
    wrong = error.errors(include_url=False, include_context=False, include_input=False)
    if wrong[0]["type"] == "json_invalid":
        return _poisoned(wrong[0]["msg"], body) or MalformedRequestError(
            f"The body is not valid JSON: {wrong[0]['msg']}."
        )
    fields = tuple(FieldError(".".join(map(str, item["loc"])) or "body", item["msg"]) for item in wrong[:20])
    return InvalidRequestError(f"{fields[0].field}: {fields[0].message}", fields=fields)


def _poisoned(message: str, body: bytes) -> InvalidRequestError | None:
    """The records that made parsing end, so that the caller can drop those and keep the others."""
    found = _POISON.search(message)
    if found is None:
        return None
    try:
        # A reader that takes what ours refuses, all but the deepest nesting.
        refuse_faults([record.get("data") for record in json.loads(body, parse_int=_number)["records"]])
    except InvalidRequestError as error:
        return error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return _ended_in(body, int(found["line"]), int(found["column"]), _IN_WORDS[found["what"]])


def _number(digits: str) -> int:
    return int(digits) if len(digits) <= storable.MAX_DIGITS else 10**storable.MAX_DIGITS


def _ended_in(body: bytes, line: int, column: int, why: str) -> InvalidRequestError | None:
    before = sum(len(text) + 1 for text in body.split(b"\n", line - 1)[: line - 1])
    # A number that is too long would stop the second look as well.
    begun = body[: before + column - 1].rstrip(b"0123456789")
    try:
        records = from_json(begun, allow_partial=True)["records"]
        field = f"records.{len(records) - 1}"
    except (ValueError, KeyError, TypeError):
        return None
    return InvalidRequestError(f"{field}: {why}", fields=(FieldError(field, why),))
