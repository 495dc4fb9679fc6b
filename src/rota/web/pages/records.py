"""The page of a profile's records, `/profiles/{id}/records`: filter, pages, and files to take away.

Filter and pages are plain links and a form that is sent with GET, so that an address holds all that is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from rota.errors import InvalidRequestError, UnavailableError
from rota.ledger import checks, profiles, records
from rota.ledger.profiles import Profile
from rota.ledger.search import Found, Position, Record, Scope
from rota.ledger.sieve import MOST_CHARACTERS, Sieve
from rota.protocol import MAX_EPOCH, Moment
from rota.web.api.records import Whose, export
from rota.web.pages.rendering import link, render
from rota.web.session import Session, signed_in
from rota.web.state import State, current

router = APIRouter(include_in_schema=False)

SHOWN = 50
RATE_MINUTES = 5
MOST_DATA, MOST_OPENED = 240, 20_000
"""Characters of a record's data: in its line, and where it is opened."""
FORMATS = (("ndjson", "NDJSON"), ("csv", "CSV"), ("parquet", "Parquet"))
_MOMENT = TypeAdapter(Moment)


@dataclass(frozen=True)
class RecordLine:
    """One record; `data` is JSON, cut where it is long, and `whole` then more of it, over several lines."""

    id: int
    at: datetime
    kind: str
    bot: str
    data: str
    whole: str


@dataclass(frozen=True)
class Asked:
    """What the form says, as it was typed; empty fields ask for nothing."""

    kind: str = ""
    bot: str = ""
    epoch: str = ""
    since: str = ""
    until: str = ""
    where: str = ""
    order: Literal["newest", "oldest"] = "newest"

    def query(self) -> dict[str, str]:
        """As an address has it."""
        names = {"kind": self.kind, "bot": self.bot, "epoch": self.epoch, "from": self.since, "to": self.until}
        return {name: text for name, text in {**names, "where": self.where}.items() if text}


@dataclass(frozen=True)
class RecordsPage:
    """A profile's records.

    here: this page's own address.
    plain: its address without any filter.
    asked: what the form says; `is_filtered` whether that leaves anything out, `filtered_by` in words.
    wrong: the field that is wrong, and why; empty where nothing is.
    renews: whether the page asks for itself again and again: the newest ones of all.
    per_minute: how many arrive, over the last `rate_minutes`; None where that is not told.
    searched: whether more was looked through than there was time for: there may be more on the next page.
    first, following: addresses of the first and the next page, or None.
    files: name and address of each format.
    """

    profile: Profile
    here: str
    plain: str
    asked: Asked
    is_filtered: bool
    filtered_by: str
    wrong: tuple[str, str]
    renews: bool
    per_minute: float | None
    rate_minutes: int
    lines: tuple[RecordLine, ...]
    searched: bool
    first: str | None
    following: str | None
    files: tuple[tuple[str, str], ...]


def asked(
    kind: Annotated[str, Query(max_length=64)] = "",
    bot: Annotated[str, Query(max_length=400)] = "",
    epoch: Annotated[str, Query(max_length=20)] = "",
    since: Annotated[str, Query(alias="from", max_length=40)] = "",
    until: Annotated[str, Query(alias="to", max_length=40)] = "",
    where: Annotated[str, Query(max_length=MOST_CHARACTERS)] = "",
    order: Literal["newest", "oldest"] = "newest",
) -> Asked:
    """What the form says."""
    return Asked(
        kind=kind.strip(),
        bot=bot.strip(),
        epoch=epoch.strip(),
        since=since.strip(),
        until=until.strip(),
        where=where.strip(),
        order=order,
    )


Form = Annotated[Asked, Depends(asked)]


@router.get("/profiles/{profile_id}/records")
async def records_page(
    request: Request,
    _: Annotated[Session, Depends(signed_in)],
    profile_id: str,
    form: Form,
    after: Annotated[str, Query(max_length=60)] = "",
) -> Response:
    """The profile's records."""
    page = await _read(current(request), profile_id, form, after)
    title = f"Records of {page.profile.name}"
    status = InvalidRequestError.status if page.wrong[0] else 200
    return render(request, "records.html", page, title=title, fleet=page.profile.fleet, status=status)


