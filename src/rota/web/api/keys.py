"""API keys and enrolment keys. The operator's. A secret is shown once, in the answer that makes the key."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from rota.ledger import keys as ledger_keys
from rota.protocol import Moment
from rota.web.api.access import OperatorOnly, StateNeeded
from rota.web.api.models import After, Body, Limit, Page, Word

router = APIRouter(tags=["keys"], dependencies=[OperatorOnly])


class NewApiKey(Body):
    """An API key to be made; `account` goes with role `client` alone."""

    role: Literal["operator", "client"]
    account: Word | None = None
    label: str = Field(default="", max_length=200)
    expires_at: Moment | None = None


class ApiKey(BaseModel):
    """One API key, without its secret."""

    id: str
    label: str
    role: str
    account: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class MadeApiKey(ApiKey):
    """A new API key with its secret, which is shown this once."""

    key: str


class NewEnrolmentKey(Body):
    """An enrolment key to be made."""

    fleet: Word = "default"
    label: str = Field(default="", max_length=200)
    expires_at: Moment | None = None


class EnrolmentKey(BaseModel):
    """One enrolment key, without its secret."""

    id: str
    fleet: str
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class MadeEnrolmentKey(EnrolmentKey):
    """A new enrolment key with its secret, which is shown this once."""

    key: str


@router.post("/api-keys", status_code=201, operation_id="create_api_key")
async def create_api_key(state: StateNeeded, body: NewApiKey) -> MadeApiKey:
    """Makes an API key."""
    async with state.ledger.begin() as tx:
        key, secret = await ledger_keys.create_api_key(
            tx, role=body.role, account=body.account, label=body.label, expires_at=body.expires_at
        )
    return MadeApiKey(key=secret, **vars(key))


@router.get("/api-keys", operation_id="list_api_keys")
async def list_api_keys(state: StateNeeded, limit: Limit = 100, after: After = None) -> Page[ApiKey]:
    """API keys by id, revoked ones too."""
    async with state.ledger.begin() as tx:
        found = await ledger_keys.page_api_keys(tx, limit=limit, after=after)
    return Page(items=[ApiKey(**vars(item)) for item in found.items], next=found.next)


@router.delete("/api-keys/{key_id}", status_code=204, operation_id="revoke_api_key")
async def revoke_api_key(state: StateNeeded, key_id: str) -> Response:
    """Revokes an API key: it is refused from now on."""
    async with state.ledger.begin() as tx:
        await ledger_keys.revoke_api_key(tx, key_id)
    return Response(status_code=204)


@router.post("/enrolment-keys", status_code=201, operation_id="create_enrolment_key")
async def create_enrolment_key(state: StateNeeded, body: NewEnrolmentKey) -> MadeEnrolmentKey:
    """Makes an enrolment key."""
    async with state.ledger.begin() as tx:
        key, secret = await ledger_keys.create_enrolment_key(
            tx, fleet=body.fleet, label=body.label, expires_at=body.expires_at
        )
    return MadeEnrolmentKey(key=secret, **vars(key))


@router.get("/enrolment-keys", operation_id="list_enrolment_keys")
async def list_enrolment_keys(
    state: StateNeeded,
    fleet: Annotated[str | None, Query()] = None,
    limit: Limit = 100,
    after: After = None,
) -> Page[EnrolmentKey]:
    """Enrolment keys by id, revoked ones too."""
    async with state.ledger.begin() as tx:
        found = await ledger_keys.page_enrolment_keys(tx, fleet=fleet, limit=limit, after=after)
    return Page(items=[EnrolmentKey(**vars(item)) for item in found.items], next=found.next)


@router.delete("/enrolment-keys/{key_id}", status_code=204, operation_id="revoke_enrolment_key")
async def revoke_enrolment_key(state: StateNeeded, key_id: str) -> Response:
    """Revokes an enrolment key: no new bot comes in with it; those that are in stay."""
    async with state.ledger.begin() as tx:
        await ledger_keys.revoke_enrolment_key(tx, key_id)
    return Response(status_code=204)
