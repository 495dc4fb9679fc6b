"""Accounts: whoever owns profiles. The operator's."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from rota.ledger import accounts as ledger_accounts
from rota.web.api.access import OperatorOnly, StateNeeded
from rota.web.api.models import After, Body, Limit, Page

router = APIRouter(prefix="/accounts", tags=["accounts"], dependencies=[OperatorOnly])


class NewAccount(Body):
    """An account to be made."""

    name: str = Field(examples=["acme"])


class AccountChange(Body):
    """How long records of its profiles are kept; what is left out stays, null is as their fleet says."""

    keep_days: int | None = Field(default=None, description="days; 0 is for ever")
    keep_records: int | None = Field(default=None, description="newest records of each profile; 0 is all")


class Account(BaseModel):
    """One account; where a limit is null, its profiles' fleet says how long records are kept."""

    id: str
    name: str
    created_at: datetime
    keep_days: int | None
    keep_records: int | None


@router.post("", status_code=201, operation_id="create_account")
async def create(state: StateNeeded, body: NewAccount) -> Account:
    """Makes an account."""
    async with state.ledger.begin() as tx:
        return Account.model_validate(await ledger_accounts.create(tx, body.name), from_attributes=True)


@router.get("", operation_id="list_accounts")
async def list_(state: StateNeeded, limit: Limit = 100, after: After = None) -> Page[Account]:
    """Accounts by id."""
    async with state.ledger.begin() as tx:
        found = await ledger_accounts.page(tx, limit=limit, after=after)
    return Page(items=[Account.model_validate(item, from_attributes=True) for item in found.items], next=found.next)


@router.get("/{account_id}", operation_id="get_account")
async def get(state: StateNeeded, account_id: str) -> Account:
    """One account."""
    async with state.ledger.begin() as tx:
        return Account.model_validate(await ledger_accounts.get(tx, account_id), from_attributes=True)


@router.patch("/{account_id}", operation_id="change_account")
async def change(state: StateNeeded, account_id: str, body: AccountChange) -> Account:
    """Changes how long records of its profiles are kept."""
    async with state.ledger.begin() as tx:
        changed = await ledger_accounts.set_limits(tx, account_id, body.model_dump(exclude_unset=True))
    return Account.model_validate(changed, from_attributes=True)
