"""What a scenario is, and what it tells about the faults that it has injected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rota.chaos.stage import Stage

Look = Callable[[], Awaitable[tuple[str, ...]]]
"""Says what is not as it should be."""


@dataclass(frozen=True)
class Injected:
    """How many faults there were, and when they acted no more (the loop's clock).

    `unmet` tells what did not happen meanwhile although it had to; `afterwards` looks once more after the recovery.
    """

    faults: int
    over: float
    unmet: tuple[str, ...] = ()
    afterwards: Look | None = None


@dataclass(frozen=True)
class Scenario:
    """One thing that is broken, and how its outcome is judged.

    `spoils`: what it breaks stays lost, and the next scenario gets an installation of its own. `prompt`: enough bots
    are free, so that what was set free must be given away at once; `mistrust`: but so many leases later, because rota
    trusts no moment that was noted before. `crowd`: so many times the usual number of bots, in
    an installation of its own. `patient`: no operator releases what is held back meanwhile. `by_records`: it lasts
    until so many records are pushed as were asked for.
    """

    name: str
    summary: str
    inject: Callable[[Stage], Awaitable[Injected]]
    spoils: bool = False
    prompt: bool = False
    mistrust: int = 0
    crowd: int = 1
    patient: bool = False
    by_records: bool = False
