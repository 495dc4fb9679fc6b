"""The event stream: every move of live state, in order, with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rota.live import keys
from rota.live.scripts import Live, pairs

BLOCK_MS = 500
MOST_FOLLOWED = 1000


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


async def oldest(live: Live, fleet: str) -> str:
    """Id of the oldest event that is kept, `0` where there is none."""
    (entries,) = await live.read(("XRANGE", keys.events(fleet), "-", "+", "COUNT", 1))
    return entries[0][0].decode() if entries else "0"


async def newest(live: Live, fleet: str) -> str:
    """Id of the newest event, `0` where there is none; pages look at it to see whether anything moved."""
    (entries,) = await live.read(("XREVRANGE", keys.events(fleet), "+", "-", "COUNT", 1))
    return entries[0][0].decode() if entries else "0"


async def follow(live: Live, positions: Mapping[str, str]) -> dict[str, list[Event]]:
    """Events behind the given one of each fleet, as soon as there are any; waits for half a second at most."""
    names = {keys.events(fleet).encode(): fleet for fleet in positions}
    streams: tuple[str | bytes, ...] = (*names, *positions.values())
    (found,) = await live.read(("XREAD", "COUNT", MOST_FOLLOWED, "BLOCK", BLOCK_MS, "STREAMS", *streams))
    return {names[name]: [_event(entry) for entry in entries] for name, entries in _streams(found)}


def place(id_: str) -> tuple[int, int]:
    """An event's id as what it is ordered by."""
    ms, _, number = id_.partition("-")
    return int(ms), int(number or 0)


def _streams(found: Any) -> Iterable[tuple[bytes, Any]]:
    """XREAD's answer: a dict, or a list of pairs under the older wire protocol; nothing where nothing came."""
    if not found:
        return ()
    return found.items() if isinstance(found, dict) else found


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
