"""Duty `apply`: takes what clients want from the ledger over into live state.

The web layer calls `apply_wishes` right after its commit; what a crash leaves in the outbox, the steward finishes.
The outbox only says THAT a profile changed; the wish is read from the profile's current row, so order never matters.
"""

from __future__ import annotations

from collections.abc import Sequence

from rota.ledger import outbox
from rota.ledger import profiles as ledger_profiles
from rota.ledger.connection import Ledger, Transaction
from rota.live import profiles as live_profiles
from rota.live.scripts import Live

STEP = 256
"""Outbox rows that are finished in one transaction."""


async def apply_wishes(ledger: Ledger, live: Live, fleet: str, profile_ids: Sequence[str]) -> None:
    """Applies the ledger's current wishes for these profiles to live state; idempotent.

    Raises:
        UnavailableError: a store is away; the outbox still holds the wish.
    """
    async with ledger.begin() as tx:
        wants = await _wants(tx, profile_ids)
    await live_profiles.want(live, fleet, wants)


async def apply(ledger: Ledger, live: Live, fleet: str) -> int:
    """Finishes up to `STEP` rows of the outbox and returns how many there were."""
    async with ledger.begin() as tx:
        rows = await outbox.pending(tx, fleet, STEP)
        if rows:
            wants = await _wants(tx, sorted({row.profile for row in rows}))
            await live_profiles.want(live, fleet, wants)
            await outbox.done(tx, [row.id for row in rows])
    return len(rows)


async def _wants(tx: Transaction, profile_ids: Sequence[str]) -> list[live_profiles.Want]:
    return [as_want(wish) for wish in await ledger_profiles.wishes(tx, profile_ids)]


def as_want(wish: ledger_profiles.Wish) -> live_profiles.Want:
    """The ledger's wish in the words of live state."""
    return live_profiles.Want(
        profile=wish.profile,
        version=wish.version,
        want=wish.want,
        revision=wish.revision,
        priority=wish.priority,
        labels=wish.labels,
        epoch=wish.epoch,
    )
