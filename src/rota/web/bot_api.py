"""The bot protocol as plain ASGI: the hot path. `docs/protocol.md` is what it does; nothing here knows FastAPI.

A heartbeat is one pass: read the token, validate the body, write down the roster entry as it would be if nothing had
changed, let `live.beats` compare it together with the others of this moment, answer. Only `start` and `reconfigure`
ask the ledger.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
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
    UnavailableError,
    UnknownBotError,
)
from rota.ledger import enrolment, fences, records
from rota.ledger import profiles as ledger_profiles
from rota.live import bots
from rota.live.beats import Answer
from rota.live.entries import idle_entry, idle_entry_of, working_entry
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
from rota.web.policies import Policy
from rota.web.state import State
from rota.web.tokens import Lease, TokenOwner, digest, make_token, read_token

_AUTH = TypeAdapter(protocol.AuthRequest)
_HEARTBEAT = TypeAdapter(protocol.HeartbeatRequest)
_PUSH = TypeAdapter(protocol.PushRequest)
_LEAVE = TypeAdapter(protocol.LeaveRequest)
_IDLE = protocol.HeartbeatRequest()
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
        said = _parse(_HEARTBEAT, body) if body else _IDLE
        state = self._state()
        policy = state.policies.known(owner.fleet) or await _policy(state, owner.fleet)
        work = said.working
        if work is None:
            entry = _idle(owner.digest, said)
        else:
            entry = working_entry(
                owner.digest,
                work.profile,
                work.epoch,
                work.revision,
                accepting=said.accepting,
                status=said.status,
            )
        news = await state.beats.beat(owner.fleet, owner.bot, entry, policy.deadline_ms)
        if news is not None:
            await answer(send, await _told(state, owner, policy, news))
        elif work is None:
            await answer(send, policy.wait_reply)
        else:
            await answer(send, _reply("continue", policy, _bare(work.profile, work.epoch, work.revision)))

    async def _auth(self, scope: Scope, receive: Receive, send: Send) -> None:
        secret = bearer(scope)
        request = _parse(_AUTH, await read_body(receive, protocol.MAX_BEAT_BYTES))
        if not secret:
            raise InvalidKeyError("Send the enrolment key as `Authorization: Bearer …`.")
        state = self._state()
        async with state.ledger.begin() as tx:
            admission = await enrolment.admit(tx, secret, request.hostname)
        fleet = admission.fleet
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
            state.live, fleet.name, newcomer, ttl=fleet.ttl, leased=request.working if lease else None
        )
        if restored is not None:
            # A ledger that was restored from a backup may not know this grant: the bot's data must be taken.
            async with state.ledger.begin() as tx:
                await fences.raise_to(tx, [(restored.profile, restored.epoch)])
        assignment = "null"
        if restored is not None:
            # Signed anew: after a change of the signing key, who comes back is the first to have a lease under it.
            again = state.leases.sign(Lease(fleet.name, bot, restored.profile, restored.epoch))
            assignment = f'{_bare(restored.profile, restored.epoch, restored.revision)[:-1]},"lease":"{again}"}}'
        policy = Policy.of(fleet.interval, fleet.ttl)
        body = f'{{"bot":"{bot}","token":"{token}",{policy.json},"assignment":{assignment}}}'
        await answer(send, body.encode())

    async def _push_data(self, scope: Scope, receive: Receive, send: Send) -> None:
        arrived = datetime.now(UTC)
        owner = _owner(scope)
        request = _parse(_PUSH, await read_body(receive, protocol.MAX_BODY_BYTES))
        state = self._state()
        policy = await _policy(state, owner.fleet)
        profile, epoch = await bots.resolve(
            state.live,
            owner.fleet,
            owner.bot,
            owner.digest,
            ttl=policy.ttl,
            profile=request.profile,
            epoch=request.epoch,
        )
        async with state.ledger.begin() as tx:
            pushed = await records.push(
                tx,
                profile=profile,
                epoch=epoch,
                batch=request.batch,
                bot=owner.bot,
                received_at=arrived,
                records=[(record.kind, record.at or arrived, record.data) for record in request.records],
            )
        duplicate = "true" if pushed.duplicate else "false"
        await answer(send, f'{{"accepted":{pushed.accepted},"duplicate":{duplicate}}}'.encode())

    async def _leave(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = _owner(scope)
        body = await read_body(receive, protocol.MAX_BEAT_BYTES)
        request = _parse(_LEAVE, body) if body else protocol.LeaveRequest()
        await bots.leave(self._state().live, owner.fleet, owner.bot, owner.digest, request.reason)
        if request.reason == "crash":
            log.warning("bot crashed", bot=owner.bot, fleet=owner.fleet, detail=request.detail)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def _idle(token_digest: bytes, said: protocol.HeartbeatRequest) -> bytes:
    if "ended" not in said.model_fields_set:
        return idle_entry(token_digest, accepting=said.accepting, status=said.status)
    profile, epoch = ("-", 0) if said.ended is None else (said.ended.profile, said.ended.epoch)
    return idle_entry_of(token_digest, accepting=said.accepting, status=said.status, profile=profile, epoch=epoch)


def _owner(scope: Scope) -> TokenOwner:
    token = bearer(scope)
    if not token:
        raise UnknownBotError("Send the bot's token as `Authorization: Bearer …`; /bot/auth gives one.")
    return read_token(token)


def _parse(adapter: TypeAdapter[Body], body: bytes) -> Body:
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        raise as_problem(error, body) from None


async def _policy(state: State, fleet: str) -> Policy:
    try:
        return await state.policies.of(fleet)
    except NotFoundError:
        raise UnknownBotError from None


def _bot_id(request: protocol.AuthRequest, lease: Lease | None) -> str:
    """A process without an instance that comes back with its lease keeps the id that was drawn for it."""
    if request.instance is None and lease is not None and lease.bot.startswith(f"{request.hostname}/"):
        return lease.bot
    return f"{request.hostname}/{request.instance or secrets.token_hex(_DRAWN_INSTANCE_BYTES)}"


def _bare(profile: str, epoch: int, revision: int) -> str:
    return f'{{"profile":"{profile}","epoch":{epoch},"revision":{revision}}}'


def _reply(instruction: str, policy: Policy, assignment: str) -> bytes:
    return f'{{"instruction":"{instruction}",{policy.json},"assignment":{assignment}}}'.encode()


async def _told(state: State, owner: TokenOwner, policy: Policy, news: Answer) -> bytes:
    if news.code == "unknown":
        raise UnknownBotError
    if news.code in ("start", "reconfigure"):
        return await _configured(state, owner, policy, news)
    bound = news.profile != "-"
    return _reply(news.code, policy, _bare(news.profile, news.epoch, news.revision) if bound else "null")


async def _configured(state: State, owner: TokenOwner, policy: Policy, news: Answer) -> bytes:
    """Start and reconfigure, with name, configuration and lease.

    The epoch is fenced in the ledger BEFORE the bot hears of it: from then on no data of an older epoch can be
    committed, whatever live state forgets.
    """
    wanted = (news.profile, news.revision)
    async with state.ledger.begin() as tx:
        await fences.raise_to(tx, [(news.profile, news.epoch)])
        found = await ledger_profiles.configs(tx, [wanted])
    if wanted not in found:
        raise UnavailableError("The profile is being changed at the moment.", retry_after=1)
    name, config = found[wanted]
    assignment = json.dumps(
        {
            "profile": news.profile,
            "name": name,
            "epoch": news.epoch,
            "revision": news.revision,
            "config": config,
            "lease": state.leases.sign(Lease(owner.fleet, owner.bot, news.profile, news.epoch)),
        }
    )
    return _reply(news.code, policy, assignment)
