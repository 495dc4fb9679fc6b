"""What clients want of profiles, taken over into live state, and the moves that time makes.

Called with what the ledger says; each function is one script call or a bounded number of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgpack

from rota.errors import NotFoundError
from rota.live.entries import WANTS, class_of
from rota.live.scripts import Live

STEP = 64
"""Wishes in one script call."""


@dataclass(frozen=True)
class Want:
    """What the ledger says of one profile; `version` rises with every change, `epoch` is the highest handed out."""

    profile: str
    version: int
    want: Literal["started", "stopped", "deleted"]
    revision: int
    priority: int
    labels: Mapping[str, str]
    epoch: int


async def want(live: Live, fleet: str, wants: Sequence[Want]) -> int:
    """Applies the wishes; returns how many were new to live. Idempotent; older versions than known are ignored."""
    applied = 0
    for start in range(0, len(wants), STEP):
        flat: list[str | int] = []
        for wish in wants[start : start + STEP]:
            class_ = class_of(wish.labels)
            flat += [
                wish.profile,
                wish.version,
                WANTS[wish.want],
                wish.revision,
                wish.priority,
                class_,
                wish.epoch,
            ]
        applied += int(await live.call("want", fleet, msgpack.packb(flat)))
    return applied


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
