"""Drains: servers and bots that are to finish what they have and take nothing new. The operator's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from rota.errors import UnavailableError
from rota.ledger import drains as ledger_drains
from rota.ledger import fleets as ledger_fleets
from rota.live import snapshot
from rota.web.api import orders
from rota.web.api.access import OperatorOnly, StateNeeded
from rota.web.api.models import After, Body, Limit, Page, Within
from rota.web.state import State

router = APIRouter(prefix="/fleets/{fleet}/drains", tags=["drains"], dependencies=[OperatorOnly])


class NewDrain(Body):
    """What is to be drained, and until when."""

    subject: str = Field(
        max_length=400, examples=["bot-farm-1", "bot-farm-1/7"], description="a hostname, or a bot's id"
    )
    within: Within = None


class Drain(BaseModel):
    """One drain.

    `gone_at` tells since when a bot is off the roster without having said that it goes; `bots_left` counts the bots
    concerned that are on the roster, null while live state is away.
    """

    subject: str
    deadline: datetime | None
    created_at: datetime
    gone_at: datetime | None
    bots_left: int | None


@router.get("", operation_id="list_drains")
async def list_(state: StateNeeded, fleet: str, limit: Limit = 100, after: After = None) -> Page[Drain]:
    """Servers and bots that are being drained, by name, and how many bots are left of each."""
    async with state.ledger.begin() as tx:
        await ledger_fleets.get(tx, fleet)
        found = await ledger_drains.page(tx, fleet, limit=limit, after=after)
    return Page(items=await _seen(state, fleet, found.items), next=found.next)


@router.post("", status_code=201, operation_id="order_drain")
async def order(state: StateNeeded, fleet: str, body: NewDrain) -> Drain:
    """Lets a server's bots, or one bot, finish, take nothing new and exit; again changes the deadline."""
    ordered = await orders.order(state, fleet, body.subject, within=body.within)
    return (await _seen(state, fleet, [ordered]))[0]


@router.delete("/{subject:path}", status_code=204, operation_id="undo_drain")
async def undo(state: StateNeeded, fleet: str, subject: str) -> Response:
    """Ends a drain: the server, or the bot, may take work again. `subject` may hold one `/`."""
    await orders.undo(state, fleet, subject)
    return Response(status_code=204)


async def _seen(state: State, fleet: str, found: Sequence[ledger_drains.Drain]) -> list[Drain]:
    left = await _bots_left(state, fleet, found)
    return [
        Drain(
            subject=drain.subject,
            deadline=drain.deadline,
            created_at=drain.created_at,
            gone_at=drain.gone_at,
            bots_left=None if left is None else left[drain.subject],
        )
        for drain in found
    ]


async def _bots_left(state: State, fleet: str, found: Sequence[ledger_drains.Drain]) -> dict[str, int] | None:
    """Subject → its bots on the roster; None while live state is away."""
    try:
        counts = await snapshot.servers(state.live, fleet)
        left = {drain.subject: counts.get(drain.subject, 0) for drain in found}
        for drain in found:
            if drain.is_of_a_bot:
                left[drain.subject] = int(await snapshot.bot(state.live, fleet, drain.subject) is not None)
    except UnavailableError:
        return None
    return left
