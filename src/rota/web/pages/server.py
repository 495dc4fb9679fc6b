"""The page of one server, `/servers/{hostname}`: all of its bots, page by page; draining it from there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from rota.errors import NotFoundError
from rota.live import snapshot
from rota.web.api import orders
from rota.web.pages.boards import boards
from rota.web.pages.drains import DrainForm, chosen_within
from rota.web.pages.forms import our_form
from rota.web.pages.rendering import SECURITY_HEADERS, link, render
from rota.web.pages.servers import ServerCard, cards, count_looks, places
from rota.web.session import Session, signed_in
from rota.web.state import current

router = APIRouter(include_in_schema=False)

BOTS_SHOWN = 200
"""Bots on one page."""


@dataclass(frozen=True)
class ServerPage:
    """One server.

    here: this page's own address, from which it renews itself.
    card: the server, with the bots of this page.
    first: address of the first page, or None where this is it.
    following: address of the next page, or None at the end.
    drains: the forms that drain it.
    """

    fleet: str
    here: str
    card: ServerCard
    first: str | None
    following: str | None
    drains: DrainForm


@router.get("/servers/{hostname}")
async def server_page(
    request: Request,
    _: Annotated[Session, Depends(signed_in)],
    hostname: str,
    fleet: str = "default",
    after: str = "",
) -> Response:
    """The server's page."""
    page = await _read(request, hostname, fleet, after)
    return render(request, "server.html", page, title=hostname, refresh=10)


@router.post("/servers/{hostname}/{verb}")
async def drain_server(
    request: Request,
    form: Annotated[dict[str, str], Depends(our_form)],
    hostname: str,
    verb: Literal["drain", "undrain"],
    fleet: str = "default",
) -> Response:
    """Drains the server, changes the deadline of that, or ends it; then back to its page."""
    state = current(request)
    if verb == "drain":
        await orders.order(state, fleet, hostname, within=chosen_within(form))
    else:
        await orders.undo(state, fleet, hostname)
    return RedirectResponse(link("servers", hostname, fleet=fleet), 303, SECURITY_HEADERS)


async def _read(request: Request, hostname: str, fleet: str, after: str) -> ServerPage:
    state, facts = current(request), boards(request).facts
    policy = await state.policies.of(fleet)
    actual, listed = await snapshot.servers(state.live, fleet), await facts.listed(fleet)
    everywhere = places(actual, listed, fleet, await facts.drains(fleet, kept=0))
    place = next((place for place in everywhere if place.hostname == hostname), None)
    if place is None or not place.href:
        raise NotFoundError(f"There is no server {hostname}: it is not listed, and no bot has come from it.")
    # One more than is shown, to know whether there is a next page.
    (card,) = await cards(state.live, facts, fleet, [place], policy=policy, most=BOTS_SHOWN + 1, after=after)
    shown = card.cells[:BOTS_SHOWN]
    more = len(card.cells) > BOTS_SHOWN
    return ServerPage(
        fleet=fleet,
        here=link("servers", hostname, fleet=fleet, after=after or None),
        card=replace(card, cells=shown, looks=count_looks(shown), hidden=0),
        first=link("servers", hostname, fleet=fleet) if after else None,
        following=link("servers", hostname, fleet=fleet, after=shown[-1].id) if more else None,
        drains=DrainForm(
            what=f"server {hostname}",
            drain=place.drain,
            bots_left=place.actual or 0,
            order_href=link("servers", hostname, "drain", fleet=fleet),
            undo_href=link("servers", hostname, "undrain", fleet=fleet),
        ),
    )
