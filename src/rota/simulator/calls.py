"""The calls that a simulated bot wants made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Errand(StrEnum):
    """The calls of the protocol, by the last part of their path."""

    AUTH = "auth"
    BEAT = "heartbeat"
    PUSH = "push_data"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Call:
    """One call to send now. `era` tells whether the bot still listens when the answer comes."""

    errand: Errand
    body: bytes
    token: str | None
    era: int
