"""Duty `reap`: removes bots that have fallen silent, so that their profiles wait again."""

from __future__ import annotations

import structlog

from rota.live.liveness import reap as reap_step
from rota.live.scripts import Live

STEP = 20
"""Bots removed in one script call: each costs some 80 µs of the store, of a million and where it had work."""
STEPS_A_ROUND = 100

log = structlog.get_logger(__name__)


async def reap(live: Live, fleet: str) -> int:
    """Removes the overdue in bounded steps and returns how many; what is left waits for the next round."""
    removed = 0
    for _ in range(STEPS_A_ROUND):
        step = await reap_step(live, fleet, STEP)
        removed += step.count
        if not step.more:
            break
    if removed:
        log.info("bots died", fleet=fleet, count=removed)
    return removed
