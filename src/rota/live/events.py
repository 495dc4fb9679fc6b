"""The event stream: every move of live state, in order, with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rota.live import keys
from rota.live.scripts import Live, pairs


@dataclass(frozen=True)
class Event:
    """One move. `id` is the stream's (`<ms>-<n>`); kinds are listed in docs/states.md."""

    id: str
    at: datetime
    kind: str
    bot: str | None
    profile: str | None
    epoch: int | None
    reason: str | None


async def after(live: Live, fleet: str, last: str, limit: int) -> list[Event]:
    """At most `limit` events behind the one with id `last` (`0` for all), oldest first."""
    (entries,) = await live.read(("XRANGE", keys.events(fleet), f"({last}", "+", "COUNT", limit))
    return [_event(entry) for entry in entries]


async def newest(live: Live, fleet: str) -> str:
    """Id of the newest event, `0` where there is none; pages look at it to see whether anything moved."""
    (entries,) = await live.read(("XREVRANGE", keys.events(fleet), "+", "-", "COUNT", 1))
    return entries[0][0].decode() if entries else "0"


def _event(entry: Any) -> Event:
    id_, fields = entry[0].decode(), entry[1]
    value = {name.decode(): text.decode() or None for name, text in pairs(fields)}
    return Event(
        id=id_,
        at=datetime.fromtimestamp(int(id_.partition("-")[0]) / 1000, UTC),
        kind=value["kind"] or "",
        bot=value["bot"],
        profile=value["profile"],
        epoch=int(value["epoch"]) if value["epoch"] and value["epoch"] != "0" else None,
        reason=value["reason"],
    )
