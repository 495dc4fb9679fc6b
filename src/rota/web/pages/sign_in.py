"""Signing in with an operator's API key or a one-time link, and signing out.

Opening a one-time link only shows a button: what loads links ahead (mail scanners, chat previews, browsers) sends no
forms, and so does not use the link up. The link counts as used when the button is pressed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from rota.errors import ForbiddenError, InvalidKeyError
from rota.ledger import keys, sign_ins
from rota.web import session
from rota.web.pages.forms import our_form, read_form
from rota.web.pages.rendering import SECURITY_HEADERS, render
from rota.web.state import State, current

router = APIRouter(include_in_schema=False)

REFUSED_AFTER = 0.5
"""Seconds that every refusal takes, so that guessing is slow."""


@dataclass(frozen=True)
class SignInPage:
    """The form for signing in.

    token: of a one-time link, or empty; with it there is only a button.
    next: path to go to afterwards.
    error: why the last try was refused, or empty.
    """

    token: str
    next: str
    error: str


@router.get("/sign-in")
async def sign_in_page(request: Request, token: str = "", next: str = "/") -> Response:  # noqa: A002 - a query's name
    """The form, or the button of a one-time link."""
    where = session.local_path(next)
    if session.find(request) is not None and not token:
        return RedirectResponse(where, 303, SECURITY_HEADERS)
    return render(request, "sign_in.html", SignInPage(token[:200], where, ""), title="Sign in")


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Begins a session and goes on to where the person was headed."""
    session.check_origin(request)
    form = await read_form(request)
    where = session.local_path(form.get("next", "/"))
    try:
        by = await _prove(current(request), form)
    except (InvalidKeyError, ForbiddenError) as error:
        await asyncio.sleep(REFUSED_AFTER)
        page = SignInPage("", where, error.detail)
        return render(request, "sign_in.html", page, title="Sign in", status=error.status)
    response = RedirectResponse(where, 303, SECURITY_HEADERS)
    session.begin(request, response, by)
    return response


@router.post("/sign-out")
async def sign_out(_: Annotated[dict[str, str], Depends(our_form)]) -> Response:
    """Ends the session of this browser."""
    response = RedirectResponse("/sign-in", 303, SECURITY_HEADERS)
    session.end(response)
    return response


async def _prove(state: State, form: dict[str, str]) -> str:
    """Who signs in: the id of the key, or `link`.

    Raises:
        InvalidKeyError: the key or the link is not, or not any more, good.
        ForbiddenError: it is a client's key.
    """
    async with state.ledger.begin() as tx:
        if form.get("token"):
            await sign_ins.use(tx, form["token"])
            return "link"
        key = await keys.authenticate(tx, form.get("key", "").strip())
    if key.role != "operator":
        raise ForbiddenError("That is a client's key: these pages are for operators.")
    return key.id
