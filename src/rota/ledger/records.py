"""Records: what bots pushed, committed once per (profile, epoch, batch) and refused under an old epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from rota.errors import FieldError, InvalidRequestError, SupersededError
from rota.ledger import checks
from rota.ledger.connection import Transaction
from rota.ledger.page import Page, bounded, number_after, page_of
from rota.ledger.tables import batches, fences, records

_COLUMNS = ["profile_id", "epoch", "batch", "position", "bot", "kind", "at", "received_at", "data"]


@dataclass(frozen=True)
class Record:
    """One record as it was taken."""

    id: int
    profile: str
    epoch: int
    batch: int
    position: int
    bot: str
    kind: str
    at: datetime
    received_at: datetime
    data: Any


@dataclass(frozen=True)
class Pushed:
    """What became of a batch."""

    accepted: int
    duplicate: bool


async def push(
    tx: Transaction,
    *,
    profile: str,
    epoch: int,
    batch: int,
    bot: str,
    records: Sequence[tuple[str, datetime, Any]],
    received_at: datetime,
) -> Pushed:
    """Takes a batch of (kind, at, data); the same batch again is a duplicate and stores nothing.

    Raises:
        SupersededError: a newer epoch was handed out.
        InvalidRequestError: a record that cannot be kept, named by its position, or an epoch never handed out.
    """
    rows = [
        (profile, epoch, batch, position, bot, kind, at, received_at, _json(position, data))
        for position, (kind, at, data) in enumerate(records)
    ]
    await _pass_fence(tx, profile, epoch)
    values = insert(batches).values(profile_id=profile, epoch=epoch, batch=batch, bot=bot, count=len(rows))
    if (await tx.execute(values.on_conflict_do_nothing())).rowcount == 0:
        return Pushed(accepted=0, duplicate=True)
    if rows:
        await _copy(tx, rows)
    return Pushed(accepted=len(rows), duplicate=False)


async def page(
    tx: Transaction, profile: str, *, kind: str | None = None, limit: int = 100, after: str | None = None
) -> Page[Record]:
    """A profile's records in the order of arrival."""
    limit = bounded(limit)
    query = select(records).where(records.c.profile_id == profile, records.c.id > number_after(after))
    if kind is not None:
        query = query.where(records.c.kind == kind)
    rows = await tx.execute(query.order_by(records.c.id).limit(limit + 1))
    return page_of([Record(*row) for row in rows], limit, lambda record: record.id)


async def newest(tx: Transaction, profile: str, limit: int) -> list[Record]:
    """A profile's newest records, newest first."""
    query = select(records).where(records.c.profile_id == profile).order_by(records.c.id.desc())
    return [Record(*row) for row in await tx.execute(query.limit(bounded(limit)))]


async def count(tx: Transaction, *, fleet_profiles: Sequence[str] | None = None) -> int:
    """How many records were taken, of these profiles or of all; read from the batches."""
    query = select(func.coalesce(func.sum(batches.c.count), 0))
    if fleet_profiles is not None:
        query = query.where(batches.c.profile_id.in_(fleet_profiles))
    return int((await tx.execute(query)).scalar_one())


async def _pass_fence(tx: Transaction, profile: str, epoch: int) -> None:
    """The row stays locked against raising until this transaction ends: check and commit are one."""
    query = select(fences.c.epoch).where(fences.c.profile_id == profile).with_for_update(read=True)
    newest_epoch = (await tx.execute(query)).scalar_one_or_none()
    if newest_epoch is None or newest_epoch < epoch:
        # A start is fenced before the bot hears of it, so this epoch was never handed out.
        raise InvalidRequestError("That epoch was never granted for this profile.")
    if newest_epoch > epoch:
        raise SupersededError


async def _copy(tx: Transaction, rows: list[tuple[Any, ...]]) -> None:
    """COPY, as asyncpg offers it; SQLAlchemy has no words for it."""
    raw = await tx.get_raw_connection()
    driver: Any = raw.driver_connection
    try:
        await driver.copy_records_to_table("records", records=rows, columns=_COLUMNS)
    except (asyncpg.DataError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidRequestError(f"A record of this batch cannot be kept: {reason}") from None


def _json(position: int, data: Any) -> str | None:
    wrong = checks.unstorable(data)
    if wrong is not None:
        where = ".".join(("records", str(position), "data", *wrong[0]))
        raise InvalidRequestError(f"{where}: {wrong[1]}", fields=(FieldError(where, wrong[1]),))
    try:
        return None if data is None else json.dumps(data)
    except ValueError as error:
        where = f"records.{position}.data"
        raise InvalidRequestError(f"{where}: {error}", fields=(FieldError(where, str(error)),)) from None
