"""What bots and operators do to bots: auth, leave, resolve, drain, kill. Heartbeats live in `beats`.

Called by the web layer; each function is one script call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from rota.errors import (
    InvalidRequestError,
    NotFoundError,
    SupersededError,
    UnavailableError,
    UnknownBotError,
)
from rota.live.scripts import Live
from rota.protocol import Working, deadline_after_ms


@dataclass(frozen=True)
class Restored:
    """An assignment that a bot got back under the same epoch."""

    profile: str
    epoch: int
    revision: int


@dataclass(frozen=True)
class Newcomer:
    """A bot that enters; `labels` are its own and its server's, `digest` is the SHA-256 of its token."""

    id: str
    digest: bytes
    version: str
    labels: Mapping[str, str]
    address: str


async def auth(live: Live, fleet: str, newcomer: Newcomer, *, ttl: float, leased: Working | None) -> Restored | None:
    """Enters the bot into the roster; `leased` is the work that it proved by a genuine lease.

    Raises:
        UnavailableError: the store is away, or live state is being rebuilt.
    """
    details = json.dumps(
        {
            "version": newcomer.version,
            "labels": dict(newcomer.labels),
            "joined": datetime.now(UTC).isoformat(timespec="seconds"),
            "address": newcomer.address,
        }
    )
    reply = await live.call(
        "auth",
        fleet,
        newcomer.id,
        newcomer.digest,
        details,
        deadline_after_ms(ttl),
        leased.profile if leased else "",
        leased.epoch if leased else "",
    )
    if reply[0] == b"unbuilt":
        raise UnavailableError("Live state is being rebuilt from the ledger: keep working and try again.")
    if reply[1] == b"-":
        return None
    return Restored(profile=reply[1].decode(), epoch=int(reply[2]), revision=int(reply[3]))


async def leave(live: Live, fleet: str, bot: str, digest: bytes, reason: str) -> None:
    """Removes the bot at once; its profile waits again, or is held back after a crash.

    Raises:
        UnknownBotError: the token is not on the roster.
    """
    if await live.call("leave", fleet, bot, digest, reason) == b"unknown":
        raise UnknownBotError


async def resolve(
    live: Live, fleet: str, bot: str, digest: bytes, *, ttl: float, profile: str | None, epoch: int | None
) -> tuple[str, int]:
    """Profile and epoch that the bot's data belongs to; moves the bot's deadline.

    Raises:
        UnknownBotError: the token is not on the roster.
        SupersededError: the profile has a newer epoch or another owner.
        InvalidRequestError: nothing is named and nothing is bound, or the epoch was never granted.
    """
    reply = await live.call(
        "resolve", fleet, bot, digest, deadline_after_ms(ttl), profile or "", "" if epoch is None else epoch
    )
    code = reply[0]
    if code == b"unknown":
        raise UnknownBotError
    if code == b"superseded":
        raise SupersededError
    if code == b"none":
        raise InvalidRequestError("This bot has no assignment: name `profile` and `epoch` of the data.")
    if code == b"ahead":
        raise InvalidRequestError("That epoch was never granted for this profile.")
    return reply[1].decode(), int(reply[2])


async def kill(live: Live, fleet: str, bot: str) -> None:
    """Removes the bot at once; its profile is held until the bot's lease must be over.

    Raises:
        NotFoundError: there is no such bot on the roster.
    """
    if await live.call("kill", fleet, bot) == b"unknown":
        raise _no_bot(bot)


async def drain(live: Live, fleet: str, bot: str, *, draining: bool) -> None:
    """Lets the bot finish, take nothing new and exit; or take work again.

    Raises:
        NotFoundError: there is no such bot on the roster.
    """
    if await live.call("drain", fleet, bot, int(draining)) == b"unknown":
        raise _no_bot(bot)


def _no_bot(bot: str) -> NotFoundError:
    return NotFoundError(f"There is no bot {bot} on the roster; `rota bot list` shows who is.")
