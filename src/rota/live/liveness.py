"""Pulse and reaping: who is heard, who has fallen silent, and when silence is held against nobody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from rota.live.entries import moment
from rota.live.scripts import Live
from rota.protocol import deadline_after_ms


@dataclass(frozen=True)
class Pulse:
    """What live state says of itself; no `incarnation` means that it is empty and has to be built."""

    incarnation: str | None
    built: bool
    deaf_until: datetime | None
    quiet_until: datetime | None


@dataclass(frozen=True)
class Reaped:
    """One step of reaping; `deaf` means that nobody was looked at."""

    count: int
    more: bool
    deaf: bool


async def pulse(
    live: Live,
    fleet: str,
    who: Literal["web", "steward", "built", "seal"],
    *,
    ttl: float,
    incarnation: str = "",
    known: str = "",
) -> Pulse:
    """Says that `who` is there; see `lua/pulse.lua` for what each one changes. `known` is the ledger's incarnation."""
    reply = await live.call("pulse", fleet, who, deadline_after_ms(ttl), incarnation, known)
    name, built, deaf, quiet = reply
    return Pulse(
        incarnation=name.decode() or None,
        built=bool(built),
        deaf_until=moment(int(deaf)),
        quiet_until=moment(int(quiet)),
    )


async def reap(live: Live, fleet: str, limit: int) -> Reaped:
    """Removes at most `limit` bots whose deadline has passed."""
    count, more = await live.call("reap", fleet, limit)
    return Reaped(count=max(0, int(count)), more=bool(more), deaf=int(count) < 0)
