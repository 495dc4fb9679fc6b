"""Reads all of a fleet's live state in one transaction and states what must always be true of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rota.live import keys
from rota.live.entries import (
    BOT_PHASES,
    PROFILE_PHASES,
    ProfileView,
    RosterEntry,
    parse_profile_entry,
    parse_roster_entry,
)
from rota.live.scripts import Live

_READ = """
local function all(command, key, ...) return redis.call(command, key, ...) end
local sets, queues = {}, {}
local servers = redis.call('HGETALL', KEYS[7])
for i = 1, #servers, 2 do
  sets[#sets + 1] = {servers[i], redis.call('SMEMBERS', KEYS[8] .. servers[i])}
end
for _, class in ipairs(redis.call('SMEMBERS', KEYS[9])) do
  queues[#queues + 1] = {class, redis.call('ZRANGE', KEYS[10] .. class, 0, -1)}
end
return {all('HGETALL', KEYS[1]), all('HGETALL', KEYS[2]), all('ZRANGE', KEYS[3], 0, -1), all('HKEYS', KEYS[4]),
  all('ZRANGE', KEYS[5], 0, -1), all('HGETALL', KEYS[6]), servers, sets, queues}
"""


@dataclass
class Everything:
    roster: dict[str, RosterEntry]
    profiles: dict[str, ProfileView]
    due: set[str]
    details: set[str]
    held: set[str]
    counts: dict[str, int]
    servers: dict[str, int]
    members: dict[str, set[str]] = field(default_factory=dict)
    queues: dict[str, set[str]] = field(default_factory=dict)


async def read_everything(live: Live, fleet: str) -> Everything:
    names = [
        keys.roster(fleet),
        keys.profiles(fleet),
        keys.due(fleet),
        keys.details(fleet),
        keys.held(fleet),
        keys.counts(fleet),
        keys.servers(fleet),
        keys.server(fleet, ""),
        keys.classes(fleet),
        keys.waiting(fleet, ""),
    ]
    (reply,) = await live.read(("EVAL", _READ, len(names), *names))
    roster, profiles, due, details, held, counts, servers, sets, queues = reply
    return Everything(
        roster={id_.decode(): parse_roster_entry(entry) for id_, entry in _pairs(roster)},
        profiles={id_.decode(): parse_profile_entry(id_.decode(), entry) for id_, entry in _pairs(profiles)},
        due=_texts(due),
        details=_texts(details),
        held=_texts(held),
        counts={name.decode(): int(number) for name, number in _pairs(counts)},
        servers={name.decode(): int(number) for name, number in _pairs(servers)},
        members={name.decode(): {f"{name.decode()}/{one}" for one in _texts(found)} for name, found in sets},
        queues={name.decode(): _texts(ids) for name, ids in queues},
    )


def check(state: Everything) -> None:
    """The invariants 1, 3, 4 and 5 of docs/states.md."""
    _bindings_name_each_other(state)
    _every_bot_is_everywhere(state)
    _every_profile_has_its_place(state)
    _counts_are_right(state)


def _bindings_name_each_other(state: Everything) -> None:
    for id_, bot in state.roster.items():
        assert (bot.profile is None) == (bot.phase == "idle"), (id_, bot)
        if bot.profile is not None:
            profile = state.profiles[bot.profile]
            assert (profile.bot, profile.epoch, profile.phase) == (id_, bot.epoch, bot.phase), (bot, profile)
    for profile in state.profiles.values():
        if profile.bot is not None:
            assert state.roster[profile.bot].profile == profile.id, profile


def _every_bot_is_everywhere(state: Everything) -> None:
    ids = set(state.roster)
    assert state.due == ids
    assert state.details == ids
    assert {bot for members in state.members.values() for bot in members} == ids
    for server, members in state.members.items():
        assert all(bot.startswith(f"{server}/") for bot in members)
        assert state.servers[server] == len(members) > 0


def _every_profile_has_its_place(state: Everything) -> None:
    waiting = [id_ for members in state.queues.values() for id_ in members]
    assert len(waiting) == len(set(waiting))
    assert all(state.queues.values()), "an empty class is still listed"
    for id_, profile in state.profiles.items():
        assert (id_ in waiting) == (profile.phase == "waiting"), profile
        assert (id_ in state.held) == (profile.phase == "held"), profile
        if profile.wanted:
            assert profile.phase in ("waiting", "held", "starting", "working", "stopping"), profile
        else:
            assert profile.phase in ("stopped", "stopping", "deleted"), profile
    assert set(waiting) | state.held <= set(state.profiles)


def _counts_are_right(state: Everything) -> None:
    bots = Counter(bot.phase for bot in state.roster.values())
    profiles = Counter(profile.phase for profile in state.profiles.values())
    for letter, word in BOT_PHASES.items():
        assert state.counts.get(f"b{letter}", 0) == bots[word], (word, state.counts, bots)
    for letter, word in PROFILE_PHASES.items():
        assert state.counts.get(f"p{letter}", 0) == profiles[word], (word, state.counts, profiles)


def _texts(values: Any) -> set[str]:
    return {value.decode() for value in values}


def _pairs(flat: Any) -> Any:
    return flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
