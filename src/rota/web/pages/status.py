"""Routes of the status page: `/` as it is now, `/stream` for what changes from then on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from rota import __version__
from rota.web import session, stream
from rota.web.pages.boards import boards
from rota.web.pages.fleet import Scope, View
from rota.web.pages.rendering import render
from rota.web.session import Session, signed_in
from rota.web.state import current

router = APIRouter(include_in_schema=False)

REFRESH = 10
"""Seconds after which a browser without scripts loads the page again."""
RETRY_FULL_MS = 4_000
"""Milliseconds after which a page asks again that found no free stream."""


async def asked_scope(
    fleet: str = "default", view: View = "wall", page: Annotated[int, Query(ge=1, le=100_000)] = 1
) -> Scope:
    """FastAPI dependency: what the address asks to see."""
    return Scope(fleet=fleet, view=view, number=page)


@router.get("/")
async def status_page(
    request: Request, _: Annotated[Session, Depends(signed_in)], scope: Annotated[Scope, Depends(asked_scope)]
) -> Response:
    """The status page; 503 while live state is away, with what is known without it."""
    await current(request).policies.of(scope.fleet)  # a fleet that is not there gets no board
    page = await boards(request).of(scope).shown()
    status = 200 if page.figures else 503
    return render(request, "fleet.html", page, title=page.title, status=status, refresh=REFRESH)


@router.get("/stream")
async def status_stream(request: Request, scope: Annotated[Scope, Depends(asked_scope)], version: str = "") -> Response:
    """The stream of one open status page, until its session or its time is over.

    A page that nobody may see any more, or that another version of rota made, is told to load itself again; one too
    many is told that there is no stream for it, and asks again.
    """
    found = session.find(request)
    if found is None or version != __version__:
        return Response(stream.event("reload", ""), media_type="text/event-stream")
    if stream.is_full():
        return Response(f"retry: {RETRY_FULL_MS}\n{stream.event('full', '')}", media_type="text/event-stream")
    await current(request).policies.of(scope.fleet)
    life = min(stream.LIFE, (found.ends_at - datetime.now(UTC)).total_seconds())
    return stream.stream_response(request, boards(request).of(scope).messages(life))
