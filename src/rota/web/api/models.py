"""What the REST calls share: pages, limits, and how errors are described."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from starlette.requests import Request

from rota.errors import FieldError, InvalidRequestError, NotFoundError
from rota.ledger.drains import LONGEST
from rota.protocol import Labels, Moment

Item = TypeVar("Item")


class Body(BaseModel):
    """A request's body; a field that is not known is refused, because it is a slip of the pen."""

    model_config = ConfigDict(extra="forbid")


class Change(Body):
    """A change of what is given; what is left out stays."""

    @field_validator("*", mode="before")
    @classmethod
    def _not_null(cls, value: object) -> object:
        if value is None:
            raise ValueError("leave it out rather than null")
        return value


class Page(BaseModel, Generic[Item]):
    """One page of a list; `next` is passed as `after` for the following one, null at the end."""

    items: list[Item]
    next: str | None


class Assignment(BaseModel):
    """Which bot worked for which profile, and why it ended; `ended_at` is null while it lasts."""

    profile: str
    epoch: int
    bot: str
    server: str
    started_at: datetime
    confirmed_at: datetime | None
    ended_at: datetime | None
    reason: str | None


class FieldProblem(BaseModel):
    """One wrong field of a request."""

    field: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457); branch on `code`, never on text."""

    type: str
    status: int
    title: str
    detail: str
    code: str
    errors: list[FieldProblem] = []


def _described(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": text,
        "model": Problem,
        "content": {"application/problem+json": {"schema": schema}},
    }


PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: _described("The body is not JSON."),
    401: _described("The key is unknown, expired or revoked."),
    403: _described("The key may not do that."),
    404: _described("There is no such thing, or the key may not see it."),
    409: _described("It contradicts what is already there."),
    413: _described("The body is over 1 MiB."),
    422: _described("A field is wrong; `errors` names it."),
    503: _described("A store is away; Retry-After tells when to come back."),
}

Limit = Annotated[int, Query(ge=1, le=500, description="how many at most")]
_AFTER = "`next` of the page before"
At = Annotated[Moment | None, Query(description="only what lasted at this moment; without a zone it is UTC")]
After = Annotated[str | None, Query(max_length=200, pattern=r"^[!-~]*$", description=_AFTER)]
AfterNumber = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description=_AFTER)]
AfterRevision = Annotated[str | None, Query(pattern=r"^[0-9]{1,9}$", description=_AFTER)]
FleetName = Annotated[str, Query(pattern="^[a-z0-9-]{1,32}$", description="which fleet")]
ServerName = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9._-]{1,253}$", description="of this server alone")]
LabelMap = Labels
Within = Annotated[
    float | None,
    Field(ge=0, le=LONGEST, description="seconds from now after which what has not ended is killed; null: never"),
]
Word = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]
"""Text that is looked up as it stands; PostgreSQL takes no NUL."""


def no_such_bot(name: str) -> NotFoundError:
    """The error for a bot that is not on the roster."""
    return NotFoundError(f"There is no bot {name} on the roster.")


async def storable(request: Request) -> None:
    """Dependency of every route: PostgreSQL takes no NUL, and nothing that is looked up by name holds one.

    Raises:
        InvalidRequestError: the address holds one; the parameter is named.
    """
    for name, value in [*request.path_params.items(), *request.query_params.multi_items()]:
        if "\x00" in value or "\x00" in name:
            message = "must not hold a NUL character"
            raise InvalidRequestError(f"{name}: {message}", fields=(FieldError(name, message),))
