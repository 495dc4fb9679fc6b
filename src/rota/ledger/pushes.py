"""Pushes: batches of records, committed once per (profile, epoch, number) and refused under an old epoch.

`web.push` commits what arrived in the same moment in one transaction; `records` reads what is written here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog
from sqlalchemy import text

from rota.errors import FieldError, InvalidRequestError, ProblemError, SupersededError, UnavailableError
from rota.ledger import fences, webhook_positions
from rota.ledger.connection import Ledger, Transaction, is_away
from rota.ledger.fences import Fence

# `id` and `received_at` are the database's: no worker's clock decides on the partition.
_COLUMNS = ["position", "kind", "at", "data", "profile_id", "epoch", "batch", "bot"]
_ENTER = text(
    "INSERT INTO batches (profile_id, epoch, batch, bot, count) "
    "SELECT * FROM unnest(CAST(:profiles AS text[]), CAST(:epochs AS bigint[]), CAST(:numbers AS bigint[]), "
    "CAST(:bots AS text[]), CAST(:counts AS integer[])) ON CONFLICT DO NOTHING RETURNING profile_id, epoch, batch"
)
_ONES_OWN_FAULT = {"22", "23", "54"}
"""SQLSTATE classes of what a record may be to blame for: its data, a constraint, a limit of PostgreSQL."""
_CHECK_VIOLATION = "23514"
_LINE = re.compile(r"^COPY \w+, line (\d+)", re.MULTILINE)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Batch:
    """What one `push_data` call brings; `lines` are its records as `lines.lines` makes them."""

    profile: str
    epoch: int
    number: int
    bot: str
    lines: Sequence[bytes]

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


class MissingPartitionError(UnavailableError):
    """There is no partition of `records` for this moment."""


async def commit(ledger: Ledger, batches: Sequence[Batch]) -> list[Outcome]:
    """Commits all batches that can be taken, in one transaction; what became of each, in their order.

    Where PostgreSQL refuses a record all the same, the batches are committed by halves until only those are left out
    that hold such a record.

    Raises:
        MissingPartitionError: there is no partition for this moment (`partitions.ensure` makes one).
        DiskFullError: nothing more can be written.
        UnavailableError: the database is away; nothing is known about a commit that was under way.
    """
    try:
        async with ledger.begin() as tx:
            return await take(tx, batches)
    except InvalidRequestError as error:
        if len(batches) == 1:
            return [error]
        log.warning("a record cannot be kept, committing by halves", batches=len(batches), error=str(error))
    half = len(batches) // 2
    return [*await commit(ledger, batches[:half]), *await commit(ledger, batches[half:])]


async def take(tx: Transaction, batches: Sequence[Batch]) -> list[Outcome]:
    """Takes all batches that can be taken; what became of each, in their order, true if the transaction is committed.

    Raises:
        InvalidRequestError: PostgreSQL cannot keep one of the records; none of the batches is taken.
        MissingPartitionError: there is no partition for this moment.
    """
    held = await fences.hold(tx, [batch.profile for batch in batches])
    outcomes: list[Outcome] = []
    firsts: dict[tuple[str, int, int], Batch] = {}
    for batch in batches:
        refusal = _refusal(batch, held.get(batch.profile))
        # The same batch may stand there twice: it was repeated while its first copy waited.
        if refusal is None and firsts.setdefault(batch.name, batch) is not batch:
            refusal = Pushed(0, duplicate=True)
        outcomes.append(refusal or Pushed(len(batch.lines), duplicate=False))
    new = await _enter(tx, list(firsts.values())) if firsts else set()
    await _copy(tx, [batch for name, batch in firsts.items() if name in new])
    await webhook_positions.touch(tx, {profile for profile, _epoch, _number in new})
    return [
        Pushed(0, duplicate=True) if firsts.get(batch.name) is batch and batch.name not in new else outcome
        for batch, outcome in zip(batches, outcomes, strict=True)
    ]


def _refusal(batch: Batch, fence: Fence | None) -> Outcome | None:
    if fence is None or fence.epoch < batch.epoch:
        # A start is fenced before the bot hears of it, so this epoch was never handed out.
        return InvalidRequestError("That epoch was never granted for this profile.")
    if fence.epoch > batch.epoch:
        return SupersededError()
    return Pushed(0, duplicate=True) if fence.has_taken(batch.number) else None


async def _enter(tx: Transaction, batches: Sequence[Batch]) -> set[tuple[str, int, int]]:
    """Enters the batches by their names; the names that were not there before."""
    values = {
        "profiles": [batch.profile for batch in batches],
        "epochs": [batch.epoch for batch in batches],
        "numbers": [batch.number for batch in batches],
        "bots": [batch.bot for batch in batches],
        "counts": [len(batch.lines) for batch in batches],
    }
    return {(row[0], row[1], row[2]) for row in await tx.execute(_ENTER, values)}


async def _copy(tx: Transaction, batches: Sequence[Batch]) -> None:
    """COPY, as asyncpg offers it; SQLAlchemy has no words for it."""
    parts: list[bytes] = []
    for batch in batches:
        if batch.lines:
            tail = f"{batch.profile}\t{batch.epoch}\t{batch.number}\t{batch.bot}\n".encode()
            parts += (tail.join(batch.lines), tail)
    if not parts:
        return
    driver: Any = (await tx.get_raw_connection()).driver_connection
    try:
        # A bytearray, because asyncpg takes `bytes` for the name of a file.
        await driver.copy_to_table("records", source=bytearray().join(parts), columns=_COLUMNS)
    except asyncpg.PostgresError as error:
        raise _refused(error) from error


def _refused(error: asyncpg.PostgresError) -> Exception:
    """What a COPY that failed means for those who wait for it."""
    state = error.sqlstate or ""
    if state == _CHECK_VIOLATION and not getattr(error, "constraint_name", None):
        return MissingPartitionError("The ledger has no partition for this moment: try again.")
    if is_away(error) or state[:2] not in _ONES_OWN_FAULT:
        return error
    reason = str(error).partition("\n")[0]
    place = _LINE.search(getattr(error, "context", None) or "")
    if place is None:
        return InvalidRequestError(f"A record of this batch cannot be kept: {reason}")
    # True where the batch is alone; else nobody is told of it.
    field = f"records.{int(place[1]) - 1}"
    return InvalidRequestError(f"{field}: cannot be kept: {reason}", fields=(FieldError(field, reason),))
