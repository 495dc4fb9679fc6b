"""Duty `rebuild`: where live state is empty or another than the ledger knows, applies every wish to it again.

Until that is done bots that come back with a lease are told to keep working; for one ttl nothing is given away.
"""

from __future__ import annotations

import secrets

import structlog

from rota.ledger import fleets, incidents
from rota.ledger import profiles as ledger_profiles
from rota.ledger.connection import Ledger
from rota.ledger.fleets import Fleet
from rota.ledger.incidents import Sighting
from rota.live import profiles as live_profiles
from rota.live.liveness import Pulse, pulse
from rota.live.scripts import Live
from rota.steward.apply import as_want
from rota.steward.drain import drain

STEP = 500
"""Wishes read from the ledger at once."""
LIVE_LOST = "live_lost"
"""The kind of the incident that tells why nothing is given away for a while."""

log = structlog.get_logger(__name__)


async def rebuild(ledger: Ledger, live: Live, fleet: Fleet) -> Pulse:
    """The fleet's pulse, after live state was built if it was not."""
    beat = await pulse(
        live,
        fleet.name,
        "steward",
        ttl=fleet.ttl,
        incarnation=secrets.token_hex(8),
        known=fleet.incarnation or "",
    )
    if beat.incarnation is None or (beat.built and beat.incarnation == fleet.incarnation):
        return beat
    if not beat.built and fleet.incarnation not in (None, beat.incarnation):
        await _tell_of_a_loss(ledger, fleet, beat)
    wishes = await _apply_everything(ledger, live, fleet.name)
    await drain(ledger, live, fleet.name)
    async with ledger.begin() as tx:
        await fleets.set_incarnation(tx, fleet.name, beat.incarnation)
    beat = await pulse(live, fleet.name, "built", ttl=fleet.ttl, incarnation=beat.incarnation)
    log.info("live state built", fleet=fleet.name, incarnation=beat.incarnation, wishes=wishes)
    return beat


async def _tell_of_a_loss(ledger: Ledger, fleet: Fleet, beat: Pulse) -> None:
    message = (
        "Live state was empty, and is built anew from the ledger: its store lost what it held, was emptied, or held "
        "entries of another version of rota. Bots at work come back by themselves; for one lease nothing is given away."
    )
    until = beat.quiet_until.isoformat() if beat.quiet_until else None
    detail = {"before": fleet.incarnation, "incarnation": beat.incarnation, "quiet_until": until}
    async with ledger.begin() as tx:
        await incidents.sight(tx, fleet.name, LIVE_LOST, [Sighting(fleet.name, message, detail)])
    log.warning("live state was lost", fleet=fleet.name, **detail)


async def _apply_everything(ledger: Ledger, live: Live, fleet: str) -> int:
    applied, after = 0, None
    while True:
        async with ledger.begin() as tx:
            page = await ledger_profiles.all_wishes(tx, fleet, after=after, limit=STEP)
        await live_profiles.want(live, fleet, [as_want(wish) for wish in page.items])
        applied += len(page.items)
        after = page.next
        if after is None:
            return applied
