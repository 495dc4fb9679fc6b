"""What a bot was last given and may still be bound to, so that whoever comes back after it can say so at `/bot/auth`.

Without that, a process that is started again is given its profile under a new epoch, and everything that its
predecessor has left under the old one comes too late.
"""

from __future__ import annotations

import time
from typing import Self

from pydantic import BaseModel, ConfigDict

from rota.protocol import Assignment, Ended, Epoch, LeasedWorking, ProfileId, Revision
from rota.sdk.pace import STEADY

DEATHS_FORGIVEN = 1
"""So many early deaths in a row may be anything's fault, as in rota's own count of crashes."""


class Claim(BaseModel):
    """An assignment that rota has not said is over."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    profile: ProfileId
    epoch: Epoch
    revision: Revision
    lease: str | None
    began: float | None = None
    """When the work function was called, by the wall clock, as long as it has not come back."""
    deaths: int = 0
    """How many processes in a row ended in the middle of the work for this profile, soon after it had begun."""
    crash: str = ""
    """What rota has still to be told of how the work ended."""

    def begun(self, assignment: Assignment) -> Claim:
        """The claim of the work that begins now, after this one; a profile's deaths are counted on."""
        deaths = self.deaths if assignment.profile == self.profile else 0
        return first_claim(assignment).model_copy(update={"deaths": deaths})

    def ended(self, crash: str = "") -> Self:
        """The work function has come back."""
        return self.model_copy(update={"began": None, "deaths": 0, "crash": crash})

    def renewed(self, working: LeasedWorking) -> Self:
        """With a newer revision or lease of the same assignment."""
        return self.model_copy(update={"revision": working.revision, "lease": working.lease})

    def inherited(self) -> Self:
        """As the next process finds it: where the work had not come back, it ended with its process."""
        if self.began is None:
            return self
        soon = 0 <= time.time() - self.began < STEADY
        deaths = self.deaths + 1 if soon else 0
        crash = self.crash
        if deaths > DEATHS_FORGIVEN:
            crash = f"{deaths} processes in a row ended in the middle of this work, each within {STEADY:.0f} s"
        return self.model_copy(update={"began": None, "deaths": deaths, "crash": crash})

    def is_for(self, other: Assignment | LeasedWorking | None) -> bool:
        """Whether this is about the same profile and epoch."""
        return other is not None and (other.profile, other.epoch) == (self.profile, self.epoch)

    @property
    def as_working(self) -> LeasedWorking:
        """What an auth reports."""
        return LeasedWorking(profile=self.profile, epoch=self.epoch, revision=self.revision, lease=self.lease)

    @property
    def as_ended(self) -> Ended:
        """What an idle heartbeat reports."""
        return Ended(profile=self.profile, epoch=self.epoch)


def first_claim(assignment: Assignment) -> Claim:
    """The claim of work that begins now."""
    return Claim(
        profile=assignment.profile,
        epoch=assignment.epoch,
        revision=assignment.revision,
        lease=assignment.lease,
        began=time.time(),
    )
