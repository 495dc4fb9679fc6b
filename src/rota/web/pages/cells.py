"""One bot as the pages show it: the one look that decides colour and shape, and the words beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rota.live.entries import ProfileView
from rota.live.snapshot import BotView
from rota.web.api.holds import lately_crashed
from rota.web.pages.rendering import link

LATE_INTERVALS = 1.5
"""Intervals without a beat after which a bot counts as late."""
LATE_GRACE = 1.0
"""Seconds on top, for short intervals."""
MOST_NAME = 48
"""Characters of a profile's name beside a bot, so that a page's size stays bounded; its own page has all of it."""

LOOKS = ("silent", "crashing", "stopping", "starting", "late", "draining", "quiet", "free", "working")
"""From the most urgent to the most usual; a bot has the first one that fits."""
MEANINGS = {
    "silent": "no sign of life; will be declared dead",
    "crashing": "works for a profile whose bots crashed or died early",
    "stopping": "told to stop its work",
    "starting": "given work, not yet confirmed",
    "late": "missed a beat",
    "draining": "finishes its work, then exits",
    "quiet": "takes nothing new",
    "free": "waits for work",
    "working": "at work, its beats come in time",
}


@dataclass(frozen=True)
class Cell:
    """One bot.

    look: one of `LOOKS`.
    says: its state in words, flags included (`working, draining`).
    profile_name: the profile's name, cut where it is long, its id where the ledger is away, empty where there is none.
    beat: Unix time of its last sign of life. Not compared: it moves with every beat.
    """

    id: str
    instance: str
    href: str
    look: str
    says: str
    profile: str | None
    profile_name: str
    status: str
    beat: float = field(compare=False)

    @property
    def beat_age(self) -> float:
        """Seconds since its last sign of life."""
        return time.time() - self.beat


def cell(bot: BotView, *, fleet: str, name: str, profile: ProfileView | None) -> Cell:
    """The bot as it is shown; `profile` is what live state knows of the profile it is bound to."""
    crashes = lately_crashed(profile) if profile else 0
    late = bot.beat_age > LATE_INTERVALS * bot.interval + LATE_GRACE
    return Cell(
        id=bot.id,
        instance=bot.instance,
        href=link("bots", bot.server, bot.instance, fleet=fleet),
        look=_look(bot, late=late, crashes=crashes),
        says=_says(bot, late=late, crashes=crashes),
        profile=bot.profile,
        profile_name=name if len(name) <= MOST_NAME else f"{name[: MOST_NAME - 1]}…",
        status=bot.status,
        beat=time.time() - bot.beat_age,
    )


def _look(bot: BotView, *, late: bool, crashes: int) -> str:
    fits = {
        "silent": bot.silent,
        "crashing": crashes > 0,
        "stopping": bot.phase == "stopping",
        "starting": bot.phase == "starting",
        "late": late,
        "draining": bot.draining,
        "quiet": bot.quiet,
        "free": bot.phase == "idle",
    }
    return next((look for look in LOOKS if fits.get(look)), "working")


def _says(bot: BotView, *, late: bool, crashes: int) -> str:
    words = ["free" if bot.phase == "idle" else bot.phase]
    if bot.silent:
        words.append("silent")
    elif late:
        words.append("late")
    if crashes:
        words.append(f"{crashes} crashes or early deaths lately" if crashes > 1 else "a crash or an early death lately")
    if bot.draining:
        words.append("draining")
    if bot.quiet:
        words.append("takes nothing new")
    return ", ".join(words)
