"""Bounded reads of live state for pages, REST, CLI and checks. Nothing here changes anything."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from rota.live import keys
from rota.live.clock import clock, read_clock
from rota.live.entries import (
    BOT_PHASES,
    PROFILE_PHASES,
    ProfileView,
    parse_details,
    parse_profile_entry,
    parse_roster_entry,
)
from rota.live.scripts import Live, pairs

STEP = 500
"""Bots or profiles read in one round trip."""


class Beat(NamedTuple):
    """A bot's last sign of life: seconds since then, and the interval that it was granted, in seconds."""

    age: float
    interval: float


BeatOf = Callable[[float], Beat]
"""What the milliseconds that are left until a bot's deadline tell of its last sign of life."""


def unknown_beat(_: float) -> Beat:
    """For whoever does not ask when bots were heard."""
    return Beat(0.0, math.inf)


@dataclass(frozen=True)
class BotView:
    """One bot as people see it; `beat_age` is in seconds, `silent` means that its deadline has passed.

    `interval` is what it was granted with that beat, in seconds.
    """

    id: str
    server: str
    instance: str
    phase: str
    draining: bool
    quiet: bool
    profile: str | None
    epoch: int | None
    revision: int | None
    status: str
    version: str
    labels: dict[str, str]
    joined_at: datetime
    beat_age: float
    interval: float
    silent: bool


@dataclass(frozen=True)
class Totals:
    """How many bots and profiles are in each phase, in words."""

    bots: dict[str, int]
    profiles: dict[str, int]

    @property
    def bots_total(self) -> int:
        """Bots on the roster."""
        return sum(self.bots.values())

    @property
    def free(self) -> int:
        """Bots that work for nobody."""
        return self.bots["idle"]

    @property
    def profiles_total(self) -> int:
        """Profiles that are not deleted."""
        return sum(self.profiles.values())


async def totals(live: Live, fleet: str) -> Totals:
    """The fleet's totals, in one read of its counters."""
    (flat,) = await live.read(("HGETALL", keys.counts(fleet)))
    counted = {name.decode(): int(number) for name, number in pairs(flat)}
    return Totals(
        bots={word: counted.get(f"b{letter}", 0) for letter, word in BOT_PHASES.items()},
        profiles={word: counted.get(f"p{letter}", 0) for letter, word in PROFILE_PHASES.items() if letter != "d"},
    )


async def servers(live: Live, fleet: str) -> dict[str, int]:
    """Hostname → number of its bots on the roster."""
    (flat,) = await live.read(("HGETALL", keys.servers(fleet)))
    found = ((name.decode(), int(number)) for name, number in pairs(flat))
    return dict(sorted(found, key=lambda pair: natural(pair[0])))


async def bots(
    live: Live, fleet: str, *, server: str, after: str = "", limit: int = 100, beat_of: BeatOf
) -> list[BotView]:
    """At most `limit` bots of one server in natural order, behind the bot with id `after`."""
    (members,) = await live.read(("SMEMBERS", keys.server(fleet, server)))
    ids = sorted((f"{server}/{member.decode()}" for member in members), key=natural)
    if after:
        ids = [id_ for id_ in ids if natural(id_) > natural(after)]
    return await named(live, fleet, ids[:limit], beat_of=beat_of)


async def page(
    live: Live, fleet: str, *, server: str | None, phase: str | None, limit: int, after: str, beat_of: BeatOf
) -> tuple[list[BotView], str | None]:
    """One page of a fleet's bots, server by server, and the id to go on behind (None at the end).

    `server` and `phase` leave the others out; a server's bots are looked through in steps, so the work is bounded by
    the bots that are passed over.
    """
    hosts = [server] if server is not None else list(await servers(live, fleet))
    start = after.partition("/")[0]
    found: list[BotView] = []
    for host in hosts:
        if start and natural(host) < natural(start):
            continue
        last = after if host == start else ""
        while step := await bots(live, fleet, server=host, after=last, limit=STEP, beat_of=beat_of):
            found += [view for view in step if phase is None or view.phase == phase]
            last = step[-1].id
            if len(found) > limit:
                return found[:limit], found[limit - 1].id
            if len(step) < STEP:
                break
    return found, None


async def bot(live: Live, fleet: str, bot_id: str, *, beat_of: BeatOf = unknown_beat) -> BotView | None:
    """One bot, or None where it is not on the roster."""
    found = await named(live, fleet, [bot_id], beat_of=beat_of)
    return found[0] if found else None


