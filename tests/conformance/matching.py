"""Placeholders of the vectors: values that a test cannot know beforehand, and how an answer is compared."""

from __future__ import annotations

from typing import Any

ABSENT = object()
"""In the place of a field that an answer does not have."""


class MismatchError(AssertionError):
    """The answer is not what the vector expects; the text says where."""


class Known:
    """The values that stand behind `$kind:label`."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def learn(self, name: str, value: Any) -> None:
        """Gives a placeholder its value; the epochs must rise with their labels."""
        kind, _, label = name.partition(":")
        if kind == "$epoch":
            for other, epoch in self._values.items():
                other_kind, _, other_label = other.partition(":")
                if other_kind == kind and (int(other_label) < int(label)) != (epoch < value):
                    raise MismatchError(f"{name} is {value} and {other} is {epoch}")
        self._values[name] = value

    def filled(self, body: Any) -> Any:
        """A body to send, with every placeholder's value."""
        if isinstance(body, str):
            return self._values[body] if body.startswith("$") else body
        if isinstance(body, list):
            return [self.filled(item) for item in body]
        if isinstance(body, dict):
            if "$text" in body:
                return "x" * int(body["$text"])
            if "$repeat" in body:
                return [self.filled(body["$repeat"])] * int(body["times"])
            return {name: self.filled(value) for name, value in body.items()}
        return body

    def match(self, expected: Any, found: Any, where: str = "body") -> None:
        """Compares; raises `MismatchError`. Fields of `found` that `expected` does not name are ignored."""
        if isinstance(expected, str) and expected.startswith("$"):
            self._match_placeholder(expected, found, where)
        elif isinstance(expected, dict):
            if not isinstance(found, dict):
                raise MismatchError(f"{where}: an object is expected, not {found!r}")
            for name, value in expected.items():
                self.match(value, found.get(name, ABSENT), f"{where}.{name}")
        elif isinstance(expected, list):
            if not isinstance(found, list) or len(found) != len(expected):
                raise MismatchError(f"{where}: {len(expected)} items are expected, not {found!r}")
            for number, (item, other) in enumerate(zip(expected, found, strict=True)):
                self.match(item, other, f"{where}.{number}")
        elif expected != found or not (type(expected) is type(found) or _both_numbers(expected, found)):
            raise MismatchError(f"{where}: {expected!r} is expected, not {found!r}")

    def _match_placeholder(self, name: str, found: Any, where: str) -> None:
        fits = {
            "$absent": found is ABSENT,
            "$any": found is not ABSENT and found is not None,
            "$number": _both_numbers(0, found),
            "$text": isinstance(found, str) and found != "",
        }
        if name in fits:
            if not fits[name]:
                raise MismatchError(f"{where}: {name} is expected, not {found!r}")
        elif name in self._values:
            if self._values[name] != found:
                raise MismatchError(f"{where}: {name} is {self._values[name]!r}, not {found!r}")
        elif found is ABSENT or found is None:
            raise MismatchError(f"{where}: {name} is expected, and nothing is there")
        else:
            self.learn(name, found)


def _both_numbers(one: Any, other: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other))
