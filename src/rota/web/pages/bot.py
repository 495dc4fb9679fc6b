"""The page of one bot, `/bots/{hostname}/{instance}`; draining and killing it from there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from rota.errors import NotFoundError, UnavailableError
from rota.ledger import history
from rota.live import bots, snapshot
from rota.live.snapshot import BotView
from rota.web.api import orders
from rota.web.pages.boards import boards
from rota.web.pages.cells import MEANINGS, Cell, cell
from rota.web.pages.drains import DrainForm, chosen_within
from rota.web.pages.forms import our_form
from rota.web.pages.rendering import SECURITY_HEADERS, link, render
from rota.web.pages.stints import Stint, stints
from rota.web.session import Session, signed_in
from rota.web.state import State, current

router = APIRouter(include_in_schema=False)

STINTS_SHOWN = 10


@dataclass(frozen=True)
class BotPage:
    """One bot.

    here: this page's own address, from which it renews itself.
    bot, cell: what live state knows and how it is shown; None where the bot is not on the roster (any more).
    meaning: what the bot's look means.
    profile_href: of the profile that it is bound to, or empty.
    drains: the forms that drain it.
    server_drains: whether its whole server is being drained, and the bot with it.
    kill_href: where the Kill form goes.
    killed: whether this person has just killed it.
    past: its newest assignments; None while the ledger is away.
    """

    id: str
    fleet: str
    here: str
    server: str
    server_href: str
    bot: BotView | None
    cell: Cell | None
    meaning: str
    profile_href: str
    drains: DrainForm
    server_drains: bool
    kill_href: str
    killed: bool
    past: tuple[Stint, ...] | None


@router.get("/bots/{hostname}/{instance}")
async def bot_page(
    request: Request,
    _: Annotated[Session, Depends(signed_in)],
    hostname: str,
    instance: str,
    fleet: str = "default",
    *,
    killed: bool = False,
) -> Response:
    """The bot's page; 404 where it is not on the roster, with what history knows of it."""
    page = await _read(request, hostname, instance, fleet, killed=killed)
    known = bool(page.bot or killed or page.drains.drain)
    if not known and not page.past:
        raise NotFoundError(f"There is no bot {page.id} on the roster, and none is in the history.")
    status = 200 if known else 404
    return render(request, "bot.html", page, title=page.id, status=status)


@router.post("/bots/{hostname}/{instance}/kill")
async def kill_bot(
    request: Request,
    _: Annotated[dict[str, str], Depends(our_form)],
    hostname: str,
    instance: str,
    fleet: str = "default",
) -> Response:
    """Kills the bot and goes back to its page."""
    await bots.kill(current(request).live, fleet, f"{hostname}/{instance}")
    where = link("bots", hostname, instance, fleet=fleet, killed="true")
    return RedirectResponse(where, 303, SECURITY_HEADERS)


@router.post("/bots/{hostname}/{instance}/{verb}")
async def drain_bot(
    request: Request,
    form: Annotated[dict[str, str], Depends(our_form)],
    hostname: str,
    instance: str,
    verb: Literal["drain", "undrain"],
    fleet: str = "default",
) -> Response:
    """Drains the bot, changes the deadline of that, or ends it; then back to its page."""
    state, id_ = current(request), f"{hostname}/{instance}"
    if verb == "drain":
        await orders.order(state, fleet, id_, within=chosen_within(form))
    else:
        await orders.undrain(state, fleet, id_)
    return RedirectResponse(link("bots", hostname, instance, fleet=fleet), 303, SECURITY_HEADERS)


async def _read(request: Request, hostname: str, instance: str, fleet: str, *, killed: bool) -> BotPage:
    state, facts, id_ = current(request), boards(request).facts, f"{hostname}/{instance}"
    policy, drained = await state.policies.of(fleet), await facts.drains(fleet, kept=0)
    bot = await snapshot.bot(state.live, fleet, id_, beat_of=policy.beat)
    shown = None
    if bot is not None:
        bound = [bot.profile] if bot.profile else []
        names, views = await facts.names(bound), await snapshot.profiles(state.live, fleet, bound)
        name, view = names.get(bot.profile or "", ""), views.get(bot.profile or "")
        shown = cell(bot, fleet=fleet, name=name, profile=view)
    return BotPage(
        id=id_,
        fleet=fleet,
        here=link("bots", hostname, instance, fleet=fleet, killed="true" if killed else None),
        server=hostname,
        server_href=link("servers", hostname, fleet=fleet),
        bot=bot,
        cell=shown,
        meaning=MEANINGS[shown.look] if shown else "",
        profile_href=link("profiles", bot.profile) if bot and bot.profile else "",
        drains=DrainForm(
            what=f"bot {id_}",
            drain=drained.get(id_),
            bots_left=1 if bot else 0,
            order_href=link("bots", hostname, instance, "drain", fleet=fleet),
            undo_href=link("bots", hostname, instance, "undrain", fleet=fleet),
        ),
        server_drains=hostname in drained,
        kill_href=link("bots", hostname, instance, "kill", fleet=fleet),
        killed=killed,
        past=await _past(state, request, fleet, id_),
    )


async def _past(state: State, request: Request, fleet: str, id_: str) -> tuple[Stint, ...] | None:
    try:
        async with state.ledger.begin() as tx:
            found = await history.assignments_page(tx, bot=id_, limit=STINTS_SHOWN)
    except UnavailableError:
        return None
    here = [one for one in found.items if one.fleet == fleet]
    return stints(here, await boards(request).facts.names({one.profile for one in here}))
