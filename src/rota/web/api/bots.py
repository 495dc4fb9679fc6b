"""Bots as they are now, and what an operator does to them. The operator's."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

from rota.ledger import history
from rota.live import bots as live_bots
from rota.live import snapshot
from rota.web.api import orders
from rota.web.api.access import OperatorOnly, StateNeeded
from rota.web.api.models import (
    After,
    AfterNumber,
    Assignment,
    At,
    Body,
    FleetName,
    Limit,
    Page,
    ServerName,
    Within,
    no_such_bot,
)

router = APIRouter(prefix="/bots", tags=["bots"], dependencies=[OperatorOnly])
Phase = Literal["idle", "starting", "working", "stopping"]


class Bot(BaseModel):
    """One bot; `beat_age` is seconds since its last sign of life, `silent` that its deadline has passed."""

    id: str
    server: str
    instance: str
    phase: str
    draining: bool
    quiet: bool
    profile: str | None
    epoch: int | None
    revision: int | None
    status: str
    version: str
    labels: dict[str, str]
    joined_at: datetime
    beat_age: float
    silent: bool


class BotDrain(Body):
    """Until when the bot may finish; without a body there is no deadline."""

    within: Within = None


@router.get("", operation_id="list_bots")
async def list_(
    state: StateNeeded,
    fleet: FleetName = "default",
    server: ServerName = None,
    phase: Phase | None = None,
    limit: Limit = 100,
    after: After = None,
) -> Page[Bot]:
    """Bots by server and instance."""
    policy = await state.policies.of(fleet)
    found, more = await snapshot.page(
        state.live, fleet, server=server, phase=phase, limit=limit, after=after or "", beat_of=policy.beat
    )
    return Page(items=[Bot.model_validate(bot, from_attributes=True) for bot in found], next=more)


@router.get("/{server}/{instance}", operation_id="get_bot")
async def get(state: StateNeeded, server: str, instance: str, fleet: FleetName = "default") -> Bot:
    """One bot."""
    policy = await state.policies.of(fleet)
    found = await snapshot.bot(state.live, fleet, f"{server}/{instance}", beat_of=policy.beat)
    if found is None:
        raise no_such_bot(f"{server}/{instance}")
    return Bot.model_validate(found, from_attributes=True)


@router.get("/{server}/{instance}/assignments", operation_id="list_assignments_of_bot")
async def assignments(
    state: StateNeeded,
    server: str,
    instance: str,
    fleet: FleetName = "default",
    at: At = None,
    limit: Limit = 100,
    after: AfterNumber = None,
) -> Page[Assignment]:
    """For whom the bots of this slot worked, newest first; also of a slot that is not on the roster any more."""
    id_ = f"{server}/{instance}"
    async with state.ledger.begin() as tx:
        found = await history.assignments_page(tx, bot=id_, at=at, limit=limit, after=after)
    if not found.items and at is None and after is None:
        await state.policies.of(fleet)
        if await snapshot.bot(state.live, fleet, id_) is None:
            raise no_such_bot(id_)
    items = [Assignment.model_validate(item, from_attributes=True) for item in found.items]
    return Page(items=items, next=found.next)


@router.post("/{server}/{instance}/kill", status_code=204, operation_id="kill_bot")
async def kill(state: StateNeeded, server: str, instance: str, fleet: FleetName = "default") -> Response:
    """Removes the bot at once; its profile goes to another when the bot's lease must be over."""
    await live_bots.kill(state.live, fleet, f"{server}/{instance}")
    return Response(status_code=204)


@router.post("/{server}/{instance}/drain", status_code=204, operation_id="drain_bot")
async def drain(
    state: StateNeeded, server: str, instance: str, fleet: FleetName = "default", body: BotDrain | None = None
) -> Response:
    """Lets the bot finish, take nothing new and exit; again changes the deadline."""
    id_ = f"{server}/{instance}"
    await orders.require_bot(state, fleet, id_)
    await orders.order(state, fleet, id_, within=body.within if body else None)
    return Response(status_code=204)


@router.post("/{server}/{instance}/undrain", status_code=204, operation_id="undrain_bot")
async def undrain(state: StateNeeded, server: str, instance: str, fleet: FleetName = "default") -> Response:
    """Lets the bot take work again; its server must not be draining."""
    await orders.undrain(state, fleet, f"{server}/{instance}")
    return Response(status_code=204)
