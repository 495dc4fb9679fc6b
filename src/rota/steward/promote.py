"""Duty `promote`: lets held profiles wait again when their time has come."""

from __future__ import annotations

from rota.live import profiles
from rota.live.scripts import Live

STEP = 100
STEPS_A_ROUND = 50


async def promote(live: Live, fleet: str) -> int:
    """Promotes in bounded steps and returns how many."""
    promoted = 0
    for _ in range(STEPS_A_ROUND):
        count, more = await profiles.promote(live, fleet, STEP)
        promoted += count
        if not more:
            break
    return promoted
