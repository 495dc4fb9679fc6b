"""What a fleet's bots were granted, and from when on: so that a deadline tells when its bot was last heard.

Live state keeps a bot's deadline alone. How long before it the sign of life came depends on the ttl that was granted
then, which may be another one now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rota.live.snapshot import Beat

KEPT = 16
TOLERANCE = 2.0
"""Seconds by which workers may differ in when they begin to grant something else."""


class Spell(NamedTuple):
    """A time in which a worker granted the same, up to the next one; `since` is by its monotonic clock, in seconds."""

    interval: float
    deadline_ms: int
    since: float


def followed(spells: Sequence[Spell], newest: Spell) -> tuple[Spell, ...]:
    """The newest and those before it, newest first, under which a deadline may still be to come."""
    kept, until = [newest], newest.since
    for spell in spells[: KEPT - 1]:
        if until + spell.deadline_ms / 1000 < newest.since:
            break
        kept.append(spell)
        until = spell.since
    return tuple(kept)


def last_beat(spells: Sequence[Spell], left_ms: float, now: float) -> Beat:
    """The sign of life that set a deadline which is so far away: in the newest of these spells that it may be from.

    Where it is from none that this worker knows, it is told as no older than what is granted now.
    """
    until = now
    for spell in spells:
        age = (spell.deadline_ms - left_ms) / 1000
        if spell.since - TOLERANCE <= now - age <= until + TOLERANCE:
            return Beat(max(0.0, age), spell.interval)
        until = spell.since
    newest = spells[0]
    age = (newest.deadline_ms - left_ms) / 1000
    return Beat(min(max(0.0, age), max(0.0, now - newest.since)), newest.interval)