async def named(live: Live, fleet: str, ids: Sequence[str], *, beat_of: BeatOf = unknown_beat) -> list[BotView]:
    """Those of these bots that are on the roster."""
    found: list[BotView] = []
    for part in _batched(ids):
        entries, details, deadlines, *time = await live.read(
            ("HMGET", keys.roster(fleet), *part),
            ("HMGET", keys.details(fleet), *part),
            ("ZMSCORE", keys.due(fleet), *part),
            *clock(fleet),
        )
        now_ms = read_clock(*time)
        for id_, entry, detail, deadline in zip(part, entries, details, deadlines, strict=True):
            # A bot may have gone between these reads.
            if entry is not None and detail is not None and deadline is not None:
                found.append(_view(id_, entry, detail, float(deadline) - now_ms, beat_of))
    return found


async def labels(live: Live, fleet: str, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """The labels by which these bots are chosen; those that are not on the roster are left out."""
    found: dict[str, dict[str, str]] = {}
    for part in _batched(ids):
        (details,) = await live.read(("HMGET", keys.details(fleet), *part))
        found |= {id_: parse_details(text).labels for id_, text in zip(part, details, strict=True) if text is not None}
    return found


async def profiles(live: Live, fleet: str, ids: Sequence[str]) -> dict[str, ProfileView]:
    """What live state knows of these profiles; unknown ones are left out."""
    found: dict[str, ProfileView] = {}
    for part in _batched(ids):
        (entries,) = await live.read(("HMGET", keys.profiles(fleet), *part))
        for id_, entry in zip(part, entries, strict=True):
            if entry is not None:
                found[id_] = parse_profile_entry(id_, entry)
    return found


async def scan_profiles(live: Live, fleet: str, cursor: int) -> tuple[list[ProfileView], int]:
    """Some hundreds of all profiles that live state knows, and the cursor of the next ones (0 at the end)."""
    ((position, flat),) = await live.read(("HSCAN", keys.profiles(fleet), cursor, "COUNT", STEP))
    return [parse_profile_entry(name.decode(), entry) for name, entry in pairs(flat)], int(position)


async def waiting(live: Live, fleet: str, limit: int) -> list[ProfileView]:
    """The first `limit` waiting profiles of all classes, in the order in which they will be served."""
    (classes,) = await live.read(("SMEMBERS", keys.classes(fleet)))
    if not classes:
        return []
    names = sorted(name.decode() for name in classes)
    heads = await live.read(*(("ZRANGE", keys.waiting(fleet, name), 0, limit - 1, "WITHSCORES") for name in names))
    ordered = sorted((score, id_) for head in heads for id_, score in _scored(head))
    return await _profile_list(live, fleet, [id_ for _, id_ in ordered[:limit]])


async def held(live: Live, fleet: str, limit: int) -> list[ProfileView]:
    """The first `limit` held profiles, the one that ends first in front."""
    (ids,) = await live.read(("ZRANGE", keys.held(fleet), 0, limit - 1))
    return await _profile_list(live, fleet, [id_.decode() for id_ in ids])


async def _profile_list(live: Live, fleet: str, ids: list[str]) -> list[ProfileView]:
    found = await profiles(live, fleet, ids)
    return [found[id_] for id_ in ids if id_ in found]


def _view(id_: str, entry: bytes, detail: bytes, left_ms: float, beat_of: BeatOf) -> BotView:
    recorded, known = parse_roster_entry(entry), parse_details(detail)
    server, _, instance = id_.partition("/")
    beat = beat_of(left_ms)
    return BotView(
        id=id_,
        server=server,
        instance=instance,
        phase=recorded.phase,
        draining=recorded.flag == "d",
        quiet=recorded.flag in "0q",
        profile=recorded.profile,
        epoch=recorded.epoch or None,
        revision=recorded.revision or None,
        status=recorded.status,
        version=known.version,
        labels=known.labels,
        joined_at=known.joined,
        beat_age=beat.age,
        interval=beat.interval,
        silent=left_ms < 0,
    )


def _batched(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[start : start + STEP] for start in range(0, len(ids), STEP))


def _scored(head: Any) -> Iterable[tuple[str, float]]:
    """ZRANGE WITHSCORES: a list of pairs, or a flat list under the older wire protocol."""
    if head and isinstance(head[0], list | tuple):
        return ((id_.decode(), float(score)) for id_, score in head)
    return ((id_.decode(), float(score)) for id_, score in zip(head[::2], head[1::2], strict=True))


def natural(text: str) -> list[tuple[int, int | str]]:
    """Sorts `web-2` before `web-10`."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text)]
