"""What the pages of a server and of a bot show of a drain, and what their forms for it say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rota.ledger import checks
from rota.ledger.drains import LONGEST, Drain

CHOICES = (("", "there is no deadline"), ("600", "in 10 minutes"), ("3600", "in 1 hour"), ("28800", "in 8 hours"))
"""Seconds and their words; the form has a field for any other number."""
OTHER = "other"


@dataclass(frozen=True)
class DrainForm:
    """The forms with which a drain is ordered, given another deadline, and undone.

    what: the server or the bot, in words.
    drain: the one that is under way, or None.
    bots_left: of a server that is being drained.
    order_href, undo_href: where the forms go.
    """

    what: str
    drain: Drain | None
    bots_left: int
    order_href: str
    undo_href: str
    choices: tuple[tuple[str, str], ...] = CHOICES
    other: str = OTHER
    longest: int = LONGEST


def chosen_within(form: Mapping[str, str]) -> float | None:
    """Seconds until the deadline that the form asks for; None where there is to be none.

    Raises:
        InvalidRequestError: that is no number.
    """
    chosen = form.get("within", "")
    text = form.get("seconds", "").strip() if chosen == OTHER else chosen
    if not text and chosen != OTHER:
        return None
    try:
        return float(text)
    except ValueError:
        raise checks.refuse("within", "say after how many seconds") from None
