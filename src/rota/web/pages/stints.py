"""Past and present assignments as the pages of a bot and of a profile list them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rota.ledger.history import PastAssignment
from rota.web.pages.rendering import link


@dataclass(frozen=True)
class Stint:
    """One assignment.

    reason: why it ended; empty while it lasts.
    """

    bot: str
    bot_href: str
    profile_name: str
    profile_href: str
    started_at: datetime
    ended_at: datetime | None
    reason: str


def stints(past: Sequence[PastAssignment], names: Mapping[str, str]) -> tuple[Stint, ...]:
    """The assignments with names and links."""
    return tuple(_stint(one, names.get(one.profile, one.profile)) for one in past)


def _stint(one: PastAssignment, name: str) -> Stint:
    return Stint(
        bot=one.bot,
        bot_href=link("bots", *one.bot.split("/", 1), fleet=one.fleet),
        profile_name=name,
        profile_href=link("profiles", one.profile),
        started_at=one.started_at,
        ended_at=one.ended_at,
        reason=one.reason or "",
    )
