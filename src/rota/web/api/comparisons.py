"""The comparison of ledger, live state and history, step by step. The operator's."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints

from rota.steward.compare import compare
from rota.web.api.access import OperatorOnly, StateNeeded
from rota.web.api.models import Body

router = APIRouter(prefix="/fleets/{fleet}/comparison", tags=["fleets"], dependencies=[OperatorOnly])
Cursor = Annotated[str, StringConstraints(max_length=200, pattern=r"^[!-~]*$")]


class Step(Body):
    """Where to go on."""

    after: Cursor = Field(default="", description="`next` of the step before; nothing for the first one")


class Difference(BaseModel):
    """What differed and was mended: which profile, and a sentence for people."""

    subject: str
    message: str


class Compared(BaseModel):
    """One step: how many profiles or assignments were looked at; `next` is null at the end.

    `skipped` tells why part of it could not be compared, null where all was.
    """

    count: int
    differences: list[Difference]
    next: str | None
    skipped: str | None


@router.post("", operation_id="compare_fleet")
async def step(state: StateNeeded, fleet: str, body: Step) -> Compared:
    """Compares some hundreds of profiles or assignments in ledger, live state and history, and mends what differs."""
    found = await compare(state.ledger, state.live, fleet, body.after)
    differences = [Difference(subject=each.subject, message=each.message) for each in found.differences]
    return Compared(count=found.count, differences=differences, next=found.next, skipped=found.skipped)
