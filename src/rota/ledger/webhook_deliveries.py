"""Deliveries: batches of one profile's records on their way to one webhook, and those that were given up.

A delivery's records and its id are fixed before anything is sent, so that every try says the same under the same id.
Whoever tries it has claimed it: `due_at` lies as far ahead as the try may last, and `attempts` tells this claim from a
later one, so that a sender that was cut off, and comes back, changes nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Double, Select, String, case, cast, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from rota.ledger.connection import Transaction
from rota.ledger.tables import records
from rota.ledger.tables import webhook_deliveries as deliveries
from rota.ledger.tables import webhook_positions as positions
from rota.ledger.webhook_positions import MARGIN

MOST_RECORDS = 100
MOST_BYTES = 262_144
"""Of the records' data in one message, if it is more than one record."""
WINDOW = 2_000
"""Records of other kinds that are passed over at a time."""
LEASE = 60.0
"""Seconds for which a claimed delivery is left to whoever claimed it."""


@dataclass(frozen=True)
class Delivery:
    """One claimed delivery; `age` is that of its series of tries, in seconds."""

    id: str
    webhook: str
    profile: str
    from_id: int
    to_id: int
    from_at: datetime
    to_at: datetime
    kinds: list[str]
    count: int
    lost: int
    tries: int
    attempts: int
    replayed: bool
    age: float


@dataclass(frozen=True)
class Sent:
    """One record as it is sent; `data` is JSON text, just as PostgreSQL keeps it."""

    id: int
    epoch: int
    batch: int
    position: int
    bot: str
    kind: str
    at: datetime
    received_at: datetime
    data: str | None


@dataclass(frozen=True)
class _Chosen:
    """The records of a delivery to be, none where others were passed over; records up to `past_id` are done with."""

    ids: list[int]
    moments: list[datetime]
    past_id: int
    past_at: datetime


_CLAIMED = (
    deliveries.c.id,
    deliveries.c.webhook_id,
    deliveries.c.profile_id,
    deliveries.c.from_id,
    deliveries.c.to_id,
    deliveries.c.from_at,
    deliveries.c.to_at,
    deliveries.c.kinds,
    deliveries.c.count,
    deliveries.c.lost,
    deliveries.c.tries,
    deliveries.c.attempts,
    deliveries.c.replayed,
    cast(func.extract("epoch", func.now() - deliveries.c.since), Double),
)
_READY = text(
    "SELECT w.id FROM webhooks w WHERE w.state = 'enabled' AND (w.not_before IS NULL OR w.not_before <= now()) "
    "AND w.id <> ALL(CAST(:busy AS text[])) "
    "AND (EXISTS (SELECT FROM webhook_positions p WHERE p.webhook_id = w.id AND p.due_at <= now()) "
    "OR EXISTS (SELECT FROM webhook_deliveries d WHERE d.webhook_id = w.id AND d.dead_at IS NULL "
    "AND d.due_at <= now())) "
    "ORDER BY w.id <= :after, w.id LIMIT :most"
)
_COUNT_LOST = text("UPDATE webhooks SET lost = lost + :number, lost_at = now() WHERE id = :webhook")


async def ready(tx: Transaction, *, busy: Sequence[str], after: str, most: int) -> list[str]:
    """Webhooks, apart from the `busy` ones, for which there is something to do now; those behind `after` come first."""
    given = {"busy": list(busy), "after": after, "most": most}
    return [str(webhook_id) for webhook_id in (await tx.execute(_READY, given)).scalars()]


