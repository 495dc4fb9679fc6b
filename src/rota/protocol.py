"""The wire between bots and rota: requests, replies, instructions, limits and the forms of identifiers.

The server, the SDK, the runner and the simulator all import it; it does no I/O. `docs/protocol.md` is its contract.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, NotRequired, Required  # pydantic reads typing's own from Python 3.12 on

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
)
from typing_extensions import TypedDict

MAX_BODY_BYTES = 1_048_576
"""Limit of the bodies of `push_data` and `heartbeats`, in bytes."""
MAX_BEAT_BYTES = 16_384
"""Limit of the bodies of all other bot calls, in bytes."""
MAX_HEAD_BYTES = 32_768
"""Of any request: its line and its headers."""
MAX_HEADERS = 100
MAX_BEATS = 1_000
"""Limit of beats in one call of `POST /bot/heartbeats`."""
MAX_RECORDS = 1_000
"""Limit of records in one `push_data` call."""
DEFAULT_KIND = "record"
"""Kind of a record that names none."""
MAX_STATUS = 64
"""Limit of the status text, in characters; longer ones are cut, not refused."""
MAX_LABELS = 16
"""Limit of labels on a bot, a server or a profile."""
MAX_EPOCH = 2**53 - 1
"""The largest epoch: microseconds that a double still tells apart (the year 2255)."""

DEADLINE_MARGIN = 0.10
"""Share of the ttl that rota waits beyond it before it declares a bot dead."""
DEADLINE_MARGIN_MIN_MS = 1_000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def deadline_after_ms(ttl: float) -> int:
    """Milliseconds from a beat to the deadline: `ttl` seconds and 10 % of it, at least one second more."""
    ttl_ms = ttl * 1000
    return int(ttl_ms + max(DEADLINE_MARGIN_MIN_MS, ttl_ms * DEADLINE_MARGIN))


class Instruction(StrEnum):
    """What the reply to a heartbeat tells the bot."""

    WAIT = "wait"
    START = "start"
    CONTINUE = "continue"
    RECONFIGURE = "reconfigure"
    STOP = "stop"
    EXIT = "exit"


def _without_control_characters(text: str) -> str:
    return _CONTROL.sub(" ", text).strip()


def _status(value: object) -> object:
    """People read it: control characters become spaces and what is too long is cut."""
    if not isinstance(value, str):
        return value
    # With every heartbeat, and nearly always nothing is to be done.
    return value.strip()[:MAX_STATUS] if value.isprintable() else _without_control_characters(value)[:MAX_STATUS]


def _in_utc(moment: datetime) -> datetime:
    """UTC where no zone is named, whatever the zone of the machine that reads it."""
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999") from None


def _label_count(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > MAX_LABELS:
        msg = f"at most {MAX_LABELS} labels"
        raise ValueError(msg)
    return labels


Hostname = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})$", to_lower=True)]
Instance = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
ProfileId = Annotated[str, StringConstraints(pattern=r"^prf_[0-9a-z]{1,32}$")]
Epoch = Annotated[int, Field(ge=1, le=MAX_EPOCH, strict=True)]
Revision = Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)]
BatchNumber = Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]
RecordKind = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{1,64}$")]
LabelText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]{1,64}$")]
Labels = Annotated[dict[LabelText, LabelText], AfterValidator(_label_count)]
Status = Annotated[str, BeforeValidator(_status)]
Wait = Annotated[float, Field(ge=0, le=55)]
Moment = Annotated[datetime, AfterValidator(_in_utc)]


class _Request(BaseModel):
    """Unknown fields are ignored, so that a newer bot may talk to an older rota."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Working(_Request):
    """The assignment that a bot is executing now."""

    profile: ProfileId
    epoch: Epoch
    revision: Revision = 1


class Ended(_Request):
    """An assignment whose work has ended."""

    profile: ProfileId
    epoch: Epoch


class LeasedWorking(Working):
    """What a process is still doing, with the lease that proves it was granted."""

    lease: Annotated[str, StringConstraints(max_length=1024)] | None = None


class AuthRequest(_Request):
    """Body of `POST /bot/auth`."""

    hostname: Hostname
    instance: Instance | None = None
    version: Annotated[str, StringConstraints(max_length=64), AfterValidator(_without_control_characters)] = ""
    labels: Labels = Field(default_factory=dict)
    working: LeasedWorking | None = None


class HeartbeatRequest(_Request):
    """Body of `POST /bot/heartbeat`; an empty body is an idle bot.

    A bot that sends `ended`, be it null, is taken at its word alone: no silence of an old request releases its profile.
    """

    working: Working | None = None
    ended: Ended | None = None
    status: Status = ""
    accepting: bool = True
    wait: Wait = 0


class WorkingFields(TypedDict):
    """`Working` as a dictionary."""

    profile: ProfileId
    epoch: Epoch
    revision: NotRequired[Revision]


class EndedFields(TypedDict):
    """`Ended` as a dictionary."""

    profile: ProfileId
    epoch: Epoch


class BeatFields(TypedDict, total=False):
    """`HeartbeatRequest` as a dictionary, which the hot path reads in half the time of a model."""

    working: WorkingFields | None
    ended: EndedFields | None
    status: Status
    accepting: bool
    wait: Wait


class BeatOfMany(BeatFields):
    """One of the `beats` of `POST /bot/heartbeats`: as a heartbeat's body, and whose it is."""

    token: Required[Annotated[str, StringConstraints(max_length=512)]]


class HeartbeatsRequest(TypedDict):
    """Body of `POST /bot/heartbeats`; what each of the beats must be is `BeatOfMany`."""

    beats: Annotated[list[BeatOfMany], Field(max_length=MAX_BEATS)]


class Record(_Request):
    """One record of a `push_data` call."""

    kind: RecordKind = DEFAULT_KIND
    at: Moment | None = None
    data: JsonValue = None


class PushRequest(_Request):
    """Body of `POST /bot/push_data`; profile and epoch default to the current assignment."""

    profile: ProfileId | None = None
    epoch: Epoch | None = None
    batch: BatchNumber
    records: Annotated[list[Record], Field(max_length=MAX_RECORDS)]


class RecordFields(TypedDict, total=False):
    """`Record` as a dictionary."""

    kind: RecordKind
    at: Moment | None
    data: JsonValue


class PushFields(TypedDict):
    """`PushRequest` as a dictionary."""

    profile: NotRequired[ProfileId | None]
    epoch: NotRequired[Epoch | None]
    batch: BatchNumber
    records: Annotated[list[RecordFields], Field(max_length=MAX_RECORDS)]


class LeaveRequest(_Request):
    """Body of `POST /bot/leave`."""

    reason: Literal["shutdown", "crash"] = "shutdown"
    detail: Annotated[str, BeforeValidator(lambda v: v[:500] if isinstance(v, str) else v)] = ""


class Assignment(BaseModel):
    """The two-way binding of a profile to the bot that reads this; config and lease come with start and reconfigure."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    profile: str
    epoch: int
    revision: int
    name: str = ""
    config: dict[str, Any] | None = None
    lease: str | None = None


class AuthReply(BaseModel):
    """Reply of `POST /bot/auth`; interval and ttl in seconds."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    bot: str
    token: str
    interval: float
    ttl: float
    assignment: Assignment | None = None


class HeartbeatReply(BaseModel):
    """Reply of `POST /bot/heartbeat`; interval and ttl in seconds."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    instruction: Instruction
    interval: float
    ttl: float
    assignment: Assignment | None = None


class PushReply(BaseModel):
    """Reply of `POST /bot/push_data`, sent after the commit."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    accepted: int
    duplicate: bool
