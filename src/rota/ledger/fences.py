"""Fences: the highest epoch of each profile that was handed out, kept where data is committed.

Invariant: once `raise_to(P, e)` is committed, no batch of P under an epoch below e can be committed. Whoever pushes
holds the fence's row (`hold`) from the check to the commit, and raising needs it alone. One holder at a time also makes
the ids of a profile's records rise in the order of the commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import func, text
from sqlalchemy.dialects.postgresql import insert

from rota.ledger.connection import Transaction
from rota.ledger.tables import fences

# In the order in which Python sorts, whatever the database's own is: two callers must not wait for each other.
_HOLD = text(
    "SELECT profile_id, epoch, taken_from, taken_to FROM fences WHERE profile_id = ANY(CAST(:profiles AS text[])) "
    'ORDER BY profile_id COLLATE "C" FOR NO KEY UPDATE'
)


_HOLDERS = text("""
    SELECT c.profile_id, c.epoch, a.bot
    FROM unnest(CAST(:profiles AS text[]), CAST(:epochs AS bigint[])) AS c(profile_id, epoch)
    JOIN profiles p ON p.id = c.profile_id AND p.fleet = :fleet AND p.deleted_at IS NULL
    LEFT JOIN assignments a ON a.profile_id = c.profile_id AND a.epoch = c.epoch
""")


async def raise_to(tx: Transaction, pairs: Sequence[tuple[str, int]]) -> None:
    """Raises the fences of (profile, epoch); a lower epoch than known changes nothing."""
    # In one order everywhere, so that two calls cannot wait for each other.
    rows = [{"profile_id": profile, "epoch": epoch} for profile, epoch in sorted(dict(pairs).items())]
    statement = insert(fences).values(rows)
    higher = func.greatest(fences.c.epoch, statement.excluded.epoch)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[fences.c.profile_id],
            # Batches of the old epoch are refused from now on; what was taken of the new one is not known to be pruned.
            set_={"epoch": higher, "taken_from": None, "taken_to": None},
            where=fences.c.epoch < statement.excluded.epoch,
        )
    )


async def holders(tx: Transaction, fleet: str, pairs: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str | None]:
    """(profile, epoch) → the bot that it was granted to; None where history does not know, as after a loss.

    Profiles that were deleted or are of other fleets are missing.
    """
    rows = await tx.execute(
        _HOLDERS, {"fleet": fleet, "profiles": [one for one, _ in pairs], "epochs": [epoch for _, epoch in pairs]}
    )
    return {(row.profile_id, row.epoch): row.bot for row in rows}


@dataclass(frozen=True)
class Fence:
    """What is known of a profile's newest epoch: its number, and the batches of it that `batches` forgot."""

    epoch: int
    taken_from: int | None
    taken_to: int | None

    def has_taken(self, batch: int) -> bool:
        """Whether the batch is one of those that were taken and forgotten."""
        return self.taken_from is not None and self.taken_to is not None and self.taken_from <= batch <= self.taken_to


async def hold(tx: Transaction, profiles: Iterable[str]) -> dict[str, Fence]:
    """The fences of these profiles, which nobody else raises or holds until the transaction ends.

    A profile that was never handed out is missing in the answer.
    """
    rows = await tx.execute(_HOLD, {"profiles": sorted(set(profiles))})
    return {row.profile_id: Fence(row.epoch, row.taken_from, row.taken_to) for row in rows}
