"""What rota can keep as JSON: what a record's `data` or a configuration may hold, and what is wrong with other values.

The SDK asks before a record is taken, and the server before it is written, so that both say the same. It does no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic_core import to_json

MAX_DEPTH = 197
"""Lists and objects within each other; the request that a record travels in has three more around them."""
MAX_DIGITS = 4_300
"""Of an integer: more than that no JSON reader of either side takes."""
MAX_PLACE = 200
"""Characters of the name of a place, longer ones are cut."""
_TOO_LARGE = 10**MAX_DIGITS
_LEAVES = {str, float, bool, type(None)}


class Fault(NamedTuple):
    """Where in a value something is that cannot be kept, and why."""

    path: tuple[str, ...]
    why: str

    def place(self, *whose: str) -> str:
        """The place with dots (`data.items.3`); `whose` stands before it."""
        text = ".".join((*whose, *self.path))
        return text if len(text) <= MAX_PLACE else f"{text[:MAX_PLACE]}…"


def encoded(value: Any, name: str) -> bytes:
    """The value as JSON.

    Raises:
        ValueError: rota could not keep it; one line with the place, which begins with `name`, and the reason.
    """
    try:
        text = to_json(value, inf_nan_mode="constants") if _is_plain(value, MAX_DEPTH) else None
    except ValueError:  # half of a surrogate pair, or a number that is too long
        text = None
    if text is None or is_suspect(text):
        wrong = fault(value)
        if wrong is not None:
            raise ValueError(f"{wrong.place(name)}: {wrong.why}")
    return to_json(value) if text is None else text


def is_suspect(text: bytes) -> bool:
    """Whether this JSON may hold a NUL or a number that is not finite; text may merely look so, `fault` knows."""
    return b"\\u0000" in text or b"NaN" in text or b"Infinity" in text


def fault(value: Any) -> Fault | None:
    """The first place in a value that rota cannot keep; None where it can keep all of it."""
    stack: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while stack:
        path, item = stack.pop()
        why = _why_not(item, len(path))
        if why is not None:
            return Fault(path[:1] if len(path) >= MAX_DEPTH else path, why)
        if isinstance(item, dict):
            wrong = next(_wrong_names(item), None)
            if wrong is not None:
                return Fault((*path, "(name)"), wrong)
            stack += reversed([((*path, _word(key)), child) for key, child in item.items()])
        elif isinstance(item, list):
            stack += reversed([((*path, str(index)), child) for index, child in enumerate(item)])
    return None


def _why_not(item: Any, depth: int) -> str | None:
    if isinstance(item, str):
        return _why_no_text(item)
    if isinstance(item, int):  # booleans, too
        return None if -_TOO_LARGE < item < _TOO_LARGE else f"is a number of more than {MAX_DIGITS} digits"
    if isinstance(item, float):
        return None if math.isfinite(item) else "is not a finite number"
    if isinstance(item, dict | list):
        return None if depth < MAX_DEPTH else f"is nested more than {MAX_DEPTH} levels deep"
    return None if item is None else f"is of the type {type(item).__name__}, which JSON does not have"


def _why_no_text(text: str) -> str | None:
    if "\x00" in text:
        return "holds a NUL character, which cannot be stored"
    if any("\ud800" <= char <= "\udfff" for char in text):
        return "holds half of a surrogate pair, which is no character and cannot be stored"
    return None


def _wrong_names(item: dict[Any, Any]) -> Iterator[str]:
    for name in item:
        if not isinstance(name, str):
            yield f"is of the type {type(name).__name__}: names in JSON are text"
        elif (why := _why_no_text(name)) is not None:
            yield why


def _word(name: str) -> str:
    return name if name.isprintable() else name.encode("unicode_escape").decode()


def _is_plain(value: Any, levels: int) -> bool:
    """A quick yes to nearly everything: no other types than JSON has, nothing too deep, no endless number."""
    kind = type(value)
    if kind is dict and levels:
        for name, item in value.items():
            if type(name) is not str or (type(item) not in _LEAVES and not _is_plain(item, levels - 1)):
                return False
        return True
    if kind is list and levels:
        for item in value:  # noqa: SIM110 - twice as fast as `all`
            if type(item) not in _LEAVES and not _is_plain(item, levels - 1):
                return False
        return True
    return -_TOO_LARGE < value < _TOO_LARGE if kind is int else kind in _LEAVES
