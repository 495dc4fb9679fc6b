"""What bots and operators do to bots: auth, leave, resolve, drain, kill. Heartbeats live in `beats`.

Called by the web layer and the steward; each function is one script call, or a bounded number of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgpack

from rota.errors import (
    InvalidRequestError,
    NotFoundError,
    ProblemError,
    SlotContestedError,
    SupersededError,
    UnavailableError,
    UnknownBotError,
)
from rota.live import keys
from rota.live.clock import now_ms
from rota.live.entries import write_details
from rota.live.scripts import Live
from rota.protocol import Working, deadline_after_ms

STEP = 100
"""Bots flagged, or claims resolved, in one script call."""

KillReason = Literal["operator", "drain"]
"""An operator wants it; or the bot has not ended by the deadline of its drain."""


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


class Claim(NamedTuple):
    """Whose data a bot says to have: None stands for what it is bound to."""

    bot: str
    digest: bytes
    profile: str | None
    epoch: int | None


class Owned(NamedTuple):
    """The assignment that data belongs to."""

    profile: str
    epoch: int


class Unproven(NamedTuple):
    """An assignment of which live state does not know the grant, which may have been lost: the ledger knows."""

    profile: str
    epoch: int


async def auth(live: Live, fleet: str, newcomer: Newcomer, *, ttl: float, leased: Working | None) -> Restored | None:
    """Enters the bot into the roster; `leased` is the work that it proved by a genuine lease.

    Raises:
        UnavailableError: the store is away, or live state is being rebuilt.
        SlotContestedError: several processes fight for the slot.
    """
    reply = await live.call_together(
        "auth",
        fleet,
        newcomer.id,
        newcomer.digest,
        write_details(newcomer.version, datetime.now(UTC), newcomer.address, newcomer.labels),
        deadline_after_ms(ttl),
        leased.profile if leased else "",
        leased.epoch if leased else "",
    )
    if reply[0] == b"unbuilt":
        raise UnavailableError("Live state is being rebuilt from the ledger: keep working and try again.")
    if reply[0] == b"contested":
        raise SlotContestedError(retry_after=ttl / 3)
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
    live: Live, fleet: str, claims: Sequence[Claim], *, ttl: float
) -> list[Owned | Unproven | ProblemError]:
    """What the data of each bot belongs to, in the order of the claims; moves the bots' deadlines.

    In the place of a claim that is refused stands UnknownBotError (the token is not on the roster), SupersededError
    (the profile has a newer epoch or another owner) or InvalidRequestError (nothing is named and nothing bound).

    Raises:
        UnavailableError: the store is away.
    """
    found: list[Owned | Unproven | ProblemError] = []
    for start in range(0, len(claims), STEP):
        flat: list[str | bytes] = []
        for claim in claims[start : start + STEP]:
            flat += (claim.bot, claim.digest, claim.profile or "", "" if claim.epoch is None else str(claim.epoch))
        replies = await live.call("resolve", fleet, msgpack.packb(flat, use_bin_type=False), deadline_after_ms(ttl))
        found += [_owned(*replies[at : at + 3]) for at in range(0, len(replies), 3)]
    return found


def _owned(code: bytes, profile: bytes, epoch: bytes) -> Owned | Unproven | ProblemError:
    if code == b"ok":
        return Owned(profile.decode(), int(epoch))
    if code == b"unproven":
        return Unproven(profile.decode(), int(epoch))
    if code == b"unknown":
        return UnknownBotError()
    if code == b"superseded":
        return SupersededError()
    return InvalidRequestError("This bot has no assignment: name `profile` and `epoch` of the data.")


async def kill(live: Live, fleet: str, bot: str, reason: KillReason = "operator") -> None:
    """Removes the bot at once; its profile is held until the bot's lease must be over.

    `reason` is for history.

    Raises:
        NotFoundError: there is no such bot on the roster.
    """
    if await live.call("kill", fleet, bot, reason) == b"unknown":
        raise _no_bot(bot)


async def mend(live: Live, fleet: str, bot: str, profile: str) -> bool:
    """Parts the two where they do not name each other in the same way; whether they did not."""
    return bool(await live.call("mend", fleet, bot, profile))


async def drain(live: Live, fleet: str, subject: str, *, draining: bool) -> int:
    """Lets a bot, or all bots of a server, finish, take nothing new and exit; or take work again. Idempotent.

    `subject` is a hostname or a bot's id; bots that come in later find the order. Returns how many bots changed.

    Raises:
        NotFoundError: the subject is a bot that is not on the roster. While all may still come back after a loss, it
            is drained when it comes.
    """
    ids = [subject] if "/" in subject else await members(live, fleet, subject)
    changed = 0
    for start in range(0, max(1, len(ids)), STEP):
        step = int(await live.call("drain", fleet, subject, int(draining), msgpack.packb(ids[start : start + STEP])))
        if step < 0:
            raise _no_bot(subject)
        changed += step
    return changed


async def drained(live: Live, fleet: str) -> set[str]:
    """The hostnames and bots that live state holds to be draining."""
    (subjects,) = await live.read(("SMEMBERS", keys.drains(fleet)))
    return {subject.decode() for subject in subjects}


async def members(live: Live, fleet: str, hostname: str) -> list[str]:
    """The ids of a server's bots, in no order."""
    (instances,) = await live.read(("SMEMBERS", keys.server(fleet, hostname)))
    return [f"{hostname}/{instance.decode()}" for instance in instances]


async def contested(live: Live, fleet: str, limit: int) -> list[str]:
    """At most `limit` bots for whose slots several processes fight."""
    now = await now_ms(live, fleet)
    (ids,) = await live.read(("ZRANGEBYSCORE", keys.contested(fleet), f"{now:.0f}", "+inf", "LIMIT", 0, limit))
    return [id_.decode() for id_ in ids]


def _no_bot(bot: str) -> NotFoundError:
    return NotFoundError(f"There is no bot {bot} on the roster; `rota bot list` shows who is.")
