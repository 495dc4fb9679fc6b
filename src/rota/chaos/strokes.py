"""What the notes of real workers say about rota's promises: who worked for which profile when, under which epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable
from pathlib import Path
from typing import NamedTuple


class Stroke(NamedTuple):
    """One line of a worker's notes; `asked` and `at` are in seconds of the monotonic clock.

    `asked` is the moment before the call of the job that let the work go on to this stroke.
    """

    worker: str
    what: str
    profile: str
    epoch: int
    asked: float
    at: float
    number: int


class Kept(NamedTuple):
    """A record as the ledger holds it; `received_at` by the same clock as the strokes."""

    epoch: int
    number: int
    received_at: float


def read(worker: str, path: Path) -> list[Stroke]:
    """A worker's notes so far; the last line may be half written."""
    lines = path.read_text("ascii").split("\n")[:-1] if path.exists() else []
    return [_stroke(worker, *line.split()) for line in lines]


def _stroke(worker: str, what: str, profile: str, epoch: str, asked: str, at: str, number: str) -> Stroke:
    return Stroke(worker, what, profile, int(epoch), float(asked), float(at), int(number))


def newest(strokes: Iterable[Stroke]) -> dict[str, Stroke]:
    """Profile → the first stroke under its newest epoch."""
    found: dict[str, Stroke] = {}
    for stroke in sorted(strokes, key=lambda stroke: (stroke.epoch, stroke.at)):
        if stroke.profile not in found or stroke.epoch > found[stroke.profile].epoch:
            found[stroke.profile] = stroke
    return found


def overlaps(strokes: Iterable[Stroke], lasting: Container[str] = ()) -> list[str]:
    """Each worker's strokes under an epoch that came after the first one under a newer epoch, and shared epochs.

    `lasting` are workers whose processes may not be ended: what counts for them is when they asked their job.
    """
    stints: dict[tuple[str, int], list[Stroke]] = defaultdict(list)
    for stroke in sorted(strokes, key=lambda stroke: stroke.at):
        stints[stroke.profile, stroke.epoch].append(stroke)
    found = []
    for (profile, epoch), stint in stints.items():
        if len(workers := sorted({stroke.worker for stroke in stint})) > 1:
            found.append(f"{' and '.join(workers)} worked on {profile} under the same epoch {epoch}")
        heirs = [later[0] for (other, newer), later in stints.items() if other == profile and newer > epoch]
        if not heirs:
            continue
        heir = min(heirs, key=lambda stroke: stroke.at)
        late = [each for each in stint if (each.asked if each.worker in lasting else each.at) > heir.at]
        if late:
            found.append(
                f"{late[0].worker} worked on {profile} under epoch {epoch} ({len(late)} strokes, the last one "
                f"{late[-1].at - heir.at:.4f} s) after {heir.worker} had begun under {heir.epoch}"
            )
    return found


def stale(profile: str, strokes: Iterable[Stroke], kept: Iterable[Kept]) -> list[str]:
    """Records of a profile that the ledger took after somebody had begun to work under a newer epoch."""
    began: dict[int, float] = {}
    for stroke in strokes:
        if stroke.profile == profile:
            began[stroke.epoch] = min(stroke.at, began.get(stroke.epoch, stroke.at))
    found = []
    for row in kept:
        newer = [at for epoch, at in began.items() if epoch > row.epoch]
        if newer and row.received_at > min(newer):
            late = row.received_at - min(newer)
            found.append(f"record {row.number} of {profile} under epoch {row.epoch} was taken {late:.3f} s too late")
    return found


def lost(profile: str, strokes: Iterable[Stroke], kept: Iterable[Kept]) -> list[str]:
    """Records of a profile that a worker was told were stored, and that the ledger does not hold."""
    held = {(row.epoch, row.number) for row in kept}
    told = {(stroke.epoch, stroke.number) for stroke in strokes if (stroke.what, stroke.profile) == ("stored", profile)}
    return [f"record {number} of {profile} under epoch {epoch} is lost" for epoch, number in sorted(told - held)]
