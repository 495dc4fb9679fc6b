"""Duty `drain`: takes what the ledger wants drained over into live state, and kills what has not ended by its deadline.

It always looks at all drains of a fleet, so that it does not matter what was lost or done before. A drain of a bot
ends when the bot has gone (`record` sees it go; here only what it could not see is noticed); one of a server when an
operator undoes it.
"""

from __future__ import annotations

from datetime import UTC, datetime

import structlog

from rota.errors import NotFoundError
from rota.ledger import drains
from rota.ledger.connection import Ledger
from rota.ledger.drains import Drain
from rota.live import audit, bots
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
    gone = [each.subject for each in ordered if not await _carry_out(live, each)]
    for subject in known - {each.subject for each in ordered}:
        await _undo(live, fleet, subject)
    state = await audit.pulse(live, fleet)
    if gone and state.built and not state.quiet:
        async with ledger.begin() as tx:
            await drains.forget(tx, fleet, gone)


async def _carry_out(live: Live, ordered: Drain) -> bool:
    """Whether there is anything left to be drained."""
    try:
        await bots.drain(live, ordered.fleet, ordered.subject, draining=True)
        if ordered.deadline is not None and ordered.deadline <= datetime.now(UTC):
            await _kill(live, ordered)
    except NotFoundError:
        return False
    return True


async def _kill(live: Live, ordered: Drain) -> None:
    late = [ordered.subject] if ordered.is_of_a_bot else await bots.members(live, ordered.fleet, ordered.subject)
    for bot in late[:KILLS_A_ROUND]:
        try:
            await bots.kill(live, ordered.fleet, bot)
        except NotFoundError:
            # It has left meanwhile, which ends its own drain alone.
            continue
        log.warning("bot killed", bot=bot, fleet=ordered.fleet, reason="its drain had a deadline")


async def _undo(live: Live, fleet: str, subject: str) -> None:
    try:
        await bots.drain(live, fleet, subject, draining=False)
    except NotFoundError:
        return
