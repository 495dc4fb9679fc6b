"""The short strings that live state is made of, written and read on Python's side; `lua/_moves.lua` is the other side.

The web worker writes down a roster entry AS IT WOULD BE IF NOTHING HAD CHANGED; `beat.lua` only compares.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

WantWord = Literal["started", "stopped", "deleted"]

DIGEST_BYTES = 16
"""Of a token's SHA-256: nobody finds another token with the same 128 bits, and every byte counts a million times."""

BOT_PHASES = {"i": "idle", "s": "starting", "w": "working", "x": "stopping"}
PROFILE_PHASES = {
    "o": "stopped",
    "q": "waiting",
    "h": "held",
    "s": "starting",
    "w": "working",
    "x": "stopping",
    "d": "deleted",
}
_USUAL = ("0", "0", "0", "0", "-")
WANTS: dict[WantWord, str] = {"started": "1", "stopped": "0", "deleted": "d"}
_WANT_WORDS = {letter: word for word, letter in WANTS.items()}


class RosterEntry(NamedTuple):
    """One bot's entry; `flag` is 1 or a accepting, 0 or q quiet, d draining."""

    digest: bytes
    phase: str
    flag: str
    profile: str | None
    epoch: int
    revision: int
    status: str


@dataclass(frozen=True)
class ProfileView:
    """What live state knows of one profile; `since` is when its phase began, `not_before` when a hold ends.

    `held_for` is what ends last: the delay after a crash, or the lease of a bot that was killed or replaced.
    """

    id: str
    phase: str
    bot: str | None
    epoch: int
    revision: int
    since: datetime | None
    crashes: int
    not_before: datetime | None
    last_bot: str | None
    want: WantWord
    version: int
    priority: int
    class_: str
    held_for: Literal["crash", "lease"] | None = None

    @property
    def wanted(self) -> bool:
        """Whether somebody is to work for it."""
        return self.want == "started"


class Details(NamedTuple):
    """What is kept of a bot for people, and the labels by which it is chosen."""

    version: str
    joined: datetime
    address: str
    labels: dict[str, str]


def write_details(version: str, joined: datetime, address: str, labels: Mapping[str, str]) -> str:
    """A bot's details as a JSON array: names would be most of it, a million times. No labels are left out."""
    parts = [version, int(joined.timestamp()), address, *([dict(labels)] if labels else [])]
    return json.dumps(parts, separators=(",", ":"))


def parse_details(text: bytes) -> Details:
    """Reads a bot's details; what `auth.lua` adds behind them of a process that was replaced is left out."""
    version, joined, address, *more = json.loads(text)
    labels = more[0] if more and isinstance(more[0], dict) else {}
    return Details(version, datetime.fromtimestamp(joined, UTC), address, labels)


def idle_entry(digest: bytes, *, accepting: bool, status: str) -> bytes:
    """The roster entry of a bot that reports no work."""
    return b"%bi%b - 0 0 %b" % (digest, b"1" if accepting else b"0", status.encode())


def idle_entry_of(digest: bytes, *, accepting: bool, status: str, profile: str, epoch: int) -> bytes:
    """The roster entry of a bot that reports no work and tells what it has ended: an assignment, or `-` and 0."""
    flag = b"a" if accepting else b"q"
    return b"%bi%b %b %d 0 %b" % (digest, flag, profile.encode(), epoch, status.encode())


def repeated_entry(entry: bytes) -> bytes:
    """A held beat's entry, told once more: it is older than what may have come since, so an idle one ends no work."""
    if entry[DIGEST_BYTES : DIGEST_BYTES + 1] != b"i":
        return entry
    head, flag, rest = entry[: DIGEST_BYTES + 1], entry[DIGEST_BYTES + 1 : DIGEST_BYTES + 2], entry[DIGEST_BYTES + 2 :]
    return head + {b"1": b"a", b"0": b"q"}.get(flag, flag) + rest


def working_entry(digest: bytes, profile: str, epoch: int, revision: int, *, accepting: bool, status: str) -> bytes:
    """The roster entry of a bot that reports work."""
    flag = b"1" if accepting else b"0"
    return b"%bw%b %b %d %d %b" % (digest, flag, profile.encode(), epoch, revision, status.encode())


def parse_roster_entry(entry: bytes) -> RosterEntry:
    """Reads an entry as it stands in the roster."""
    digest, text = entry[:DIGEST_BYTES], entry[DIGEST_BYTES:].decode()
    profile, epoch, revision, status = text[3:].split(" ", 3)
    return RosterEntry(
        digest=digest,
        phase=BOT_PHASES[text[0]],
        flag=text[1],
        profile=None if profile == "-" else profile,
        epoch=int(epoch),
        revision=int(revision),
        status=status,
    )


def parse_profile_entry(profile: str, entry: bytes) -> ProfileView:
    """Reads an entry as it stands in `profiles`."""
    bot, epoch, revision, version, want, phase, since, *rest = entry.decode().split(" ", 11)
    crashes, after, lease, priority, class_ = rest or _USUAL
    last_bot = None if bot == "-" else bot
    hold = max(int(after), int(lease))
    return ProfileView(
        id=profile,
        phase=PROFILE_PHASES[phase],
        bot=last_bot if phase in "swx" else None,
        epoch=int(epoch),
        revision=int(revision),
        since=moment(int(since)),
        crashes=int(crashes),
        not_before=moment(hold) if phase == "h" else None,
        last_bot=last_bot,
        want=_WANT_WORDS[want],
        version=int(version),
        priority=int(priority),
        class_=class_,
        held_for=None if phase != "h" else "lease" if int(lease) > int(after) else "crash",
    )


def moment(ms: float) -> datetime | None:
    """Milliseconds since 1970 as a time in UTC; None for 0."""
    return datetime.fromtimestamp(ms / 1000, UTC) if ms > 0 else None


def class_of(labels: Mapping[str, str]) -> str:
    """The canonical text of required labels, `a=1,b=2`, or `-` for none."""
    return ",".join(f"{name}={labels[name]}" for name in sorted(labels)) or "-"


def required_labels(class_: str) -> frozenset[tuple[str, str]]:
    """The labels of which `class_of` made the text.

    >>> sorted(required_labels("kind=site,region=eu"))
    [('kind', 'site'), ('region', 'eu')]
    """
    if class_ == "-":
        return frozenset()
    return frozenset((name, value) for name, _, value in (part.partition("=") for part in class_.split(",")))
