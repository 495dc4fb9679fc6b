"""Incidents: what an operator has to know of, from when it was seen until it was over. The operator's."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from rota.ledger import fleets as ledger_fleets
from rota.ledger import incidents as ledger_incidents
from rota.ledger import page as ledger_page
from rota.ledger.connection import Transaction
from rota.web.api.access import OperatorOnly, StateNeeded
from rota.web.api.models import AfterNumber, Limit, Page

router = APIRouter(prefix="/fleets/{fleet}/incidents", tags=["incidents"], dependencies=[OperatorOnly])
OnlyOpen = Annotated[bool | None, Query(alias="open", description="only those that last, or only those that are over")]


class Incident(BaseModel):
    """One incident; `closed_at` is null while it lasts, `detail` holds the figures behind the message."""

    id: int
    kind: str
    subject: str
    message: str
    detail: dict[str, Any]
    raised_at: datetime
    seen_at: datetime
    closed_at: datetime | None


@router.get("", operation_id="list_incidents")
async def list_(
    state: StateNeeded, fleet: str, is_open: OnlyOpen = None, limit: Limit = 100, after: AfterNumber = None
) -> Page[Incident]:
    """What has been wrong, newest first, and what still is."""
    async with state.ledger.begin() as tx:
        await ledger_fleets.get(tx, fleet)
        if is_open is False:
            found = await closed_page(tx, fleet, limit=limit, after=after)
        else:
            found = await ledger_incidents.page(tx, fleet, only_open=bool(is_open), limit=limit, after=after)
    return Page(items=[Incident.model_validate(item, from_attributes=True) for item in found.items], next=found.next)


async def closed_page(
    tx: Transaction, fleet: str, *, limit: int, after: str | None
) -> ledger_page.Page[ledger_incidents.Incident]:
    """Incidents that are over, newest first; passes over open ones, of which there are few."""
    closed: list[ledger_incidents.Incident] = []
    following = after
    while len(closed) <= limit:
        found = await ledger_incidents.page(tx, fleet, limit=ledger_page.MOST, after=following)
        closed += [one for one in found.items if one.closed_at is not None]
        following = found.next
        if following is None:
            break
    return ledger_page.page_of(closed[: limit + 1], limit, lambda one: one.id)