async def claim(tx: Transaction, webhook_id: str, most: int) -> list[Delivery]:
    """Deliveries that were tried in vain, or whose sender is gone, and whose time has come; the oldest first."""
    due = (
        select(deliveries.c.id)
        .where(deliveries.c.webhook_id == webhook_id, deliveries.c.dead_at.is_(None), deliveries.c.due_at <= func.now())
        .order_by(deliveries.c.due_at)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    claimed = update(deliveries).where(deliveries.c.id.in_(list((await tx.execute(due)).scalars())))
    values = claimed.values(
        tries=deliveries.c.tries + 1, attempts=deliveries.c.attempts + 1, due_at=_in(LEASE), last_attempt_at=func.now()
    )
    return [Delivery(*row) for row in await tx.execute(values.returning(*_CLAIMED))]


async def begin(tx: Transaction, webhook_id: str, kinds: Sequence[str], most: int) -> tuple[list[Delivery], bool]:
    """New deliveries, claimed, of at most `most` profiles that are due; and whether there may be more."""
    query = (
        select(positions.c.profile_id, positions.c.last_id, positions.c.last_at, positions.c.lost)
        .where(positions.c.webhook_id == webhook_id, positions.c.due_at <= func.now())
        .order_by(positions.c.due_at)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    rows = (await tx.execute(query)).all()
    begun, more = [], len(rows) == most
    for row in rows:
        # A new statement, so that it sees all that was committed before the position was locked.
        chosen = await _choose(tx, row.profile_id, row.last_id, row.last_at, kinds)
        mine = update(positions).where(positions.c.webhook_id == webhook_id, positions.c.profile_id == row.profile_id)
        if chosen is None:
            await tx.execute(mine.values(due_at=None))
        elif not chosen.ids:
            more = True
            await tx.execute(mine.values(last_id=chosen.past_id, last_at=chosen.past_at))
        else:
            begun.append(await _insert(tx, webhook_id, row.profile_id, kinds, chosen, row.lost))
            past = {"last_id": chosen.past_id, "last_at": chosen.past_at, "lost": 0, "due_at": text("'infinity'")}
            await tx.execute(mine.values(past))
    return begun, more


async def read(tx: Transaction, delivery: Delivery) -> list[Sent]:
    """The records of a delivery, in order; those that were removed meanwhile are missing."""
    query = select(
        records.c.id,
        records.c.epoch,
        records.c.batch,
        records.c.position,
        records.c.bot,
        records.c.kind,
        records.c.at,
        records.c.received_at,
        cast(records.c.data, String),
    ).where(
        records.c.profile_id == delivery.profile,
        records.c.id.between(delivery.from_id, delivery.to_id),
        # The partitions that hold them, and no others.
        records.c.received_at.between(delivery.from_at, delivery.to_at),
        *_of(delivery.kinds),
    )
    return [Sent(*row) for row in await tx.execute(query.order_by(records.c.id))]


async def delivered(tx: Transaction, delivery: Delivery, *, missing: int = 0) -> bool:
    """It is done, `missing` of its records being removed before; the profile's next one may be begun.

    False where this claim is not the newest any more: then nothing is changed.
    """
    gone = (await tx.execute(deliveries.delete().where(*_mine(delivery)))).rowcount
    if gone and missing:
        await tx.execute(_COUNT_LOST, {"webhook": delivery.webhook, "number": missing})
    if gone and not delivery.replayed:
        await _go_on(tx, delivery)
    return bool(gone)


async def vanished(tx: Transaction, delivery: Delivery) -> bool:
    """All of its records were removed, so that there is nothing to send; the profile's next message tells."""
    gone = (await tx.execute(deliveries.delete().where(*_mine(delivery)))).rowcount
    if gone:
        await tx.execute(_COUNT_LOST, {"webhook": delivery.webhook, "number": delivery.count})
        await _go_on(tx, delivery, lost=delivery.lost + delivery.count)
    return bool(gone)


async def failed(
    tx: Transaction, delivery: Delivery, *, status: int | None, error: str, again_in: float | None
) -> bool:
    """It is tried again in so many seconds; None gives it up and lets the profile's next one be begun."""
    values: dict[str, Any] = {"last_status": status, "last_error": error}
    if again_in is None:
        values |= {"dead_at": func.now(), "due_at": None}
    else:
        values["due_at"] = _in(again_in)
    changed = (await tx.execute(update(deliveries).where(*_mine(delivery)).values(values))).rowcount
    if changed and again_in is None and not delivery.replayed:
        await _go_on(tx, delivery)
    return bool(changed)


async def release(tx: Transaction, claimed: Sequence[Delivery]) -> None:
    """Gives claims up whose tries were broken off: whoever comes next may try at once."""
    for delivery in claimed:
        values = {"due_at": func.now(), "tries": deliveries.c.tries - 1}
        await tx.execute(update(deliveries).where(*_mine(delivery)).values(values))


async def _choose(
    tx: Transaction, profile: str, last_id: int, last_at: datetime | None, kinds: Sequence[str]
) -> _Chosen | None:
    """The next records of a profile, None where there are none."""
    new = [records.c.profile_id == profile, records.c.id > last_id]
    if last_at is not None:
        new.append(records.c.received_at >= last_at - MARGIN)
    past: tuple[int, datetime] | None = None
    if kinds:
        window = select(records.c.id, records.c.received_at).where(*new).order_by(records.c.id).limit(WINDOW).subquery()
        seen = (await tx.execute(select(func.max(window.c.id), func.max(window.c.received_at)))).one()
        if seen[0] is None:
            return None
        past = (int(seen[0]), seen[1])
        new += [records.c.id <= past[0], *_of(kinds)]
    found = (await tx.execute(_sized(new))).all()
    rows = _fitting(found)
    ids, moments = [int(row[0]) for row in rows], [row[1] for row in rows]
    if past is not None and len(rows) == len(found) < MOST_RECORDS:
        return _Chosen(ids, moments, *past)
    return _Chosen(ids, moments, ids[-1], max(moments)) if rows else None


def _sized(new: Sequence[ColumnElement[bool]]) -> Select[Any]:
    """(id, received at, bytes as text) of the next records.

    Of many large ones only the first are unpacked to be measured; the others would not fit as they are stored.
    """
    stored = func.coalesce(func.pg_column_size(records.c.data), 0)
    whole = select(records.c.id, records.c.received_at, records.c.data, stored.label("stored"))
    first = whole.where(*new).order_by(records.c.id).limit(MOST_RECORDS).subquery()
    before = (func.sum(first.c.stored).over(order_by=first.c.id) - first.c.stored).label("before")
    summed = select(first, before).subquery()
    size = func.coalesce(func.octet_length(cast(summed.c.data, String)), 0)
    measured = case((summed.c.before < MOST_BYTES, size), else_=MOST_BYTES)
    return select(summed.c.id, summed.c.received_at, measured).order_by(summed.c.id)


def _fitting(rows: Sequence[Any]) -> list[Any]:
    """As many of (id, received at, size) as go into one message; the first one always does."""
    fitting: list[Any] = []
    total = 0
    for row in rows:
        total += row[2]
        if fitting and total > MOST_BYTES:
            break
        fitting.append(row)
    return fitting


async def _insert(
    tx: Transaction, webhook_id: str, profile: str, kinds: Sequence[str], chosen: _Chosen, lost: int
) -> Delivery:
    values = insert(deliveries).values(
        id=_message_id(),
        webhook_id=webhook_id,
        profile_id=profile,
        from_id=chosen.ids[0],
        to_id=chosen.ids[-1],
        from_at=min(chosen.moments),
        to_at=max(chosen.moments),
        kinds=list(kinds),
        count=len(chosen.ids),
        lost=lost,
        since=func.now(),
        tries=1,
        attempts=1,
        due_at=_in(LEASE),
        last_attempt_at=func.now(),
        replayed=False,
    )
    return Delivery(*(await tx.execute(values.returning(*_CLAIMED))).one())


async def _go_on(tx: Transaction, delivery: Delivery, *, lost: int = 0) -> None:
    """Lets the profile's next delivery be begun, unless this one was not in its way."""
    mine = (positions.c.webhook_id == delivery.webhook, positions.c.profile_id == delivery.profile)
    values: dict[str, Any] = {"lost": positions.c.lost + lost}
    if not delivery.replayed:
        values["due_at"] = func.now()
    await tx.execute(update(positions).where(*mine).values(values))


def _mine(delivery: Delivery) -> tuple[ColumnElement[bool], ...]:
    """This claim of the delivery and no later one."""
    return deliveries.c.id == delivery.id, deliveries.c.attempts == delivery.attempts, deliveries.c.dead_at.is_(None)


def _of(kinds: Sequence[str]) -> list[ColumnElement[bool]]:
    return [records.c.kind == func.any(list(kinds))] if kinds else []


def _in(seconds: float) -> ColumnElement[datetime]:
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _message_id() -> str:
    """`msg_`, the time in milliseconds and chance: ids rise with time, so that lists have an order."""
    return f"msg_{int(time.time() * 1000):012x}{secrets.token_hex(8)}"
