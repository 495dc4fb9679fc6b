"""Puts one web worker together: the stores, the bot protocol on its short way, REST and pages behind it.

Also the one place where errors become answers: problem+json for programs, a page for people.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import Request

from rota import __version__
from rota.errors import (
    FieldError,
    ForbiddenError,
    InternalError,
    InvalidRequestError,
    MalformedRequestError,
    MethodNotAllowedError,
    NotFoundError,
    ProblemError,
    RotaError,
    StoreError,
    UnavailableError,
)
from rota.ledger import fleets
from rota.ledger import secrets as ledger_secrets
from rota.ledger.connection import Ledger
from rota.live.beats import Beats
from rota.live.scripts import Live
from rota.protocol import MAX_BODY_BYTES
from rota.settings import Settings
from rota.web import api, pages
from rota.web.admissions import Admissions
from rota.web.bot_api import BotApi
from rota.web.http import Receive, Scope, Send, bounded
from rota.web.load import Load
from rota.web.policies import Policies
from rota.web.problems import problem_response
from rota.web.push import Pushes
from rota.web.state import State, current
from rota.web.tokens import Leases
from rota.web.waiting import Waiting

log = structlog.get_logger(__name__)


class App:
    """ASGI application: `/bot/` goes straight to the bot protocol, everything else to FastAPI."""

    def __init__(self, fastapi: FastAPI) -> None:
        self.fastapi = fastapi
        self._bots = BotApi(lambda: fastapi.state.rota)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection or the lifespan."""
        if scope["type"] == "http" and scope["path"].startswith("/bot/"):
            await self._bots(scope, receive, send)
        elif scope["type"] == "http":
            await self.fastapi(scope, bounded(receive, MAX_BODY_BYTES), send)
        else:
            await self.fastapi(scope, receive, send)


def create_app(settings: Settings, redis_url: str, database_url: str) -> App:
    """The whole application; the stores are opened when its lifespan begins."""

    @asynccontextmanager
    async def lifespan(fastapi: FastAPI) -> AsyncIterator[dict[str, State]]:
        async with open_state(settings, redis_url, database_url) as state:
            fastapi.state.rota = state
            # The server hands it to each connection.
            yield {"rota": state}

    fastapi = FastAPI(
        title="rota",
        version=__version__,
        summary="The duty roster for fleets of bots",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    fastapi.include_router(api.router)
    fastapi.include_router(pages.router)
    fastapi.mount("/static", pages.static_app, name="static")
    fastapi.add_api_route("/healthz", healthz, include_in_schema=False)
    fastapi.add_exception_handler(RotaError, _answer)
    fastapi.add_exception_handler(RequestValidationError, _answer)
    fastapi.add_exception_handler(HTTPException, _answer)
    fastapi.add_exception_handler(Exception, _answer)
    return App(fastapi)


async def healthz(request: Request) -> dict[str, bool]:
    """For load balancers and `rota serve`: this worker answers, and so do its stores."""
    state = current(request)
    await state.live.check()
    async with state.ledger.begin() as tx:
        await fleets.all(tx)
    return {"ok": True}


@asynccontextmanager
async def open_state(settings: Settings, redis_url: str, database_url: str) -> AsyncIterator[State]:
    """One worker's state; closes everything behind it."""
    live = Live(redis_url, timeout=settings.store_timeout)
    ledger = Ledger(database_url, timeout=settings.store_timeout)
    beats = Beats(live)
    policies = Policies(ledger, live, Load(beats))
    waiting, pushes = Waiting(live, beats), Pushes(ledger, live, policies)
    admissions = Admissions(ledger)
    try:
        await policies.start()
        signing = await signing_keys(settings, ledger)
        leases = Leases(signing)
        yield State(settings, live, ledger, signing, beats, policies, leases, waiting, admissions, pushes)
    finally:
        await waiting.aclose()
        await pushes.aclose()
        await policies.aclose()
        await beats.aclose()
        await live.aclose()
        await ledger.aclose()


async def signing_keys(settings: Settings, ledger: Ledger) -> list[str]:
    """What leases and sessions are signed with, the newest last: the setting's, else the ledger's own, made once."""
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().split(",")[::-1]
    async with ledger.begin() as tx:
        return [await ledger_secrets.get_or_create(tx, "signing", lambda: secrets.token_urlsafe(48))]


async def _answer(request: Request, error: Exception) -> Response:
    problem = _as_problem(error)
    if problem.status == InternalError.status:
        log.error("request failed", path=request.url.path, exc_info=error)
    if request.url.path.startswith("/api/"):
        response = problem_response(problem)
        # `Allow`, which RFC 9110 wants beside a 405.
        response.headers.update((isinstance(error, HTTPException) and error.headers) or {})
        return response
    return await pages.problem_page(request, problem)


def _as_problem(error: Exception) -> ProblemError:
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, StoreError):
        return UnavailableError(str(error))
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        # FastAPI wraps whatever goes wrong while a body is read.
        if isinstance(error.__cause__, ProblemError):
            return error.__cause__
        known: dict[int, type[ProblemError]] = {
            400: MalformedRequestError,
            403: ForbiddenError,
            404: NotFoundError,
            405: MethodNotAllowedError,
        }
        return known.get(error.status_code, InvalidRequestError)()
    return InternalError()


def _invalid(error: RequestValidationError) -> InvalidRequestError:
    wrong = error.errors()
    if wrong[0]["type"] == "json_invalid":
        return MalformedRequestError("The body is not valid JSON.")
    fields = tuple(
        FieldError(".".join(str(part) for part in item["loc"][1:]) or "body", item["msg"]) for item in wrong[:20]
    )
    return InvalidRequestError(f"{fields[0].field}: {fields[0].message}", fields=fields)
