"""One-time links for signing in: made by whoever has the server, good once and for a while."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, update
from sqlalchemy.dialects.postgresql import insert

from rota.errors import InvalidKeyError
from rota.ledger.connection import Transaction
from rota.ledger.keys import digest
from rota.ledger.tables import sign_ins

_TOKEN_BYTES = 24


async def create(tx: Transaction, *, lifetime: timedelta = timedelta(hours=1)) -> str:
    """A token for one sign-in; what expired a day ago is cleared away."""
    await tx.execute(delete(sign_ins).where(sign_ins.c.expires_at < func.now() - timedelta(days=1)))
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    expires = datetime.now(UTC) + lifetime
    await tx.execute(insert(sign_ins).values(digest=digest(token), expires_at=expires))
    return token


async def use(tx: Transaction, token: str) -> None:
    """Uses the token up.

    Raises:
        InvalidKeyError: unknown, expired or used before.
    """
    valid = update(sign_ins).where(
        sign_ins.c.digest == digest(token), sign_ins.c.used_at.is_(None), sign_ins.c.expires_at > func.now()
    )
    if (await tx.execute(valid.values(used_at=func.now()))).rowcount == 0:
        raise InvalidKeyError("This sign-in link was used before or has expired: `rota login` makes a new one.")
