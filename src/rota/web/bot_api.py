"""The bot protocol as plain ASGI. `docs/protocol.md` is what it does; nothing here knows FastAPI.

Heartbeats, the hot path, are answered by `connection` before they come here, if they are plain ones: a `POST` whose
headers ask for nothing special, on a connection that is busy with nothing else.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from pydantic import BaseModel, TypeAdapter, ValidationError

from rota import protocol
from rota.errors import (
    InternalError,
    InvalidKeyError,
    MethodNotAllowedError,
    NotFoundError,
    ProblemError,
)
from rota.ledger import fences
from rota.live import bots
from rota.web.heartbeats import bare, heartbeat, heartbeats
from rota.web.http import (
    ClientGoneError,
    Receive,
    Scope,
    Send,
    answer,
    answer_problem,
    as_problem,
    bearer,
    read_body,
)
from rota.web.state import State
from rota.web.tokens import Lease, TokenOwner, digest, make_token, read_token

_AUTH = TypeAdapter(protocol.AuthRequest)
_LEAVE = TypeAdapter(protocol.LeaveRequest)
_DRAWN_INSTANCE_BYTES = 4

log = structlog.get_logger(__name__)

Body = TypeVar("Body", bound=BaseModel)
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


class BotApi:
    """ASGI application for everything under `/bot/`."""

    def __init__(self, state: Callable[[], State]) -> None:
        """`state` is asked at each request, because the stores are opened when the server starts up."""
        self._state = state
        self._handlers: dict[str, Handler] = {
            "/bot/heartbeat": self._heartbeat,
            "/bot/heartbeats": self._heartbeats,
            "/bot/push_data": self._push_data,
            "/bot/auth": self._auth,
            "/bot/leave": self._leave,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; every error ends here as problem+json."""
        try:
            handler = self._handlers.get(scope["path"])
            if handler is None:
                await answer_problem(send, NotFoundError("There is no such call; see docs/protocol.md."))
            elif scope["method"] != "POST":
                await answer_problem(send, MethodNotAllowedError(), (b"allow", b"POST"))
            else:
                await handler(scope, receive, send)
        except ProblemError as error:
            await answer_problem(send, error)
        except ClientGoneError:
            return
        except Exception:
            log.exception("bot call failed", path=scope["path"])
            await answer_problem(send, InternalError())

    async def _heartbeat(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = _owner(scope)
        body = await read_body(receive, protocol.MAX_BEAT_BYTES)
        await answer(send, await heartbeat(self._state(), owner, body, scope, receive))

    async def _heartbeats(self, _: Scope, receive: Receive, send: Send) -> None:
        await answer(send, await heartbeats(self._state(), await read_body(receive, protocol.MAX_BODY_BYTES)))

    async def _auth(self, scope: Scope, receive: Receive, send: Send) -> None:
        secret = bearer(scope["headers"])
        request = _parse(_AUTH, await read_body(receive, protocol.MAX_BEAT_BYTES))
        if not secret:
            raise InvalidKeyError("Send the enrolment key as `Authorization: Bearer …`.")
        state = self._state()
        admission = await state.admissions.of(secret, request.hostname)
        fleet = admission.fleet
        policy = state.policies.grant(fleet)
        lease = state.leases.prove(fleet.name, request.working)
        bot = _bot_id(request, lease)
        token = make_token(fleet.name, bot)
        newcomer = bots.Newcomer(
            id=bot,
            digest=digest(token),
            version=request.version,
            labels={**request.labels, **admission.labels},
            address=(scope.get("client") or ("",))[0],
        )
        restored = await bots.auth(
            state.live, fleet.name, newcomer, ttl=policy.ttl, leased=request.working if lease else None
        )
        if restored is not None:
            # A ledger that was restored from a backup may not know this grant: the bot's data must be taken.
            async with state.ledger.begin() as tx:
                await fences.raise_to(tx, [(restored.profile, restored.epoch)])
        assignment = "null"
        if restored is not None:
            # Signed anew: after a change of the signing key, who comes back is the first to have a lease under it.
            again = state.leases.sign(Lease(fleet.name, bot, restored.profile, restored.epoch))
            assignment = f'{bare(restored.profile, restored.epoch, restored.revision)[:-1]},"lease":"{again}"}}'
        body = f'{{"bot":"{bot}","token":"{token}",{policy.json},"assignment":{assignment}}}'
        await answer(send, body.encode())

    async def _push_data(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, await self._state().pushes.push(_owner(scope), receive))

    async def _leave(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = _owner(scope)
        body = await read_body(receive, protocol.MAX_BEAT_BYTES)
        request = _parse(_LEAVE, body) if body else protocol.LeaveRequest()
        await bots.leave(self._state().live, owner.fleet, owner.bot, owner.digest, request.reason)
        if request.reason == "crash":
            log.warning("bot crashed", bot=owner.bot, fleet=owner.fleet, detail=request.detail)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def _owner(scope: Scope) -> TokenOwner:
    return read_token(bearer(scope["headers"]))


def _parse(adapter: TypeAdapter[Body], body: bytes) -> Body:
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        raise as_problem(error, body) from None


def _bot_id(request: protocol.AuthRequest, lease: Lease | None) -> str:
    """A process without an instance that comes back with its lease keeps the id that was drawn for it."""
    if request.instance is None and lease is not None and lease.bot.startswith(f"{request.hostname}/"):
        return lease.bot
    return f"{request.hostname}/{request.instance or secrets.token_hex(_DRAWN_INSTANCE_BYTES)}"
