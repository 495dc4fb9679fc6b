"""One page of a list, and the key with which the next one begins."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rota.errors import InvalidRequestError

Item = TypeVar("Item")
MOST = 500
_LETTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True)
class Page(Generic[Item]):
    """`next` is passed as `after` for the following page; None at the end."""

    items: list[Item]
    next: str | None


def page_of(rows: Sequence[Item], limit: int, key: Callable[[Item], object]) -> Page[Item]:
    """A page out of at most `limit` + 1 rows that were read."""
    items = list(rows[:limit])
    return Page(items, str(key(items[-1])) if len(rows) > limit else None)


def bounded(limit: int) -> int:
    """The limit, between 1 and 500."""
    return max(1, min(MOST, limit))


def number_after(after: str | None) -> int:
    """A cursor that is a number.

    Raises:
        InvalidRequestError: it is none.
    """
    if after is None or after == "":
        return 0
    if not (after.isascii() and after.isdecimal()) or len(after) > 18:  # noqa: PLR2004 - what fits a bigint for sure
        raise InvalidRequestError("`after` must be the `next` of the page before.")
    return int(after)


def new_id(prefix: str) -> str:
    """`prf_` and 20 random characters, and so on."""
    return f"{prefix}_{''.join(secrets.choice(_LETTERS) for _ in range(20))}"
