"""The form of a conformance vector, as README.md describes it. An unknown field is refused: it is a slip of the pen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

FOLDER = Path(__file__).parent

Then = Literal[
    "report_and_stop",
    "report_and_drop",
    "authenticate",
    "stop_work",
    "stop_work_and_drop_data",
    "split_batch",
    "wait_and_retry",
    "keep_working_and_retry",
    "start_work",
    "keep_working",
    "restart_work_with_new_config",
    "stay_idle",
    "exit",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ListedServer(_Strict):
    """A server on the operator's list."""

    server: str
    labels: dict[str, str] = {}


class EnrolmentKey(_Strict):
    """An enrolment key beside the one named `valid`, which there always is."""

    enrolment_key: str
    state: Literal["valid", "expired", "revoked"]


class GivenProfile(_Strict):
    """A client's profile."""

    profile: str
    config: dict[str, Any] = {}
    labels: dict[str, str] = {}
    priority: int = 0
    started: bool = True


class Expect(_Strict):
    """What the answer must be; fields of objects that are not named here may be anything."""

    status: int
    headers: dict[str, Any] = {}
    body: Any = None


class Call(_Strict):
    """A bot's call."""

    bot: str = Field(alias="as")
    call: str
    method: str = "POST"
    key: str | None = "valid"
    token: str | None = None
    headers: dict[str, Any] = {}
    body: Any = None
    raw: str | None = None
    expect: Expect
    then: Then | None = None


class ClientAct(_Strict):
    """What the profile's client does or sees."""

    client: Literal["start", "stop", "change", "delete", "show", "records"]
    profile: str
    body: dict[str, Any] = {}
    expect: Any = None


class OperatorAct(_Strict):
    """What the operator does or sees."""

    operator: Literal["drain", "undrain", "kill", "show", "unlist"]
    of: str
    expect: Any = None


class Fault(_Strict):
    """What goes wrong beneath or before rota."""

    fault: Literal["lose_live_state", "store_away", "refuse_by_rate", "worker_full", "fail_inside"]


def _kind(step: Any) -> str:
    return next((kind for kind in ("call", "client", "operator", "fault") if kind in step), "call")


Step = Annotated[
    Annotated[Call, Tag("call")]
    | Annotated[ClientAct, Tag("client")]
    | Annotated[OperatorAct, Tag("operator")]
    | Annotated[Fault, Tag("fault")],
    Discriminator(_kind),
]


class Vector(_Strict):
    """One file."""

    title: str
    section: str
    rows: tuple[str, ...] = ()
    given: tuple[ListedServer | EnrolmentKey | GivenProfile, ...] = ()
    steps: tuple[Step, ...]

    @property
    def faults(self) -> set[str]:
        """The faults that it needs."""
        return {step.fault for step in self.steps if isinstance(step, Fault)}


def vectors() -> dict[str, Vector]:
    """File name without its ending → vector."""
    found = sorted(FOLDER.glob("*.json"))
    return {path.stem: Vector.model_validate(json.loads(path.read_text(encoding="utf-8"))) for path in found}
