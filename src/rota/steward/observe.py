"""Duty `observe`: raises and closes incidents by what live state and history say at this moment."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from rota.ledger import history, incidents
from rota.ledger.connection import Ledger, Transaction
from rota.ledger.fleets import Fleet
from rota.ledger.history import Deaths
from rota.ledger.incidents import Changed, Incident, Sighting
from rota.live import bots, clock, snapshot
from rota.live.scripts import Live
from rota.protocol import deadline_after_ms
from rota.steward.rebuild import LIVE_LOST
from rota.steward.record import HISTORY_GAP
from rota.steward.webhook_troubles import webhook_troubles

MASS_SHARE, MASS_LEAST = 0.2, 10
"""So large a part of a fleet, and at least so many bots, dead within one lease are a crowd."""
SERVERS_NAMED = 50
SERVERS_TOLD = 5
"""How many servers stand in an incident's figures, and in its sentence."""
CONTESTED_NAMED = 200
TOLD_WITHIN = {"disk_full": 30.0, "missing_partition": 30.0, LIVE_LOST: 300.0, HISTORY_GAP: 86_400.0}
"""Kinds that others raise when they meet them, and seconds without a word after which each is over."""

log = structlog.get_logger(__name__)


async def observe(ledger: Ledger, live: Live, fleet: Fleet) -> None:
    """Looks for every kind of incident in one fleet.

    Raises:
        UnavailableError: a store is away.
    """
    contested = await bots.contested(live, fleet.name, CONTESTED_NAMED)
    there = (await snapshot.totals(live, fleet.name)).bots_total
    since = await clock.store_time(live, fleet.name) - timedelta(milliseconds=deadline_after_ms(fleet.ttl))
    async with ledger.begin() as tx:
        crowd = await _crowd(tx, fleet.name, since, there)
        changes = [
            await incidents.observe(tx, fleet.name, "mass_silence", [crowd] if crowd else []),
            await incidents.observe(tx, fleet.name, "contested_slot", [contested_slot(bot) for bot in contested]),
        ]
        troubles = await webhook_troubles(tx, fleet.name)
        changes += [await incidents.observe(tx, fleet.name, kind, seen) for kind, seen in troubles.items()]
        over = [await incidents.close_unseen(tx, fleet.name, *told) for told in TOLD_WITHIN.items()]
    for kind, changed in zip(("mass_silence", "contested_slot", *troubles), changes, strict=True):
        tell(kind, fleet.name, changed)
    for kind, subjects in zip(TOLD_WITHIN, over, strict=True):
        tell(kind, fleet.name, Changed([], subjects))


async def _crowd(tx: Transaction, fleet: str, since: datetime, there: int) -> Sighting | None:
    """Those who died since then, if they are a crowd. Deaths of an incident that is over raise none again.

    They would where the lease was made longer meanwhile, and so reaches farther back.
    """
    known = await incidents.open_of(tx, fleet, "mass_silence")
    over = None if known else await incidents.last_closed(tx, fleet, "mass_silence")
    if over is not None and over.detail.get("last"):
        since = max(since, datetime.fromisoformat(over.detail["last"]))
    died = await history.deaths(tx, fleet, since)
    return mass_silence(fleet, died, there, known[0] if known else None)


def tell(kind: str, fleet: str, changed: Changed) -> None:
    """Logs what is new and what is over."""
    for subject in changed.raised:
        log.warning("incident raised", kind=kind, fleet=fleet, subject=subject)
    for subject in changed.closed:
        log.info("incident closed", kind=kind, fleet=fleet, subject=subject)


def mass_silence(fleet: str, deaths: Deaths, there: int, known: Incident | None) -> Sighting | None:
    """A large part of the fleet fell silent at once: how many of how many, on which servers.

    `deaths` are those within the last lease, `there` counts the bots on the roster now. While it lasts, the worst that
    was seen is told.
    """
    died = deaths.of
    number = sum(died.values())
    whole = there + number
    if number < max(MASS_LEAST, MASS_SHARE * whole):
        return None
    last = deaths.last.isoformat() if deaths.last else ""
    if known is not None and known.detail.get("bots", 0) >= number:
        return Sighting(fleet, known.message, {**known.detail, "last": last})
    hosts = sorted(died, key=lambda host: -died[host])
    told = ", ".join(f"{host} ({died[host]})" for host in hosts[:SERVERS_TOLD])
    more = f" and {len(hosts) - SERVERS_TOLD} more" if len(hosts) > SERVERS_TOLD else ""
    servers = f"{len(hosts)} server{'s' if len(hosts) > 1 else ''}"
    message = f"{number} of {whole} bots fell silent at once, on {servers}: {told}{more}"
    figures = {host: died[host] for host in hosts[:SERVERS_NAMED]}
    return Sighting(fleet, message, {"bots": number, "of": whole, "servers": figures, "last": last})


def contested_slot(bot: str) -> Sighting:
    """Several processes fight for one slot."""
    host, _, instance = bot.partition("/")
    message = (
        f"Several processes call themselves {bot}: is {host} a clone of another machine, or is instance {instance} "
        "started twice, or restarted all the time? Whoever holds the slot keeps it."
    )
    return Sighting(bot, message, {})
