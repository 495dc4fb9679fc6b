"""Looking for records: in order, page by page, within bounds of time, rows and bytes, however many there are.

A search walks over ids in windows. Each window is one statement that may take a moment only; it grows where little is
found and shrinks where that takes long, so that a sieve that lets one record in a million through still comes forward.

Three facts carry it. Ids of one profile rise in the order of commits (`pushes.py`), so that a position `id > last`
misses nothing of a profile. A record's `received_at` is when its transaction began, and its id is drawn after that. And
`received_at` goes with the ids but for `TIME_SLACK`: no transaction lasts for long (a statement ends by its timeout, an
idle transaction by the connection's), so that almost all of it is left for a clock that is set back. A day would make
every search of the last minutes look through a day.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from sqlalchemy import ColumnElement, Select, Text, cast, exc, func, literal, select, true

from rota.errors import UnavailableError
from rota.ledger import checks
from rota.ledger import sieve as sieves
from rota.ledger.connection import Transaction, sqlstate
from rota.ledger.sieve import Sieve
from rota.ledger.tables import profiles, records

PAGE_BYTES = 4 * 1_048_576
"""JSON of one page's data, and one record beyond; then the page ends early."""
STATEMENT_SECONDS = 2.0
SEARCH_SECONDS = 3.0
"""After which a search tells what it has, and where to go on."""
FIRST_WINDOW = 4_096
"""Ids."""
MOST_ID = 2**63 - 1
MOST_ROWS = 5_000
"""Of one statement."""
QUICK, SLOW = 0.1, 0.5
"""Seconds of a window, below which the next is wider, and above which it is narrower."""
CLOCK_SLACK = timedelta(days=1)
"""How far the database's clock may be set back without anything being missed behind a position."""
TIME_SLACK = timedelta(hours=1)
"""The same for a search by `received_at`, together with how long a transaction may last."""

