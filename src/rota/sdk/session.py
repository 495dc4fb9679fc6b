"""One bot's calls to rota: the token, the timeouts, and an exception for every way in which a call can fail.

`duty` and `push` call it; it decides nothing and retries nothing.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from functools import cache
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from rota.errors import FieldError, ProblemError, UnavailableError, problem_classes
from rota.protocol import (
    AuthReply,
    AuthRequest,
    HeartbeatReply,
    HeartbeatRequest,
    LeasedWorking,
    LeaveRequest,
    PushReply,
)
from rota.sdk.lease import now
from rota.sdk.pace import call_timeout

_JSON = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "rota-sdk"}
_PROBLEMS = problem_classes()
Reply = TypeVar("Reply", bound=BaseModel)


@cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context()  # 20 ms each: a process with many bots makes one


class Session:
    """The calls of one bot, from its first auth to its leave. Every call may raise a `ProblemError`."""

    def __init__(self, url: str, key: str, hello: AuthRequest) -> None:
        self.token: str | None = None
        self.bot: str | None = None
        self.ttl: float | None = None
        self._url = url.rstrip("/")
        self._key = key
        self._hello = hello
        # Beats are far apart: a connection has to outlast the pause between two of them.
        limits = httpx2.Limits(max_connections=8, max_keepalive_connections=2, keepalive_expiry=120)
        self._client = httpx2.AsyncClient(verify=_tls(), headers=_JSON, limits=limits, timeout=None)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    def forget(self, token: str | None) -> bool:
        """Drops `token`, which rota does not know any more; whether it was still the one in use."""
        if token is None or token != self.token:
            return False
        self.token = None
        return True

    async def auth(self, working: LeasedWorking | None) -> tuple[AuthReply, float]:
        """Enters the roster; the reply, and when the request was sent."""
        sent_at = now()
        hello = self._hello.model_copy(update={"working": working})
        content = await self._post("/bot/auth", hello.model_dump_json(exclude_none=True), self._key)
        reply = _read(AuthReply, content)
        self.token, self.bot, self.ttl = reply.token, reply.bot, reply.ttl
        if hello.instance is None:
            # The slot that rota drew is kept: a bot that has to come back is not a new one.
            self._hello = hello.model_copy(update={"instance": reply.bot.partition("/")[2] or None})
        return reply, sent_at

    async def heartbeat(self, request: HeartbeatRequest) -> tuple[HeartbeatReply, float]:
        """Says what is, hears what should be; the reply, and when the request was sent."""
        sent_at = now()
        # `ended` goes with every idle beat, be it null: see HeartbeatRequest.
        left_out = {"ended"} if request.working else {"working"}
        body = request.model_dump_json(exclude=left_out)
        content = await self._post("/bot/heartbeat", body, self.token, held=request.wait)
        reply = _read(HeartbeatReply, content)
        self.ttl = reply.ttl
        return reply, sent_at

    async def push_data(self, body: bytes) -> PushReply:
        """Has one batch committed."""
        return _read(PushReply, await self._post("/bot/push_data", body, self.token))

    async def leave(self, request: LeaveRequest) -> None:
        """Goes; the token is dead afterwards."""
        await self._post("/bot/leave", request.model_dump_json(), self.token)
        self.token = None

    async def _post(self, path: str, body: str | bytes, secret: str | None, *, held: float = 0) -> bytes:
        url = self._url + path
        try:
            async with asyncio.timeout(held + call_timeout(self.ttl)):
                response = await self._client.post(url, content=body, headers={"Authorization": f"Bearer {secret}"})
        except TimeoutError:
            raise _unavailable(f"{url} did not answer in time") from None
        except httpx2.HTTPError as error:
            raise _unavailable(f"{url} cannot be reached: {str(error) or type(error).__name__}") from None
        if response.is_success:
            return response.content
        raise _problem(url, response)


def _read(model: type[Reply], content: bytes) -> Reply:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _unavailable(f"the answer is not a {model.__name__} ({first['msg']}): is this rota's address?") from None


def _unavailable(detail: str) -> UnavailableError:
    return UnavailableError(detail, retry_after=0)


def _problem(url: str, response: httpx2.Response) -> ProblemError:
    try:
        body = json.loads(response.content)
        error: ProblemError = _PROBLEMS[body["code"]](str(body.get("detail") or "") or None)
        error.fields = tuple(FieldError(str(e["field"]), str(e["message"])) for e in body.get("errors", ()))
    except (ValueError, KeyError, TypeError, AttributeError):
        where = response.headers.get("location")
        moved = f" and points to {where}" if where else ""
        error = _unavailable(f"{url} answered {response.status_code}{moved}: is this rota's address?")
    error.retry_after = _seconds(response.headers.get("retry-after"))
    return error


def _seconds(retry_after: Any) -> float | None:
    try:
        return max(0.0, float(retry_after))
    except (TypeError, ValueError):
        return None
