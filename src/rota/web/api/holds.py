"""What crashes mean for a profile, in a number and in words, as REST and the pages tell it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rota.live.entries import ProfileView

CRASHES_COUNT_FOR = timedelta(minutes=10)
"""As long as live state holds crashes against a profile that works again."""


def lately_crashed(view: ProfileView) -> int:
    """How many of its bots crashed, or died soon after their start, in a row, as far as that is held against it."""
    if view.phase == "working" and view.since and datetime.now(UTC) - view.since >= CRASHES_COUNT_FOR:
        return 0
    return view.crashes


def attempt(view: ProfileView) -> int:
    """Which try the present or the next one is; 1 where nothing is held against the profile."""
    return lately_crashed(view) + 1


def held_because(view: ProfileView) -> str | None:
    """Why a held profile is not given to a bot at once; None where it is not held."""
    if view.held_for is None:
        return None
    if view.held_for == "lease":
        return "a bot that was killed or replaced may work on it until its lease is over"
    if view.crashes == 1:  # a first early death holds nothing back
        return "its bot crashed once"
    return f"its bots crashed, or died soon after their start, {view.crashes} times in a row"
