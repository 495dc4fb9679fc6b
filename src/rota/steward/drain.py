"""Duty `drain`: takes what the ledger wants drained over into live state, and kills what has not ended by its deadline.

It always looks at all drains of a fleet, so that it does not matter what was lost or done before. A drain of a bot
ends when the bot has said that it goes (`record` hears that, too), or has stayed away for long; one of a server when
an operator undoes it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog

from rota.errors import NotFoundError
from rota.ledger import drains
from rota.ledger.connection import Ledger
from rota.ledger.drains import Drain
from rota.live import audit, bots, snapshot
from rota.live.scripts import Live

KILLS_A_ROUND = 500

log = structlog.get_logger(__name__)


async def drain(ledger: Ledger, live: Live, fleet: str) -> None:
    """Carries out all drains of the fleet, and undoes those that live state alone still knows.

    Raises:
        UnavailableError: a store is away.
    """
    # Live state first: what was ordered in between is not taken for undone.
    known = await bots.drained(live, fleet)
    async with ledger.begin() as tx:
        ordered = await drains.all_of(tx, fleet)
    gone = {each.subject for each in ordered if not await _carry_out(live, each)}
    for subject in known - {each.subject for each in ordered}:
        await _undo(live, fleet, subject)
    state = await audit.pulse(live, fleet)
    if (gone or any(each.gone_at for each in ordered)) and state.built and not state.quiet:
        async with ledger.begin() as tx:
            # Live state forgets the order of a bot that leaves, and keeps that of one which was killed or fell silent.
            await drains.forget(tx, fleet, sorted(gone - known))
            await drains.note_gone(tx, fleet, sorted(gone & known))


async def _carry_out(live: Live, ordered: Drain) -> bool:
    """Whether there is anything left to be drained."""
    try:
        await bots.drain(live, ordered.fleet, ordered.subject, draining=True)
        if ordered.deadline is not None and ordered.deadline <= datetime.now(UTC):
            await _kill_late(live, ordered, ordered.deadline)
    except NotFoundError:
        return False
    return True


async def _kill_late(live: Live, ordered: Drain, deadline: datetime) -> None:
    fleet, subject = ordered.fleet, ordered.subject
    ids = [subject] if ordered.is_of_a_bot else await bots.members(live, fleet, subject)
    # Whoever has come since then without work, after having been killed perhaps, is told to exit by its next heartbeat.
    there = await snapshot.named(live, fleet, ids)
    # When a bot has come is known to the second below.
    late = [bot.id for bot in there if bot.profile or bot.joined_at + timedelta(seconds=1) <= deadline]
    for bot in late[:KILLS_A_ROUND]:
        try:
            await bots.kill(live, fleet, bot, "drain")
        except NotFoundError:
            continue  # it has left meanwhile
        log.warning("bot killed", bot=bot, fleet=fleet, reason="its drain had a deadline")


async def _undo(live: Live, fleet: str, subject: str) -> None:
    try:
        await bots.drain(live, fleet, subject, draining=False)
    except NotFoundError:
        return
