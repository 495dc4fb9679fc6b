"""What a simulation has shown, as plain numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rota.simulator.crowd import Crowd
    from rota.simulator.hosts import Hosts


@dataclass(frozen=True)
class Summary:
    """The numbers of one run; `docs/simulate.md` explains each. Latencies are those that the bots saw."""

    seconds: float
    settled_after_s: float | None
    bots: int
    profiles: int
    profiles_bound: int
    beats: int
    starts: int
    deaths: int
    deaths_by_kind: dict[str, int]
    takeovers: int
    takeover_p50_s: float | None
    takeover_max_s: float | None
    restored: int
    restored_max_s: float | None
    records: int
    duplicates: int
    ghosts_refused: int
    refusals: dict[str, int]
    unanswered: int
    violations: int
    violation_texts: list[str]
    beat_p50_ms: float | None
    beat_p99_ms: float | None
    push_p50_ms: float | None
    push_p99_ms: float | None
    loop_lag_p99_ms: float | None

    def as_json(self) -> dict[str, Any]:
        """The same as a dictionary that JSON can carry."""
        return asdict(self)


def summarize(crowd: Crowd | Hosts, seconds: float) -> Summary:
    """Draws the sum of a run that took `seconds`."""
    judge, tally = crowd.around.judge, crowd.around.tally
    p50 = judge.takeovers.percentile(0.5)
    return Summary(
        seconds=round(seconds, 1),
        settled_after_s=None if crowd.settled_at is None else round(crowd.settled_at - crowd.began_at, 2),
        bots=sum(crowd.plan.servers.values()),
        profiles=crowd.plan.profiles,
        profiles_bound=crowd.most_bound,
        beats=tally.beats,
        starts=judge.starts,
        deaths=crowd.deaths,
        deaths_by_kind={str(kind): number for kind, number in sorted(crowd.faults.items())},
        takeovers=judge.takeovers.count,
        takeover_p50_s=None if p50 is None else round(p50, 2),
        takeover_max_s=round(judge.takeovers.longest, 2) if judge.takeovers.count else None,
        restored=judge.restored.count,
        restored_max_s=round(judge.restored.longest, 2) if judge.restored.count else None,
        records=tally.records,
        duplicates=tally.duplicates,
        ghosts_refused=tally.ghosts_refused,
        refusals=dict(sorted(tally.refusals.items())),
        unanswered=crowd.unanswered,
        violations=judge.violation_count,
        violation_texts=list(judge.violations),
        beat_p50_ms=crowd.beat_latency.milliseconds(0.5),
        beat_p99_ms=crowd.beat_latency.milliseconds(0.99),
        push_p50_ms=crowd.push_latency.milliseconds(0.5),
        push_p99_ms=crowd.push_latency.milliseconds(0.99),
        loop_lag_p99_ms=crowd.loop_lag.milliseconds(0.99),
    )
