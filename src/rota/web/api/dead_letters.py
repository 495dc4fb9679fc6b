"""Dead letters: messages of a webhook that were given up. Seen, sent once more, or thrown away."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import BaseModel

from rota.ledger import dead_letters as ledger_dead_letters
from rota.ledger import webhooks
from rota.web.api.access import AnyCaller, StateNeeded
from rota.web.api.models import After, Limit, Page

router = APIRouter(prefix="/webhooks/{webhook_id}/dead-letters", tags=["webhooks"])


class DeadLetter(BaseModel):
    """A message that was given up: records `first` to `last` of a profile, after how many attempts, and why."""

    id: str
    profile: str
    first: int
    last: int
    count: int
    attempts: int
    created_at: datetime
    dead_at: datetime
    last_attempt_at: datetime | None
    last_status: int | None
    last_error: str | None


class Concerned(BaseModel):
    """How many dead letters it was done with; of more than 1000, the oldest: ask again for the rest."""

    count: int


@router.get("", operation_id="list_dead_letters")
async def list_(
    state: StateNeeded, who: AnyCaller, webhook_id: str, limit: Limit = 100, after: After = None
) -> Page[DeadLetter]:
    """A webhook's dead letters, those with the newest records first."""
    async with state.ledger.begin() as tx:
        await webhooks.get(tx, webhook_id, who.account)
        found = await ledger_dead_letters.page(tx, webhook_id, limit=limit, after=after)
    return Page(items=[DeadLetter.model_validate(item, from_attributes=True) for item in found.items], next=found.next)


@router.post("/replay", operation_id="replay_dead_letters")
async def replay_all(state: StateNeeded, who: AnyCaller, webhook_id: str) -> Concerned:
    """Lets all of them be tried again under their old ids, beside what is new."""
    async with state.ledger.begin() as tx:
        await webhooks.get(tx, webhook_id, who.account)
        return Concerned(count=await ledger_dead_letters.replay(tx, webhook_id))


@router.delete("", operation_id="discard_dead_letters")
async def discard_all(state: StateNeeded, who: AnyCaller, webhook_id: str) -> Concerned:
    """Throws all of them away; their records stay for as long as records do."""
    async with state.ledger.begin() as tx:
        await webhooks.get(tx, webhook_id, who.account)
        return Concerned(count=await ledger_dead_letters.discard(tx, webhook_id))


@router.get("/{message_id}", operation_id="get_dead_letter")
async def get(state: StateNeeded, who: AnyCaller, webhook_id: str, message_id: str) -> DeadLetter:
    """One dead letter."""
    async with state.ledger.begin() as tx:
        await webhooks.get(tx, webhook_id, who.account)
        found = await ledger_dead_letters.get(tx, webhook_id, message_id)
    return DeadLetter.model_validate(found, from_attributes=True)


@router.post("/{message_id}/replay", operation_id="replay_dead_letter")
async def replay(state: StateNeeded, who: AnyCaller, webhook_id: str, message_id: str) -> Concerned:
    """Lets one of them be tried again under its old id, beside what is new."""
    async with state.ledger.begin() as tx:
        await webhooks.get(tx, webhook_id, who.account)
        return Concerned(count=await ledger_dead_letters.replay(tx, webhook_id, message_id))


@router.delete("/{message_id}", status_code=204, operation_id="discard_dead_letter")
async def discard(state: StateNeeded, who: AnyCaller, webhook_id: str, message_id: str) -> Response:
    """Throws one of them away."""
    async with state.ledger.begin() as tx:
        await webhooks.get(tx, webhook_id, who.account)
        await ledger_dead_letters.discard(tx, webhook_id, message_id)
    return Response(status_code=204)
