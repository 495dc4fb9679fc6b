"""Records: what bots pushed, of one profile or of all of an account: listed, counted, exported, followed."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from rota.errors import NotFoundError
from rota.ledger import accounts as ledger_accounts
from rota.ledger import keys, records
from rota.ledger import profiles as ledger_profiles
from rota.ledger.records import MOST_MINUTES
from rota.ledger.search import Position, Scope
from rota.ledger.sieve import MOST_CHARACTERS, Sieve
from rota.protocol import MAX_EPOCH, Moment
from rota.web.api.access import AnyCaller, StateNeeded
from rota.web.api.models import Limit, Page
from rota.web.exports import FORMATS, Format
from rota.web.permits import Permit
from rota.web.rows import line
from rota.web.state import State
from rota.web.stream import stream_response

of_profiles = APIRouter(prefix="/profiles/{profile_id}/records")
of_accounts = APIRouter(prefix="/accounts/{account_id}/records")

After = Annotated[
    str | None, Query(pattern=r"^[0-9]{1,18}-[0-9]{1,14}(-[0-9]{1,18})?$", description="`next` of the page before")
]


class Record(BaseModel):
    """One record that a bot pushed. `at` is the bot's time, `received_at` the database's."""

    id: int
    profile: str
    epoch: int
    batch: int
    position: int
    bot: str
    kind: str
    at: datetime
    received_at: datetime
    data: Any


class Count(BaseModel):
    """How many there are. Where there was no time for all, `next` goes into `after` to count the others."""

    count: int
    next: str | None


class Rate(BaseModel):
    """How many arrived within the last minutes, and a minute on average. `complete` is false for "at least"."""

    minutes: int
    count: int
    per_minute: float
    complete: bool


@dataclass(frozen=True)
class Whose:
    """Whose records are asked for, what their file is called, and what allows to read them."""

    scope: Scope
    name: str
    permit: Permit = field(default_factory=Permit)


async def of_profile(state: StateNeeded, who: AnyCaller, profile_id: str) -> Whose:
    """The records of a profile that the caller may see.

    Raises:
        NotFoundError: there is none.
    """
    async with state.ledger.begin() as tx:
        profile = await ledger_profiles.get(tx, profile_id, account=who.account)

    async def prove() -> None:
        async with state.ledger.begin() as tx:
            await keys.authenticate(tx, who.secret)
            await ledger_profiles.get(tx, profile_id, account=who.account)

    return Whose(Scope(profile=profile.id), profile.name, Permit(prove))


async def of_account(state: StateNeeded, who: AnyCaller, account_id: str) -> Whose:
    """The records of an account: the caller's own, or any for an operator.

    Raises:
        NotFoundError: there is none.
    """
    if who.account not in (None, account_id):
        raise NotFoundError("There is no such account.")
    async with state.ledger.begin() as tx:
        account = await ledger_accounts.get(tx, account_id)

    async def prove() -> None:
        async with state.ledger.begin() as tx:
            await keys.authenticate(tx, who.secret)

    return Whose(Scope(account=account.id), account.name, Permit(prove))


def alike(
    kind: Annotated[str | None, Query(max_length=64, description="of this kind")] = None,
    bot: Annotated[str | None, Query(max_length=400, description="pushed by this bot, `HOSTNAME/INSTANCE`")] = None,
    epoch: Annotated[int | None, Query(ge=1, le=MAX_EPOCH, description="under this epoch")] = None,
    where: Annotated[
        str | None,
        Query(
            max_length=MOST_CHARACTERS,
            description="a JSONPath (PostgreSQL's) that finds something in `data`, or a comparison that holds there",
            examples=["$.price > 100"],
        ),
    ] = None,
) -> Sieve:
    """What a record must be like."""
    return Sieve(kind=kind, bot=bot, epoch=epoch, where=where)


def within(
    like: Annotated[Sieve, Depends(alike)],
    since: Annotated[Moment | None, Query(alias="from", description="received at this moment or later")] = None,
    until: Annotated[Moment | None, Query(alias="to", description="received before this moment")] = None,
    at_since: Annotated[Moment | None, Query(alias="at_from", description="the same by the bot's time")] = None,
    at_until: Annotated[Moment | None, Query(alias="at_to", description="the same by the bot's time")] = None,
) -> Sieve:
    """What a record must be like, and when it arrived."""
    return Sieve(like.kind, like.bot, like.epoch, since, until, at_since, at_until, like.where)


OfProfile = Annotated[Whose, Depends(of_profile)]
OfAccount = Annotated[Whose, Depends(of_account)]
Alike = Annotated[Sieve, Depends(alike)]
Within = Annotated[Sieve, Depends(within)]
Order = Annotated[Literal["oldest", "newest"], Query(description="which come first")]
Minutes = Annotated[int, Query(ge=1, le=MOST_MINUTES)]
Form = Annotated[Literal["ndjson", "csv", "parquet"], Query(alias="format")]
Behind = Annotated[int, Query(ge=0, le=2**63 - 1, description="go on behind the record of this id")]
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {
            "application/x-ndjson": {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}},
            "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events without end.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@of_profiles.get("", operation_id="list_records", response_model=Page[Record])
async def list_of_profile(
    state: StateNeeded,
    whose: OfProfile,
    sieve: Within,
    order: Order = "oldest",
    limit: Limit = 100,
    after: After = None,
) -> Response:
    """What bots pushed for the profile, in the order of arrival or backwards; a page may be shorter than `limit`."""
    return await _list(state, whose, sieve, order, limit, after)


@of_accounts.get("", operation_id="list_account_records", response_model=Page[Record])
async def list_of_account(
    state: StateNeeded,
    whose: OfAccount,
    sieve: Within,
    order: Order = "oldest",
    limit: Limit = 100,
    after: After = None,
) -> Response:
    """What bots pushed for all profiles of the account; as for one profile."""
    return await _list(state, whose, sieve, order, limit, after)


@of_profiles.get("/count", operation_id="count_records")
async def count_of_profile(state: StateNeeded, whose: OfProfile, sieve: Within, after: After = None) -> Count:
    """Counts for three seconds at most; `next` says where to go on if that was not enough."""
    return await _count(state, whose, sieve, after)


@of_accounts.get("/count", operation_id="count_account_records")
async def count_of_account(state: StateNeeded, whose: OfAccount, sieve: Within, after: After = None) -> Count:
    """Counts for three seconds at most, over all profiles of the account."""
    return await _count(state, whose, sieve, after)


@of_profiles.get("/rate", operation_id="rate_of_records")
async def rate_of_profile(state: StateNeeded, whose: OfProfile, sieve: Alike, minutes: Minutes = 5) -> Rate:
    """How many arrived a minute, over the last minutes."""
    return await _rate(state, whose, sieve, minutes)


@of_accounts.get("/rate", operation_id="rate_of_account_records")
async def rate_of_account(state: StateNeeded, whose: OfAccount, sieve: Alike, minutes: Minutes = 5) -> Rate:
    """How many arrived a minute for all profiles of the account, over the last minutes."""
    return await _rate(state, whose, sieve, minutes)


@of_profiles.get(
    "/export",
    operation_id="export_records",
    response_class=Response,
    responses=_FILE,
)
async def export_of_profile(
    state: StateNeeded, whose: OfProfile, sieve: Within, form: Form = "ndjson", after_id: Behind = 0
) -> Response:
    """All that was there when it began as a file, in the order of arrival, however much that is."""
    return await export(state, whose, sieve, form, (whose.scope.profile or "", after_id))


@of_accounts.get(
    "/export",
    operation_id="export_account_records",
    response_class=Response,
    responses=_FILE,
)
async def export_of_account(
    state: StateNeeded,
    whose: OfAccount,
    sieve: Within,
    form: Form = "ndjson",
    after_profile: Annotated[str, Query(max_length=100, description="go on in this profile …")] = "",
    after_id: Annotated[int, Query(ge=0, le=2**63 - 1, description="… behind the record of this id")] = 0,
) -> Response:
    """The records of all profiles of the account as one file, profile by profile by id."""
    return await export(state, whose, sieve, form, (after_profile, after_id))


@of_profiles.get(
    "/live",
    operation_id="follow_records",
    response_class=StreamingResponse,
    responses=_EVENTS,
)
async def follow(
    request: Request,
    state: StateNeeded,
    whose: OfProfile,
    sieve: Alike,
    after: After = None,
    last: Annotated[int, Query(ge=0, le=500, description="so many that are there first, without `after`")] = 0,
    last_event_id: Annotated[
        str | None, Header(max_length=60, pattern=r"^[0-9-]*$", description="where to go on; before `after`")
    ] = None,
) -> Response:
    """Records as they arrive, as server-sent events; `after=0-0` begins with the oldest."""
    position = Position.read(last_event_id, "last-event-id") or Position.read(after)
    events = await state.follower.begin(whose.scope.profile or "", sieve, position, last=last, permit=whose.permit)
    return stream_response(request, events)


async def _list(state: State, whose: Whose, sieve: Sieve, order: str, limit: int, after: str | None) -> Response:
    position, newest_first = Position.read(after), order == "newest"
    async with state.readers.begin() as tx:
        found = await records.page(tx, whose.scope, sieve, limit=limit, after=position, newest_first=newest_first)
    following = f'"{found.position}"' if found.more else "null"
    body = f'{{"items":[{",".join(map(line, found.items))}],"next":{following}}}'
    return Response(body, media_type="application/json")


async def _count(state: State, whose: Whose, sieve: Sieve, after: str | None) -> Count:
    position = Position.read(after)
    async with state.readers.begin() as tx:
        found = await records.count_kept(tx, whose.scope, sieve, after=position)
    return Count(count=found.count, next=None if found.position is None else str(found.position))


async def _rate(state: State, whose: Whose, sieve: Sieve, minutes: int) -> Rate:
    async with state.readers.begin() as tx:
        found = await records.count_of_last(tx, whose.scope, minutes, sieve)
    complete = found.position is None
    return Rate(minutes=minutes, count=found.count, per_minute=found.count / minutes, complete=complete)


async def export(state: State, whose: Whose, sieve: Sieve, form: str, after: tuple[str, int]) -> Response:
    """The records as a file; see `Exports.begin`."""
    # In a thread: loading pyarrow takes a while.
    writer: Format = await asyncio.to_thread(FORMATS[form])
    pieces = await state.exports.begin(whose.scope, sieve, writer, after, permit=whose.permit)
    name = f"{whose.name}-records-{datetime.now(UTC):%Y-%m-%d}.{writer.suffix}"
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    headers = {
        "content-disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-accel-buffering": "no",
    }
    return StreamingResponse(pieces, media_type=writer.media_type, headers=headers)


router = APIRouter(tags=["records"])
router.include_router(of_profiles)
router.include_router(of_accounts)
