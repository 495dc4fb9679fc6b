"""What all bots of a crowd share: the judge, the counts, the source of chance and their habits."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from rota.simulator.judge import Judge


@dataclass
class Tally:
    """What all bots together did."""

    beats: int = 0
    records: int = 0
    duplicates: int = 0
    ghosts_refused: int = 0
    refusals: dict[str, int] = field(default_factory=dict)

    def refused(self, code: str) -> None:
        """Counts one refusal."""
        self.refusals[code] = self.refusals.get(code, 0) + 1


@dataclass(frozen=True)
class Surroundings:
    """What all bots of a crowd share. Durations are seconds."""

    judge: Judge
    tally: Tally
    rng: Random
    labels: dict[str, str]
    push_every: float = 10.0
    push_records: int = 1
    """Records in a batch."""
    longest_stop: float = 0.5
    version: str = "simulated"
    poisonous: dict[str, bool] = field(default_factory=dict)
    """Profiles whose bots crash a moment after they start; True: they leave with `crash`, else without a word."""
