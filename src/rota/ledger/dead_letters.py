"""Dead letters: deliveries that were given up, kept for people to see, to send once more, or to throw away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select, text, update

from rota.errors import NotFoundError
from rota.ledger.connection import Transaction
from rota.ledger.page import Page, bounded, page_of
from rota.ledger.tables import webhook_deliveries as deliveries

STEP = 1_000
"""Of each kind that one call takes away, or brings back."""
KEPT_DAYS, KEPT = 30, 10_000
"""Days for which a dead letter is kept, and how many of one webhook; the oldest go first."""

_PRUNE_OLD = text(
    "DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM webhook_deliveries "
    "WHERE dead_at < now() - make_interval(days => :days) LIMIT :step)"
)
_PRUNE_MANY = text(
    "DELETE FROM webhook_deliveries WHERE id IN (SELECT d.id FROM webhooks w CROSS JOIN LATERAL (SELECT id FROM "
    "webhook_deliveries WHERE webhook_id = w.id AND dead_at IS NOT NULL ORDER BY id DESC OFFSET :kept) d LIMIT :step)"
)
_EMPTY = tuple(
    text(
        f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT x.ctid FROM {table} x JOIN webhooks w "  # noqa: S608 - ours
        "ON w.id = x.webhook_id AND w.state = 'deleted' LIMIT :step))"
    )
    for table in ("webhook_positions", "webhook_deliveries")
)
_REMOVE = text(
    "DELETE FROM webhooks w WHERE state = 'deleted' "
    "AND NOT EXISTS (SELECT FROM webhook_positions p WHERE p.webhook_id = w.id) "
    "AND NOT EXISTS (SELECT FROM webhook_deliveries d WHERE d.webhook_id = w.id)"
)


@dataclass(frozen=True)
class DeadLetter:
    """A message that was given up: records `first` to `last` of a profile, and why."""

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


_COLUMNS = (
    deliveries.c.id,
    deliveries.c.profile_id,
    deliveries.c.from_id,
    deliveries.c.to_id,
    deliveries.c.count,
    deliveries.c.attempts,
    deliveries.c.created_at,
    deliveries.c.dead_at,
    deliveries.c.last_attempt_at,
    deliveries.c.last_status,
    deliveries.c.last_error,
)


async def page(tx: Transaction, webhook_id: str, *, limit: int = 100, after: str | None = None) -> Page[DeadLetter]:
    """Dead letters of one webhook, those with the newest records first."""
    limit = bounded(limit)
    query = select(*_COLUMNS).where(*_dead(webhook_id, None))
    if after:
        query = query.where(deliveries.c.id < after)
    rows = await tx.execute(query.order_by(deliveries.c.id.desc()).limit(limit + 1))
    return page_of([DeadLetter(*row) for row in rows], limit, lambda letter: letter.id)


async def get(tx: Transaction, webhook_id: str, message_id: str) -> DeadLetter:
    """One dead letter.

    Raises:
        NotFoundError: there is none of this id.
    """
    row = (await tx.execute(select(*_COLUMNS).where(*_dead(webhook_id, message_id)))).one_or_none()
    if row is None:
        raise _missing(message_id)
    return DeadLetter(*row)


async def replay(tx: Transaction, webhook_id: str, message_id: str | None = None) -> int:
    """Lets one of them, or the oldest 1000 of all, be tried again under their old ids; how many.

    They do not keep the newer messages of their profiles waiting.

    Raises:
        NotFoundError: there is none of this id.
    """
    chosen = select(deliveries.c.id).where(*_dead(webhook_id, message_id)).order_by(deliveries.c.id).limit(STEP)
    again = update(deliveries).where(deliveries.c.id.in_(chosen.scalar_subquery()), deliveries.c.dead_at.is_not(None))
    values = again.values(dead_at=None, replayed=True, since=func.now(), tries=0, due_at=func.now())
    return _number((await tx.execute(values)).rowcount, message_id)


async def discard(tx: Transaction, webhook_id: str, message_id: str | None = None) -> int:
    """Throws one of them, or the oldest 1000 of all, away; how many.

    Raises:
        NotFoundError: there is none of this id.
    """
    chosen = select(deliveries.c.id).where(*_dead(webhook_id, message_id)).order_by(deliveries.c.id).limit(STEP)
    gone = deliveries.delete().where(deliveries.c.id.in_(chosen.scalar_subquery()), deliveries.c.dead_at.is_not(None))
    return _number((await tx.execute(gone)).rowcount, message_id)


async def prune(tx: Transaction) -> bool:
    """Takes away what is too old or too much, and what is left of deleted webhooks; whether there is more."""
    counts = [
        (await tx.execute(_PRUNE_OLD, {"days": KEPT_DAYS, "step": STEP})).rowcount,
        (await tx.execute(_PRUNE_MANY, {"kept": KEPT, "step": STEP})).rowcount,
        *[(await tx.execute(statement, {"step": STEP})).rowcount for statement in _EMPTY],
    ]
    await tx.execute(_REMOVE)
    return STEP in counts


def _dead(webhook_id: str, message_id: str | None) -> tuple[ColumnElement[bool], ...]:
    one = () if message_id is None else (deliveries.c.id == message_id,)
    return deliveries.c.webhook_id == webhook_id, deliveries.c.dead_at.is_not(None), *one


def _number(number: int, message_id: str | None) -> int:
    if message_id is not None and number == 0:
        raise _missing(message_id)
    return number


def _missing(message_id: str) -> NotFoundError:
    return NotFoundError(f"There is no dead letter {message_id} of this webhook.")
