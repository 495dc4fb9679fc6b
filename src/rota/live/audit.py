"""Is live state sound? Reads it in bounded steps, and looks at whatever seems wrong once more, atomically.

Between two steps things move, so that a first look may see a bot here and its profile there; only what is still wrong
in one transaction counts. The invariants are those of docs/states.md.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass

from rota.live import keys, snapshot
from rota.live.clock import clock, now_ms, read_clock
from rota.live.entries import (
    BOT_PHASES,
    PROFILE_PHASES,
    ProfileView,
    RosterEntry,
    parse_profile_entry,
    parse_roster_entry,
)
from rota.live.scripts import Live, pairs

STEP = 500
_PLACES = {
    True: {"waiting", "held", "starting", "working", "stopping"},
    False: {"stopped", "stopping", "deleted"},
}
"""Where a profile may stand that is wanted, and one that is not."""


@dataclass(frozen=True)
class Broken:
    """One invariant that does not hold, of which bot or profile."""

    subject: str
    message: str


@dataclass(frozen=True)
class PulseAge:
    """Whether live state was built, and the seconds since a web worker last said that it hears.

    `steward_age` is the seconds since a steward was last at work, infinite where none ever was. For `quiet_left`
    seconds more grants may have been lost, and whoever owned a profile may still come back with its lease.
    """

    built: bool
    pulse_age: float
    steward_age: float
    quiet_left: float

    @property
    def quiet(self) -> bool:
        """Nothing is given away."""
        return self.quiet_left > 0


async def pulse(live: Live, fleet: str) -> PulseAge:
    """See `PulseAge`."""
    time, offset, (built, heard, led, quiet) = await live.read(
        *clock(fleet), ("HMGET", keys.pulse(fleet), "built", "heard", "led", "quiet")
    )
    now = read_clock(time, offset)
    return PulseAge(
        built=built == b"1",
        pulse_age=(now - float(heard or 0)) / 1000,
        steward_age=(now - float(led)) / 1000 if led else math.inf,
        quiet_left=max(0.0, float(quiet or 0) - now) / 1000,
    )


async def overdue(live: Live, fleet: str, limit: int) -> list[tuple[str, float]]:
    """Bots whose deadline has passed, and for how many seconds."""
    now = await now_ms(live, fleet)
    (ids,) = await live.read(("ZRANGEBYSCORE", keys.due(fleet), "-inf", f"{now:.0f}", "LIMIT", 0, limit))
    if not ids:
        return []
    (scores,) = await live.read(("ZMSCORE", keys.due(fleet), *ids))
    return [
        (id_.decode(), max(0.0, (now - float(score)) / 1000))
        for id_, score in zip(ids, scores, strict=True)
        if score is not None
    ]


async def broken_invariants(live: Live, fleet: str, limit: int) -> list[Broken]:
    """At most `limit` invariants that do not hold."""
    found = await _totals(live, fleet)
    async for step in _scan(live, keys.roster(fleet)):
        for bot in await _odd_bots(live, fleet, step):
            found += await _bot(live, fleet, bot)
        if len(found) >= limit:
            return found[:limit]
    async for step in _scan(live, keys.profiles(fleet)):
        for profile in await _odd_profiles(live, fleet, step):
            found += await _profile(live, fleet, profile)
        if len(found) >= limit:
            return found[:limit]
    return found


async def torn(live: Live, fleet: str, cursor: int) -> tuple[int, list[tuple[str, str]], int]:
    """One step through the roster: how many bots, those of them whose profile seems not to name them, and how to go on.

    Things move while they are read: `bots.mend` looks again. The cursor is 0 at the beginning and at the end.
    """
    ((position, flat),) = await live.read(("HSCAN", keys.roster(fleet), cursor, "COUNT", STEP))
    entries = {id_.decode(): parse_roster_entry(entry) for id_, entry in pairs(flat)}
    bound = [(id_, one.profile, one) for id_, one in entries.items() if one.profile is not None]
    views = await snapshot.profiles(live, fleet, [profile for _, profile, _ in bound])
    odd = [(id_, profile) for id_, profile, one in bound if not _agree(id_, one, views.get(profile))]
    return len(entries), odd, int(position)


async def torn_from(live: Live, fleet: str, views: Iterable[ProfileView]) -> list[tuple[str, str]]:
    """The same of these profiles: those whose bot seems not to name them, each behind that bot."""
    bound = [(view.bot, view) for view in views if view.bot is not None]
    if not bound:
        return []
    (found,) = await live.read(("HMGET", keys.roster(fleet), *(bot for bot, _ in bound)))
    entries = [parse_roster_entry(entry) if entry is not None else None for entry in found]
    return [(bot, view.id) for (bot, view), entry in zip(bound, entries, strict=True) if not _agree(bot, entry, view)]


def _agree(bot: str, recorded: RosterEntry | None, view: ProfileView | None) -> bool:
    """Whether a bot and a profile name each other, under the same epoch and phase."""
    if recorded is None or view is None:
        return False
    return (recorded.profile, view.bot, view.epoch, view.phase) == (view.id, bot, recorded.epoch, recorded.phase)


async def _odd_bots(live: Live, fleet: str, entries: Mapping[str, bytes]) -> list[str]:
    """The bots of one step at which something seems wrong, in one round trip for all of them."""
    ids = list(entries)
    recorded = [parse_roster_entry(entry) for entry in entries.values()]
    servers: dict[str, list[str]] = {}
    for id_ in ids:
        servers.setdefault(id_.partition("/")[0], []).append(id_)
    deadlines, details, owners, *members = await live.read(
        ("ZMSCORE", keys.due(fleet), *ids),
        ("HMGET", keys.details(fleet), *ids),
        ("HMGET", keys.profiles(fleet), *(one.profile or "-" for one in recorded)),
        *(
            ("SMISMEMBER", keys.server(fleet, host), *(id_.partition("/")[2] for id_ in bots))
            for host, bots in servers.items()
        ),
    )
    there = {
        id_: bool(is_there)
        for step in zip(servers.values(), members, strict=True)
        for id_, is_there in zip(*step, strict=True)
    }
    odd = []
    for id_, one, deadline, known, owner in zip(ids, recorded, deadlines, details, owners, strict=True):
        complete = deadline is not None and known is not None and there[id_]
        view = parse_profile_entry(one.profile, owner) if one.profile is not None and owner is not None else None
        sound = _agree(id_, one, view) if one.profile is not None else one.phase == "idle"
        if not complete or not sound:
            odd.append(id_)
    return odd


async def _odd_profiles(live: Live, fleet: str, entries: Mapping[str, bytes]) -> list[str]:
    """The same for profiles."""
    views = [parse_profile_entry(id_, entry) for id_, entry in entries.items()]
    classes: dict[str, list[str]] = {}
    for view in views:
        classes.setdefault(view.class_, []).append(view.id)
    owners, held, *queues = await live.read(
        ("HMGET", keys.roster(fleet), *(view.bot or "-" for view in views)),
        ("ZMSCORE", keys.held(fleet), *entries),
        *(("ZMSCORE", keys.waiting(fleet, class_), *ids) for class_, ids in classes.items()),
    )
    waits = {
        id_: order is not None
        for step in zip(classes.values(), queues, strict=True)
        for id_, order in zip(*step, strict=True)
    }
    odd = []
    for view, owner, hold in zip(views, owners, held, strict=True):
        named = view.bot is None or (owner is not None and parse_roster_entry(owner).profile == view.id)
        placed = waits[view.id] == (view.phase == "waiting") and (hold is not None) == (view.phase == "held")
        if not named or not placed or view.phase not in _PLACES[view.wanted]:
            odd.append(view.id)
    return odd


async def _totals(live: Live, fleet: str) -> list[Broken]:
    roster, details, due, profiles, counts, servers = await live.read_at_once(
        ("HLEN", keys.roster(fleet)),
        ("HLEN", keys.details(fleet)),
        ("ZCARD", keys.due(fleet)),
        ("HLEN", keys.profiles(fleet)),
        ("HGETALL", keys.counts(fleet)),
        ("HVALS", keys.servers(fleet)),
    )
    counted = {name.decode(): int(number) for name, number in pairs(counts)}
    bots = sum(number for name, number in counted.items() if name.startswith("b"))
    numbers = {
        "roster": roster,
        "details": details,
        "due": due,
        "counts": bots,
        "servers": sum(map(int, servers)),
    }
    found = []
    if len(set(numbers.values())) > 1:
        text = ", ".join(f"{number} in {name}" for name, number in numbers.items())
        found.append(Broken(fleet, f"the keys of fleet {fleet} differ in how many bots there are: {text}"))
    counted_profiles = sum(number for name, number in counted.items() if name.startswith("p"))
    if counted_profiles != profiles:
        text = f"there are {profiles} profiles in fleet {fleet}, and the counts of all phases say {counted_profiles}"
        found.append(Broken(fleet, text))
    below = {name: number for name, number in counted.items() if number < 0}
    found += [
        Broken(fleet, f"{number} {_counted(name)} are counted in fleet {fleet}") for name, number in below.items()
    ]
    return found


def _counted(name: str) -> str:
    kind, phases = ("bots", BOT_PHASES) if name[0] == "b" else ("profiles", PROFILE_PHASES)
    return f"{phases.get(name[1:], name)} {kind}"


async def _bot(live: Live, fleet: str, bot: str) -> list[Broken]:
    """One bot, in one transaction."""
    entry, deadline, member, detail = await live.read_at_once(
        ("HGET", keys.roster(fleet), bot),
        ("ZSCORE", keys.due(fleet), bot),
        ("SISMEMBER", keys.server(fleet, bot.partition("/")[0]), bot.partition("/")[2]),
        ("HEXISTS", keys.details(fleet), bot),
    )
    if entry is None:
        return []
    found = []
    if deadline is None or not member or not detail:
        found.append(Broken(bot, f"bot {bot} has no deadline, no details, or is missing from its server's set"))
    recorded = parse_roster_entry(entry)
    if (recorded.profile is None) != (recorded.phase == "idle"):
        found.append(Broken(bot, f"bot {bot} is {recorded.phase} and bound to {recorded.profile}"))
    if recorded.profile is not None:
        found += await _binding(live, fleet, bot, recorded.profile)
    return found


async def _binding(live: Live, fleet: str, bot: str, profile: str) -> list[Broken]:
    recorded, view = await _both(live, fleet, bot, profile)
    if recorded is None or recorded.profile != profile:
        return []
    if not _agree(bot, recorded, view):
        told = "live state does not know" if view is None else f"is {view.phase} with {view.bot}, epoch {view.epoch}"
        here = f"bot {bot} is {recorded.phase} for profile {profile}, epoch {recorded.epoch}"
        return [Broken(bot, f"{here}, which {told}")]
    return []


async def _profile(live: Live, fleet: str, profile: str) -> list[Broken]:
    (entry,) = await live.read(("HGET", keys.profiles(fleet), profile))
    if entry is None:
        return []
    view = parse_profile_entry(profile, entry)
    found = []
    if view.bot is not None:
        recorded, view_now = await _both(live, fleet, view.bot, profile)
        if view_now == view and (recorded is None or recorded.profile != profile):
            found.append(Broken(profile, f"profile {profile} is bound to {view.bot}, which does not name it"))
    if view.phase not in _PLACES[view.wanted]:
        wish = "its client has started it" if view.wanted else "its client has not started it"
        found.append(Broken(profile, f"profile {profile} is {view.phase}, although {wish}"))
    return found + await _queue(live, fleet, profile)


async def _queue(live: Live, fleet: str, profile: str) -> list[Broken]:
    (entry,) = await live.read(("HGET", keys.profiles(fleet), profile))
    class_ = parse_profile_entry(profile, entry).class_ if entry else "-"
    entry, waits, held = await live.read_at_once(
        ("HGET", keys.profiles(fleet), profile),
        ("ZSCORE", keys.waiting(fleet, class_), profile),
        ("ZSCORE", keys.held(fleet), profile),
    )
    view = parse_profile_entry(profile, entry) if entry is not None else None
    if view is None or view.class_ != class_:
        return []
    if (waits is not None) != (view.phase == "waiting") or (held is not None) != (view.phase == "held"):
        return [Broken(profile, f"profile {profile} is {view.phase} and does not stand where such ones do")]
    return []


async def _both(live: Live, fleet: str, bot: str, profile: str) -> tuple[RosterEntry | None, ProfileView | None]:
    entry, other = await live.read_at_once(("HGET", keys.roster(fleet), bot), ("HGET", keys.profiles(fleet), profile))
    return (
        parse_roster_entry(entry) if entry is not None else None,
        parse_profile_entry(profile, other) if other is not None else None,
    )


async def _scan(live: Live, key: str) -> AsyncIterator[dict[str, bytes]]:
    """A hash, step by step; what is changed meanwhile may come twice."""
    cursor = 0
    while True:
        ((position, flat),) = await live.read(("HSCAN", key, cursor, "COUNT", STEP))
        if found := {name.decode(): value for name, value in pairs(flat)}:
            yield found
        cursor = int(position)
        if cursor == 0:
            return