_CANCELLED = "57014"
_POSITION = re.compile(r"([0-9]{1,18})-([0-9]{1,14})(?:-([0-9]{1,18}))?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Record:
    """One record as it was taken. `text` is its data as JSON, as PostgreSQL writes it."""

    id: int
    profile: str
    epoch: int
    batch: int
    position: int
    bot: str
    kind: str
    at: datetime
    received_at: datetime
    text: str

    @property
    def data(self) -> Any:
        """What the bot pushed."""
        return json.loads(self.text)


@dataclass(frozen=True)
class Scope:
    """Whose records: one profile's, or those of all profiles of an account that are not deleted."""

    profile: str | None = None
    account: str | None = None


@dataclass(frozen=True)
class Position:
    """A place between two records; people and programs see its text, and read nothing from it.

    id: of the last record that was passed.
    ms: when it was received, in Unix milliseconds; lets PostgreSQL leave partitions out. 0 where it is not known.
    ceiling: highest id that this walk goes to, or 0 where it has no end.
    """

    id: int
    ms: int = 0
    ceiling: int = 0

    def __str__(self) -> str:
        return f"{self.id}-{self.ms}" + (f"-{self.ceiling}" if self.ceiling else "")

    @classmethod
    def read(cls, text: str | None, field: str = "after") -> Position | None:
        """The position that a text stands for; None for none.

        Raises:
            InvalidRequestError: it stands for none.
        """
        if not text:
            return None
        found = _POSITION.fullmatch(text)
        if found is None:
            raise checks.refuse(field, "must be the `next` of the page before, or the id of an event")
        return cls(int(found[1]), int(found[2]), int(found[3] or 0))

    @classmethod
    def at(cls, record_id: int, received_at: datetime, ceiling: int = 0) -> Position:
        """Just behind a record."""
        return cls(record_id, (received_at - _EPOCH) // timedelta(milliseconds=1), ceiling)


BEGINNING = Position(0)
Ask = Callable[[Sequence[ColumnElement[bool]]], Select[Any]]
"""What is asked of a window, given the conditions of being within it."""


@dataclass(frozen=True)
class Found:
    """What a search came to. `position` is where to go on; `more` whether anything may be left behind it."""

    items: list[Record]
    position: Position
    more: bool


@dataclass(frozen=True)
class Counted:
    """How many records were counted; `position` is where to go on where there was no time for all of them."""

    count: int
    position: Position | None


class Walk:
    """One search under way: `lowest` to `highest` are the ids that it has not looked at."""

    @classmethod
    async def begin(
        cls, tx: Transaction, scope: Scope, sieve: Sieve, after: Position | None, *, newest_first: bool, bounded: bool
    ) -> Self:
        """A walk from behind this position; `bounded` where a window alone keeps a statement short.

        Raises:
            InvalidRequestError: the path of the sieve is none.
        """
        settings = {
            "statement_timeout": str(int(STATEMENT_SECONDS * 1000)),
            "plan_cache_mode": "force_custom_plan",  # which partitions are needed depends on the values
            "jit": "off",
        }
        await tx.execute(select(*(func.set_config(name, value, true()) for name, value in settings.items())))
        walk = cls(tx, scope, sieve, compares=await sieves.check(tx, sieve), newest_first=newest_first)
        await walk._go_to(after, bounded=bounded)
        return walk

    def __init__(self, tx: Transaction, scope: Scope, sieve: Sieve, *, compares: bool, newest_first: bool) -> None:
        """See `begin`."""
        self._tx = tx
        self._scope = scope
        self._sieve = sieve
        self._conditions = sieve.conditions(compares=compares)
        self._newest_first = newest_first
        self._ends_at = 0.0
        self.position = BEGINNING
        self.lowest, self.highest = 0, MOST_ID
        self._in_windows = False
        self._width = MOST_ID
        self._rows = MOST_ROWS
        self._moved = False

    async def _go_to(self, after: Position | None, *, bounded: bool) -> None:
        if bounded:
            self._in_windows, self._width = True, FIRST_WINDOW
            self.lowest, self.highest = await self._bounds()
        self._ends_at = time.monotonic() + SEARCH_SECONDS
        self.position = after or BEGINNING
        if self._newest_first:
            self.highest = min(self.highest, after.id - 1) if after else self.highest
            return
        self.lowest = max(self.lowest, self.position.id + 1)
        self.highest = min(self.highest, self.position.ceiling or MOST_ID)
        if self._scope.profile is None:
            self.position = Position(self.position.id, self.position.ms, max(0, self.highest))

    async def records(self, limit: int) -> Found:
        """At most so many, ending earlier at `PAGE_BYTES` and after `SEARCH_SECONDS`.

        Raises:
            InvalidRequestError: the path of the sieve takes too long.
        """
        found: list[Record] = []
        size = 0
        while self._goes_on() and len(found) < limit and size < PAGE_BYTES:
            window = await self._read(limit + 1 - len(found), PAGE_BYTES - size)
            if window is None:
                break
            rows, edge = window
            more = len(found) + len(rows) > limit
            found += rows[: limit - len(found)]
            size += _size(rows)
            if rows:
                self._pass(found[-1])
            if more:
                return Found(found, self.position, more=True)
            if edge is not None:
                self._pass_edge(edge)
        return Found(found, self.position, more=self.lowest <= self.highest)

    async def count(self) -> Counted:
        """How many, as far as `SEARCH_SECONDS` go.

        Raises:
            InvalidRequestError: as `records`.
        """
        total = 0
        while self._goes_on():
            window = await self._window(lambda within: select(func.count()).select_from(records).where(*within))
            if window is None:
                break
            total += window[0][0][0]
            self._pass_edge(window[1])
        return Counted(total, self.position if self.lowest <= self.highest else None)

    def _goes_on(self) -> bool:
        """Whether something is left, and time for it; the first step is always taken, so that each search gets on."""
        return self.lowest <= self.highest and (not self._moved or time.monotonic() < self._ends_at)

    def _edge(self) -> int:
        """The last id of the next window."""
        if self._newest_first:
            return max(self.lowest, self.highest - self._width + 1)
        return min(self.highest, self.lowest + self._width - 1)

    def _within(self, edge: int) -> list[ColumnElement[bool]]:
        row = records.c
        first, last = (edge, self.highest) if self._newest_first else (self.lowest, edge)
        conditions = [self._scoped(), row.id >= first, row.id <= last, *self._conditions]
        if self.position.ms:
            # Only to leave partitions out: what was received a day before the last one was not committed after it.
            about = _EPOCH + timedelta(milliseconds=self.position.ms)
            newer = row.received_at >= about - CLOCK_SLACK
            conditions.append(row.received_at <= about + CLOCK_SLACK if self._newest_first else newer)
        return conditions

    def _scoped(self) -> ColumnElement[bool]:
        if self._scope.profile is not None:
            return records.c.profile_id == self._scope.profile
        return records.c.profile_id.in_(profiles_in(self._scope))

    async def _read(self, want: int, most_bytes: int) -> tuple[list[Record], int | None] | None:
        """The next window's first records, and its edge where these are all of it; None where time ran out."""
        window = await self._window(
            lambda within: _bounded(within, min(want, self._rows), most_bytes, newest_first=self._newest_first)
        )
        if window is None:
            return None
        read = [Record(*row) for row in window[0]]
        is_whole = len(read) < min(want, self._rows) and _size(read) < most_bytes
        return read, window[1] if is_whole else None

    async def _window(self, ask: Ask) -> tuple[Sequence[Any], int] | None:
        """What is asked of the next window, and the window's edge; smaller and smaller ones until one is quick enough.

        None where time ran out.
        """
        while True:
            edge = self._edge()
            rows = await self._tried(ask(self._within(edge)))
            if rows is not None:
                return rows, edge
            if not self._goes_on():
                return None

    async def _tried(self, query: Select[Any]) -> Sequence[Any] | None:
        """The rows; None where that took too long, and the next try is to be smaller."""
        started = time.monotonic()
        try:
            async with self._tx.begin_nested():
                found: Sequence[Any] = (await self._tx.execute(query)).all()
        except exc.DBAPIError as error:
            if sqlstate(error) != _CANCELLED:
                raise sieves.mistake(error, self._sieve) or error from error
            self._shrink()
            return None
        took = time.monotonic() - started
        if took < QUICK:
            self._width = min(MOST_ID, self._width * 4)
        elif took > SLOW:
            self._width = max(1, self._width // 4)
        return found

    def _shrink(self) -> None:
        """Whatever is slow, rows or ids: fewer of both."""
        width = min(self._width, self.highest - self.lowest + 1)
        if width == 1 or (self._rows == 1 and self._sieve.takes_all):
            if self._sieve.where is None:
                raise UnavailableError("The ledger is too slow at the moment: try again.")
            raise checks.refuse("where", f"takes more than {STATEMENT_SECONDS:.0f} s on one record: make it simpler")
        if self._in_windows:
            self._width = max(1, width // 64)
        self._rows = max(1, min(self._rows, 500) // 8)

    def _pass(self, record: Record) -> None:
        self._moved = True
        self.position = Position.at(record.id, record.received_at, self.position.ceiling)
        self._leave_behind(record.id)

    def _pass_edge(self, edge: int) -> None:
        self._moved = True
        if self._in_windows:
            self.position = Position(edge, self.position.ms, self.position.ceiling)
        self._leave_behind(edge)

    def _leave_behind(self, passed: int) -> None:
        if self._newest_first:
            self.highest = passed - 1
        else:
            self.lowest = passed + 1

    async def _bounds(self) -> tuple[int, int]:
        """The lowest and highest id that can be wanted, from look-ups alone."""
        since, until, row = self._sieve.since, self._sieve.until, records.c
        lowest, highest = await self._extremes()
        if since is not None:
            before = row.received_at < _moved_by(since, -TIME_SLACK)
            last = select(row.id).where(before).order_by(row.received_at.desc(), row.id.desc()).limit(1)
            lowest = max(lowest, await self._tx.scalar(last) or 0)
        if until is not None:
            behind = row.received_at >= _moved_by(until, TIME_SLACK)
            first = select(row.id).where(behind).order_by(row.received_at, row.id).limit(1)
            found = await self._tx.scalar(first)
            highest = min(highest, MOST_ID if found is None else found)
        return lowest, highest

    async def _extremes(self) -> tuple[int, int]:
        """Of the records in scope, partitions out of the wanted time left out."""
        owners = profiles_in(self._scope).subquery("owners")
        row, conditions = records.c, [records.c.profile_id == owners.c.id]
        if self._sieve.since is not None:
            conditions.append(row.received_at >= _moved_by(self._sieve.since, -CLOCK_SLACK))
        if self._sieve.until is not None:
            conditions.append(row.received_at < _moved_by(self._sieve.until, CLOCK_SLACK))
        first = select(row.id).where(*conditions).order_by(row.id).limit(1).lateral("first")
        last = select(row.id).where(*conditions).order_by(row.id.desc()).limit(1).lateral("last")
        joined = owners.join(first, true()).join(last, true())
        found = await self._tx.execute(select(func.min(first.c.id), func.max(last.c.id)).select_from(joined))
        lowest, highest = found.one()
        return (0, -1) if lowest is None else (lowest, highest)


def profiles_in(scope: Scope) -> Select[Any]:
    """The ids of the profiles in scope."""
    if scope.profile is not None:
        return select(literal(scope.profile).label("id"))
    return select(profiles.c.id).where(profiles.c.account_id == scope.account, profiles.c.deleted_at.is_(None))


def _bounded(
    conditions: Sequence[ColumnElement[bool]], rows: int, most_bytes: int, *, newest_first: bool
) -> Select[Any]:
    """So many rows, up to the one with which their data is over so many bytes: that may be a megabyte each."""

    def ordered(column: ColumnElement[int]) -> ColumnElement[int]:
        return column.desc() if newest_first else column

    row = records.c
    plain = (row.id, row.profile_id, row.epoch, row.batch, row.position, row.bot, row.kind, row.at, row.received_at)
    text = func.coalesce(cast(row.data, Text), "null").label("text")
    read = select(*plain, text).where(*conditions).order_by(ordered(row.id)).limit(rows).subquery("read")
    size = func.octet_length(read.c.text)
    before = (func.sum(size).over(order_by=ordered(read.c.id), rows=(None, 0)) - size).label("before")
    summed = select(read, before).subquery("summed")
    wanted = [column for column in summed.c if column is not summed.c.before]
    return select(*wanted).where(summed.c.before < most_bytes).order_by(ordered(summed.c.id))


def _moved_by(moment: datetime, duration: timedelta) -> datetime:
    """Another moment; the same one at the ends of the calendar."""
    try:
        return moment + duration
    except OverflowError:
        return moment


def _size(found: Sequence[Record]) -> int:
    return sum(len(record.text.encode()) for record in found)
