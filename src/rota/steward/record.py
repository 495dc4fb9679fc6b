"""Duty `record`: writes the event stream into the ledger's history.

The position up to which the stream is recorded is committed together with the events, so a restart leaves neither gaps
nor doubles; a consumer group, whose acknowledgement is apart from the commit, could not promise that.
"""

from __future__ import annotations

import structlog

from rota.ledger import fleets, history, incidents
from rota.ledger.connection import Ledger
from rota.ledger.incidents import Sighting
from rota.live import events
from rota.live.scripts import Live

STEP = 500
"""Events recorded in one transaction."""
KEPT_MS = 600_000
"""Recorded events stay in the stream for ten minutes, for pages that follow it."""
HISTORY_GAP = "history_gap"
"""The kind of the incident that tells of moves that were dropped unrecorded."""

log = structlog.get_logger(__name__)


async def record(ledger: Ledger, live: Live, fleet: str) -> int:
    """Records at most `STEP` events, trims what has been recorded long enough, and returns how many."""
    async with ledger.begin() as tx:
        known = await fleets.get(tx, fleet)
        found = await events.after(live, fleet, known.recorded_to or "0", STEP)
        if not found:
            return 0
        # The last one that was recorded is always kept; where it is gone, more of what followed it may be.
        if found[0].kind != "incarnation" and found[0].id == await events.oldest(live, fleet):
            await incidents.sight(tx, fleet, HISTORY_GAP, [_told(fleet, found[0])])
        await history.record(tx, fleet, [_as_history(event) for event in found], recorded_to=found[-1].id)
    oldest = int(found[-1].id.partition("-")[0]) - KEPT_MS
    await live.trim_events(fleet, str(max(0, oldest)))
    return len(found)


def _told(fleet: str, following: events.Event) -> Sighting:
    message = (
        f"Moves from before {following.at:%Y-%m-%d %H:%M:%S} UTC were dropped before they could be recorded: the "
        "ledger was away, or too slow, for too long. Who works for whom is not touched."
    )
    log.error("moves were dropped before they could be recorded", fleet=fleet, before=following.id)
    return Sighting(fleet, message, {"before": following.at.isoformat()})


def _as_history(event: events.Event) -> history.HistoryEvent:
    return history.HistoryEvent(
        id=event.id,
        at=event.at,
        kind=event.kind,
        bot=event.bot,
        profile=event.profile,
        epoch=event.epoch,
        reason=event.reason,
    )
