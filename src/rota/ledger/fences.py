"""Fences: the highest epoch of each profile that was handed out, kept where data is committed.

Invariant: once `raise_to(P, e)` is committed, no batch of P under an epoch below e can be committed. `records.push`
holds a shared lock on the fence row from its check to its commit, and raising needs the row alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert

from rota.ledger.connection import Transaction
from rota.ledger.tables import fences


async def raise_to(tx: Transaction, pairs: Sequence[tuple[str, int]]) -> None:
    """Raises the fences of (profile, epoch); a lower epoch than known changes nothing."""
    # In one order everywhere, so that two calls cannot wait for each other.
    rows = [{"profile_id": profile, "epoch": epoch} for profile, epoch in sorted(dict(pairs).items())]
    statement = insert(fences).values(rows)
    higher = func.greatest(fences.c.epoch, statement.excluded.epoch)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[fences.c.profile_id],
            set_={"epoch": higher},
            where=fences.c.epoch < statement.excluded.epoch,
        )
    )
