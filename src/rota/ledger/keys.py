"""API keys and enrolment keys. A secret is shown once, when it is made; the ledger keeps its SHA-256 alone."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, Table, func, select, update
from sqlalchemy.dialects.postgresql import insert

from rota.errors import InvalidKeyError, NotFoundError
from rota.ledger import accounts, checks, fleets
from rota.ledger.connection import Transaction
from rota.ledger.page import Page, bounded, new_id, page_of
from rota.ledger.tables import api_keys, enrolment_keys

Role = Literal["operator", "client"]
_SECRET_BYTES = 32


@dataclass(frozen=True)
class ApiKey:
    """A key for REST, the command line and signing in; `account` is None for an operator's."""

    id: str
    label: str
    role: Role
    account: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True)
class EnrolmentKey:
    """A key with which bots of one fleet introduce themselves."""

    id: str
    fleet: str
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


_API = (
    api_keys.c.id,
    api_keys.c.label,
    api_keys.c.role,
    api_keys.c.account_id,
    api_keys.c.created_at,
    api_keys.c.expires_at,
    api_keys.c.revoked_at,
)
_ENROLMENT = (
    enrolment_keys.c.id,
    enrolment_keys.c.fleet,
    enrolment_keys.c.label,
    enrolment_keys.c.created_at,
    enrolment_keys.c.expires_at,
    enrolment_keys.c.revoked_at,
)


def digest(secret: str) -> bytes:
    """What the ledger keeps of a secret; it is random and long, so that a plain SHA-256 is enough."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


async def create_api_key(
    tx: Transaction,
    *,
    role: Role,
    account: str | None = None,
    label: str = "",
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new API key and its secret.

    Raises:
        InvalidRequestError: a client's key without an account, or an operator's with one.
        NotFoundError: there is no such account.
    """
    if (role == "client") != (account is not None):
        raise checks.refuse("account", "is needed for a client's key, and only for one")
    if account is not None:
        await accounts.get(tx, account)
    secret = f"rota_{secrets.token_urlsafe(_SECRET_BYTES)}"
    values = insert(api_keys).values(
        id=new_id("key"),
        digest=digest(secret),
        label=checks.name(label, "label") if label else role,
        role=role,
        account_id=account,
        expires_at=checks.future(expires_at),
    )
    return ApiKey(*(await tx.execute(values.returning(*_API))).one()), secret


async def authenticate(tx: Transaction, secret: str) -> ApiKey:
    """The valid API key with this secret.

    Raises:
        InvalidKeyError: unknown, expired or revoked.
    """
    query = select(*_API).where(api_keys.c.digest == digest(secret), *_valid(api_keys))
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise InvalidKeyError
    return ApiKey(*row)


async def revoke_api_key(tx: Transaction, key_id: str) -> None:
    """The key is refused from now on; revoking it again changes nothing.

    Raises:
        NotFoundError: there is no such key.
    """
    await _revoke(tx, api_keys, key_id)


async def page_api_keys(tx: Transaction, *, limit: int = 100, after: str | None = None) -> Page[ApiKey]:
    """API keys by id, revoked ones too."""
    limit = bounded(limit)
    query = select(*_API).where(api_keys.c.id > (after or "")).order_by(api_keys.c.id).limit(limit + 1)
    return page_of([ApiKey(*row) for row in await tx.execute(query)], limit, lambda key: key.id)


async def create_enrolment_key(
    tx: Transaction, *, fleet: str = "default", label: str = "", expires_at: datetime | None = None
) -> tuple[EnrolmentKey, str]:
    """A new enrolment key and its secret.

    Raises:
        NotFoundError: there is no such fleet.
    """
    await fleets.get(tx, fleet)
    secret = f"enrol_{secrets.token_urlsafe(_SECRET_BYTES)}"
    values = insert(enrolment_keys).values(
        id=new_id("enk"),
        digest=digest(secret),
        fleet=fleet,
        label=checks.name(label, "label") if label else "enrolment",
        expires_at=checks.future(expires_at),
    )
    return EnrolmentKey(*(await tx.execute(values.returning(*_ENROLMENT))).one()), secret


async def revoke_enrolment_key(tx: Transaction, key_id: str) -> None:
    """The key is refused from now on; bots that came in with it stay.

    Raises:
        NotFoundError: there is no such key.
    """
    await _revoke(tx, enrolment_keys, key_id)


async def page_enrolment_keys(
    tx: Transaction, *, fleet: str | None = None, limit: int = 100, after: str | None = None
) -> Page[EnrolmentKey]:
    """Enrolment keys by id, revoked ones too."""
    limit = bounded(limit)
    query = select(*_ENROLMENT).where(enrolment_keys.c.id > (after or ""))
    if fleet is not None:
        query = query.where(enrolment_keys.c.fleet == fleet)
    rows = await tx.execute(query.order_by(enrolment_keys.c.id).limit(limit + 1))
    return page_of([EnrolmentKey(*row) for row in rows], limit, lambda key: key.id)


def _valid(table: Table) -> tuple[ColumnElement[bool], ...]:
    expires = table.c.expires_at
    return table.c.revoked_at.is_(None), (expires.is_(None) | (expires > func.now()))


async def _revoke(tx: Transaction, table: Table, key_id: str) -> None:
    changed = update(table).where(table.c.id == key_id)
    values = changed.values(revoked_at=func.coalesce(table.c.revoked_at, func.now()))
    if (await tx.execute(values)).rowcount == 0:
        raise NotFoundError(f"There is no key {key_id}.")
