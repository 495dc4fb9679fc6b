"""Pushes: batches of records, committed once per (profile, epoch, number) and refused under an old epoch.

`web.push` commits what arrived in the same moment in one transaction; `records` reads what is written here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import text

from rota.errors import InvalidRequestError, ProblemError, SupersededError
from rota.ledger import fences, webhook_positions
from rota.ledger.connection import Transaction
from rota.ledger.fences import Fence

# `id` and `received_at` are the database's: no worker's clock decides on the partition.
_COLUMNS = ["profile_id", "epoch", "batch", "position", "bot", "kind", "at", "data"]
_ENTER = text(
    "INSERT INTO batches (profile_id, epoch, batch, bot, count) "
    "SELECT * FROM unnest(CAST(:profiles AS text[]), CAST(:epochs AS bigint[]), CAST(:numbers AS bigint[]), "
    "CAST(:bots AS text[]), CAST(:counts AS integer[])) ON CONFLICT DO NOTHING RETURNING profile_id, epoch, batch"
)
_NOW = text("SELECT now()")


class Row(NamedTuple):
    """One record to be taken: `data` is JSON text that PostgreSQL can keep; without `at` it happened on arrival."""

    kind: str
    at: datetime | None
    data: str | None


@dataclass(frozen=True)
class Batch:
    """What one `push_data` call brings."""

    profile: str
    epoch: int
    number: int
    bot: str
    rows: Sequence[Row]

    @property
    def name(self) -> tuple[str, int, int]:
        """What there is once only."""
        return self.profile, self.epoch, self.number


@dataclass(frozen=True)
class Pushed:
    """What became of a batch."""

    accepted: int
    duplicate: bool


Outcome = Pushed | ProblemError


async def take(tx: Transaction, batches: Sequence[Batch]) -> list[Outcome]:
    """Takes all batches that can be taken; what became of each, in their order, true if the transaction is committed.

    Raises:
        InvalidRequestError: PostgreSQL cannot keep one of the records; none of the batches is taken.
    """
    held = await fences.hold(tx, (batch.profile for batch in batches))
    outcomes: list[Outcome | None] = [_refusal(batch, held.get(batch.profile)) for batch in batches]
    # The same batch may stand there twice: it was repeated while its first copy waited.
    firsts = {batch.name: batch for batch, told in reversed(list(zip(batches, outcomes, strict=True))) if told is None}
    entered = await _enter(tx, list(firsts.values()))
    await _copy(tx, [firsts[name] for name in firsts if name in entered])
    await webhook_positions.touch(tx, {profile for profile, _epoch, _number in entered})
    for index, batch in enumerate(batches):
        if outcomes[index] is None:
            new = batch.name in entered and firsts[batch.name] is batch
            outcomes[index] = Pushed(len(batch.rows), duplicate=False) if new else Pushed(0, duplicate=True)
    return [outcome for outcome in outcomes if outcome is not None]


def _refusal(batch: Batch, fence: Fence | None) -> Outcome | None:
    if fence is None or fence.epoch < batch.epoch:
        # A start is fenced before the bot hears of it, so this epoch was never handed out.
        return InvalidRequestError("That epoch was never granted for this profile.")
    if fence.epoch > batch.epoch:
        return SupersededError()
    return Pushed(0, duplicate=True) if fence.has_taken(batch.number) else None


async def _enter(tx: Transaction, batches: Sequence[Batch]) -> set[tuple[str, int, int]]:
    """Enters the batches by their names; the names that were not there before."""
    if not batches:
        return set()
    values = {
        "profiles": [batch.profile for batch in batches],
        "epochs": [batch.epoch for batch in batches],
        "numbers": [batch.number for batch in batches],
        "bots": [batch.bot for batch in batches],
        "counts": [len(batch.rows) for batch in batches],
    }
    return {(row.profile_id, row.epoch, row.batch) for row in await tx.execute(_ENTER, values)}


async def _copy(tx: Transaction, batches: Sequence[Batch]) -> None:
    """COPY, as asyncpg offers it; SQLAlchemy has no words for it."""
    if not any(batch.rows for batch in batches):
        return
    now = (await tx.execute(_NOW)).scalar_one()
    rows = (
        (batch.profile, batch.epoch, batch.number, position, batch.bot, row.kind, row.at or now, row.data)
        for batch in batches
        for position, row in enumerate(batch.rows)
    )
    driver: Any = (await tx.get_raw_connection()).driver_connection
    try:
        await driver.copy_records_to_table("records", records=rows, columns=_COLUMNS)
    except (asyncpg.DataError, ValueError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidRequestError(f"A record of this batch cannot be kept: {reason}") from None
