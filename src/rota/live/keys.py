"""Every key of live state, one function each; `docs/keys.md` says what each one holds.

All keys of a fleet share the tag `{fleet}`, so that scripts are atomic in a Cluster too.
"""

from __future__ import annotations


def roster(fleet: str) -> str:
    """Hash: bot id → entry (digest, phase, flag, profile, epoch, revision, status) as one short string."""
    return f"{{{fleet}}}:roster"


def details(fleet: str) -> str:
    """Hash: bot id → JSON array for people: version, joined, address, and labels where there are any."""
    return f"{{{fleet}}}:details"


def due(fleet: str) -> str:
    """Sorted set: bot id → deadline in ms."""
    return f"{{{fleet}}}:due"


def profiles(fleet: str) -> str:
    """Hash: profile id → entry: bot, epoch, revision, version, want, phase, since; the rest only where unusual."""
    return f"{{{fleet}}}:profiles"


def classes(fleet: str) -> str:
    """Set: the classes (sets of required labels, as canonical text) in which a profile waits."""
    return f"{{{fleet}}}:classes"


def held(fleet: str) -> str:
    """Sorted set: profile id → not before, in ms."""
    return f"{{{fleet}}}:held"


def counts(fleet: str) -> str:
    """Hash: `b` or `p` and a phase's letter → number of bots or profiles in it."""
    return f"{{{fleet}}}:counts"


def events(fleet: str) -> str:
    """Stream: every move, in order: kind, bot, profile, epoch, reason."""
    return f"{{{fleet}}}:events"


def pulse(fleet: str) -> str:
    """Hash: incarnation, built, run, heard, led, deaf, quiet, lease, kept, offset, steps, form."""
    return f"{{{fleet}}}:pulse"


def servers(fleet: str) -> str:
    """Hash: hostname → number of its bots on the roster."""
    return f"{{{fleet}}}:servers"


def drains(fleet: str) -> str:
    """Set: hostnames and bot ids that are to finish what they have and take nothing new."""
    return f"{{{fleet}}}:drains"


def contested(fleet: str) -> str:
    """Sorted set: bot id → until when several processes are held to fight for its slot, in ms."""
    return f"{{{fleet}}}:contested"


def server(fleet: str, hostname: str) -> str:
    """Set: the instances of one server's bots."""
    return f"{{{fleet}}}:server:{hostname}"


def waiting(fleet: str, class_: str) -> str:
    """Sorted set: profile id → order (priority first, then time) of the profiles that wait in one class."""
    return f"{{{fleet}}}:waiting:{class_}"


def script_keys(fleet: str) -> list[str]:
    """What every script gets as KEYS, in the order of `lua/_moves.lua`; the last two are prefixes of names."""
    return [
        roster(fleet),
        details(fleet),
        due(fleet),
        profiles(fleet),
        classes(fleet),
        held(fleet),
        counts(fleet),
        events(fleet),
        pulse(fleet),
        servers(fleet),
        drains(fleet),
        contested(fleet),
        server(fleet, ""),
        waiting(fleet, ""),
    ]