@router.get("/profiles/{profile_id}/records/export")
async def records_file(
    request: Request,
    _: Annotated[Session, Depends(signed_in)],
    profile_id: str,
    form: Form,
    file: Annotated[Literal["ndjson", "csv", "parquet"], Query(alias="format")] = "ndjson",
) -> Response:
    """The same records as a file."""
    state = current(request)
    async with state.ledger.begin() as tx:
        profile = await profiles.get(tx, profile_id)
    return await export(state, Whose(Scope(profile=profile.id), profile.name), _sieve(form), file, (profile.id, 0))


def shown(found: Sequence[Record]) -> tuple[RecordLine, ...]:
    """The records as lines."""
    return tuple(RecordLine(one.id, one.at, one.kind, one.bot, *_cut(one.text)) for one in found)


async def _read(state: State, profile_id: str, form: Asked, after: str) -> RecordsPage:
    async with state.ledger.begin() as tx:
        profile = await profiles.get(tx, profile_id)
    found, wrong = Found([], Position(0), more=False), ("", "")
    try:
        position = Position.read(after)
        sieve, newest_first = _sieve(form), form.order == "newest"
        async with state.readers.begin() as tx:
            found = await records.page(tx, profile.id, sieve, limit=SHOWN, after=position, newest_first=newest_first)
    except InvalidRequestError as error:
        field = error.fields[0] if error.fields else None
        wrong = (field.field, field.message) if field else ("where", error.detail)
    query, is_plain = form.query(), form.order == "newest"
    ordered = query if is_plain else {**query, "order": form.order}
    own = link("profiles", profile.id, "records")
    first = _address(own, ordered)
    return RecordsPage(
        profile=profile,
        here=_address(own, {**ordered, "after": after} if after else ordered),
        plain=own,
        asked=form,
        is_filtered=bool(query),
        filtered_by=", ".join(f"{'data' if name == 'where' else name} {text}" for name, text in query.items()),
        wrong=wrong,
        renews=is_plain and not query and not after,
        per_minute=await _per_minute(state, profile.id) if not query and not after else None,
        rate_minutes=RATE_MINUTES,
        lines=shown(found.items),
        searched=found.more and len(found.items) < SHOWN,
        first=first if after else None,
        following=_address(own, {**ordered, "after": str(found.position)}) if found.more else None,
        files=tuple((name, _address(f"{own}/export", {**query, "format": word})) for word, name in FORMATS),
    )


async def _per_minute(state: State, profile_id: str) -> float | None:
    try:
        async with state.readers.begin() as tx:
            counted = await records.count_of_last(tx, Scope(profile=profile_id), RATE_MINUTES)
    except UnavailableError:
        return None
    return counted.count / RATE_MINUTES if counted.position is None else None


def _sieve(form: Asked) -> Sieve:
    """What the form asks for.

    Raises:
        InvalidRequestError: a field cannot be read; it is named as the form has it.
    """
    epoch = None
    if form.epoch:
        if not (form.epoch.isascii() and form.epoch.isdecimal()) or not 1 <= int(form.epoch) <= MAX_EPOCH:
            raise checks.refuse("epoch", "must be a number, as the list of who worked on it has it")
        epoch = int(form.epoch)
    since, until = _moment(form.since, "from"), _moment(form.until, "to")
    kind, bot, where = form.kind or None, form.bot or None, form.where or None
    return Sieve(kind=kind, bot=bot, epoch=epoch, since=since, until=until, where=where)


def _moment(text: str, field: str) -> datetime | None:
    if not text:
        return None
    try:
        return _MOMENT.validate_python(text)
    except ValidationError:
        raise checks.refuse(field, "must be a date and a time, such as 2026-11-23T10:00") from None


def _address(path: str, query: dict[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _cut(text: str) -> tuple[str, str]:
    if len(text) <= MOST_DATA:
        return text, ""
    # Not read where it is huge: nobody looks through it here, and the file has it whole.
    opened = text if len(text) > MOST_OPENED else json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    if len(opened) > MOST_OPENED:
        opened = f"{opened[:MOST_OPENED]}…\n({len(text):,} characters; the file has all of them)"
    return f"{text[: MOST_DATA - 1]}…", opened
