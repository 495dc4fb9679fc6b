"""Orders to drain, as REST and the pages give them: into the ledger first, then carried out at once where that can be.

The steward carries out what is left undone because live state was away.
"""

from __future__ import annotations

import structlog

from rota.errors import ConflictError, NotFoundError, UnavailableError
from rota.ledger import drains, servers
from rota.ledger.connection import Transaction
from rota.ledger.drains import Drain
from rota.live import snapshot
from rota.steward.drain import drain as carry_out
from rota.web.api.models import no_such_bot
from rota.web.state import State

log = structlog.get_logger(__name__)


async def order(state: State, fleet: str, subject: str, *, within: float | None) -> Drain:
    """Drains a server or a bot, or gives the drain that is under way another deadline; `within` is seconds from now.

    Raises:
        InvalidRequestError: neither a hostname nor a bot, or a deadline that makes no sense.
        NotFoundError: there is no such fleet; the bot is not on the roster; the server neither listed nor has bots.
        UnavailableError: a store is away that has to be asked.
    """
    async with state.ledger.begin() as tx:
        ordered = await drains.order(tx, fleet, tidy(subject), within=within)
        await _require(state, tx, ordered)
    await _carry_out(state, fleet)
    return ordered


async def undo(state: State, fleet: str, subject: str) -> None:
    """Lets a server's bots, or one bot, take work again.

    Raises:
        NotFoundError: nothing of that name is being drained.
    """
    async with state.ledger.begin() as tx:
        await drains.undo(tx, fleet, tidy(subject))
    await _carry_out(state, fleet)


async def undrain(state: State, fleet: str, bot: str) -> None:
    """Lets one bot take work again; changes nothing where it is not being drained.

    Raises:
        ConflictError: its whole server is being drained.
        NotFoundError: it is neither on the roster nor being drained.
    """
    host = bot.partition("/")[0]
    async with state.ledger.begin() as tx:
        if await drains.named(tx, fleet, [host]):
            message = f"The server {host} is being drained, and so is {bot}: `rota server undrain {host}` ends both."
            raise ConflictError(message)
        if not await drains.forget(tx, fleet, [bot]):
            await require_bot(state, fleet, bot)
    await _carry_out(state, fleet)


async def require_bot(state: State, fleet: str, bot: str) -> None:
    """Does nothing for a bot that is on the roster.

    Raises:
        NotFoundError: it is not, or there is no such fleet.
    """
    await state.policies.of(fleet)
    if await snapshot.bot(state.live, fleet, bot) is None:
        raise no_such_bot(bot)


def tidy(subject: str) -> str:
    """The subject as rota has it: hostnames are in small letters."""
    host, slash, instance = subject.strip().partition("/")
    return host.lower() + slash + instance


async def _require(state: State, tx: Transaction, ordered: Drain) -> None:
    """Refuses to drain what there is not: most likely a slip of the pen."""
    if ordered.is_of_a_bot:
        await require_bot(state, ordered.fleet, ordered.subject)
        return
    if any(server.matches(ordered.subject) for server in await servers.all_of(tx, ordered.fleet)):
        return
    if ordered.subject not in await snapshot.servers(state.live, ordered.fleet):
        message = f"There is no server {ordered.subject}: it is not listed, and no bot has come from it."
        raise NotFoundError(message)


async def _carry_out(state: State, fleet: str) -> None:
    """Right away if live state is there; else the ledger holds the order and the steward carries it out."""
    try:
        await carry_out(state.ledger, state.live, fleet)
    except UnavailableError as error:
        log.warning("drain left to the steward", fleet=fleet, error=str(error))
