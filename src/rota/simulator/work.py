"""What a simulated bot works on, and the data that it has made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rota.protocol import Assignment


@dataclass(slots=True)
class Work:
    """The assignment that a bot executes."""

    profile: str
    epoch: int
    revision: int
    lease: str | None
    confirmed: bool = False
    batches: int = 0

    @property
    def named(self) -> dict[str, Any]:
        """As a heartbeat names it."""
        return {"profile": self.profile, "epoch": self.epoch, "revision": self.revision}


@dataclass(frozen=True, slots=True)
class Batch:
    """Data that waits for its acknowledgement; it is sent again unchanged until it gets one."""

    profile: str
    epoch: int
    number: int
    body: bytes


def is_for(work: Work | None, assignment: Assignment | None) -> bool:
    """Whether this is the work that rota means."""
    if work is None or assignment is None:
        return False
    return (work.profile, work.epoch) == (assignment.profile, assignment.epoch)
