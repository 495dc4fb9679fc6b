"""One figure of the table: what was measured, how much it is, and what it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Target:
    """What a figure should be at most or at least; `of` says which of a row's figures."""

    limit: float
    sense: Literal["≤", "≥"] = "≤"
    of: Literal["value", "x_empty", "x_script"] = "value"

    def __str__(self) -> str:
        """As people read it."""
        against = {"value": "", "x_empty": " × empty", "x_script": " × script"}[self.of]
        return f"{self.sense} {self.limit:,g}{against}"

    def holds(self, figure: float) -> bool:
        """Whether the figure is what it should be."""
        return figure <= self.limit if self.sense == "≤" else figure >= self.limit


@dataclass(frozen=True)
class Row:
    """`x_empty` and `x_script` are the ratios to the empty request and to the bare script, where they say something."""

    what: str
    value: float
    unit: str
    target: Target | None = None
    x_empty: float | None = None
    x_script: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        figure: float | None = getattr(self, self.target.of) if self.target else None
        return self.target.holds(figure) if self.target and figure is not None else None

    def as_json(self) -> dict[str, Any]:
        """The same as a dictionary that JSON can carry."""
        return {
            "what": self.what,
            "value": self.value,
            "unit": self.unit,
            "target": str(self.target) if self.target else None,
            "holds": self.holds,
            "x_empty": self.x_empty,
            "x_script": self.x_script,
        }


def at_most(limit: float, of: Literal["value", "x_empty", "x_script"] = "value") -> Target:
    """A figure that should not be above `limit`."""
    return Target(limit, "≤", of)


def at_least(limit: float, of: Literal["value", "x_empty", "x_script"] = "value") -> Target:
    """A figure that should not be below `limit`."""
    return Target(limit, "≥", of)
