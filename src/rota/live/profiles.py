"""What clients want of profiles, taken over into live state, and the moves that time makes.

Called with what the ledger says; each function is one script call or a bounded number of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgpack

from rota.errors import NotFoundError
from rota.live.entries import WANTS, WantWord, class_of
from rota.live.scripts import Live

STEP = 64
"""Wishes in one script call."""


@dataclass(frozen=True)
class Want:
    """What the ledger says of one profile; `version` rises with every change, `epoch` is the highest handed out."""

    profile: str
    version: int
    want: WantWord
    revision: int
    priority: int
    labels: Mapping[str, str]
    epoch: int


async def want(live: Live, fleet: str, wants: Sequence[Want], *, anew: bool = False) -> int:
    """Applies the wishes; returns how many were new to live. Idempotent; older versions than known are ignored.

    With `anew` they count whatever their version, and a bot that works under an older epoch than the wish's is parted
    from the profile: only for wishes that cannot change meanwhile, where live state was found to differ.
    """
    applied = 0
    for start in range(0, len(wants), STEP):
        applied += int(await live.call("want", fleet, packed(wants[start : start + STEP]), int(anew)))
    return applied


def packed(wants: Sequence[Want]) -> bytes:
    """Wishes as `want.lua` takes them."""
    flat: list[str | int] = []
    for wish in wants:
        class_ = class_of(wish.labels)
        flat += [wish.profile, wish.version, WANTS[wish.want], wish.revision, wish.priority, class_, wish.epoch]
    found: bytes = msgpack.packb(flat)
    return found


async def release(live: Live, fleet: str, profile: str) -> None:
    """Forgets the profile's crashes and lets it wait again.

    Raises:
        NotFoundError: live state does not know the profile.
    """
    if await live.call("release", fleet, profile) == b"unknown":
        raise NotFoundError(f"Live state does not know the profile {profile}.")


async def promote(live: Live, fleet: str, limit: int) -> tuple[int, bool]:
    """Lets at most `limit` held profiles wait whose time has come; returns how many, and whether there are more."""
    promoted, more = await live.call("promote", fleet, limit)
    return int(promoted), bool(more)
