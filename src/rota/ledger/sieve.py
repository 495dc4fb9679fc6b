"""Which records are wanted: by kind, bot, epoch and time, and by a JSONPath on their data.

`records.py` asks with it. A path is PostgreSQL's own (`jsonpath`), and PostgreSQL alone decides whether it is one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, exc, func, select, true
from sqlalchemy.types import UserDefinedType

from rota.errors import InvalidRequestError
from rota.ledger import checks
from rota.ledger.connection import Transaction, sqlstate
from rota.ledger.tables import records

MOST_CHARACTERS = 2_000
"""Of a path."""
_TRIED = 50
"""Places of a word at which the fault is looked for."""
_MISTAKES = {"0A", "21", "22", "42", "54"}
"""SQLSTATE classes by which PostgreSQL says that a path is wrong: not supported, data, syntax, too complex."""
_VARIABLE = re.compile(r'could not find jsonpath variable "(.*)"', re.DOTALL)
_NEAR = re.compile(r'at or near "(.+)" of jsonpath input', re.DOTALL)


class _JsonPath(UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "jsonpath"


@dataclass(frozen=True)
class Sieve:
    """What a record must be like; None asks for nothing.

    since, until: by `received_at`, from the first (included) to the second (not included).
    at_since, at_until: the same by `at`, which the bot tells.
    where: a JSONPath that finds something in `data`, or a comparison that holds there.
    """

    kind: str | None = None
    bot: str | None = None
    epoch: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    at_since: datetime | None = None
    at_until: datetime | None = None
    where: str | None = None

    @property
    def takes_all(self) -> bool:
        """Whether every record passes."""
        return all(getattr(self, field.name) is None for field in fields(self))

    def conditions(self, *, compares: bool) -> list[ColumnElement[bool]]:
        """The WHERE of it; `compares` is what `check` said of the path."""
        row, found = records.c, list[ColumnElement[bool]]()
        for column, value in ((row.kind, self.kind), (row.bot, self.bot), (row.epoch, self.epoch)):
            if value is not None:
                found.append(column == value)
        for column, first, end in (
            (row.received_at, self.since, self.until),
            (row.at, self.at_since, self.at_until),
        ):
            found += [column >= first] if first is not None else []
            found += [column < end] if end is not None else []
        if self.where is not None:
            found.append(row.data.op("@@" if compares else "@?", is_comparison=True)(_path(self.where)))
        return found


ALL = Sieve()


async def check(tx: Transaction, sieve: Sieve) -> bool:
    """Whether the path is a comparison, which holds or not (`@@`), rather than one that finds something (`@?`).

    Raises:
        InvalidRequestError: it is no path, and the message says where, or one that cannot be followed.
    """
    if sieve.where is None:
        return False
    if len(sieve.where) > MOST_CHARACTERS:
        raise checks.refuse("where", f"a JSONPath of at most {MOST_CHARACTERS} characters")
    wrong = await _wrong(tx, sieve.where)
    if wrong is not None:
        raise checks.refuse("where", await _explained(tx, sieve.where, wrong))
    try:
        async with tx.begin_nested():
            return await _found_in_a_text(tx, sieve.where) in ("[true]", "[false]", "[null]")
    except exc.DBAPIError as error:
        raise mistake(error, sieve) or error from error


def mistake(error: exc.DBAPIError, sieve: Sieve) -> InvalidRequestError | None:
    """The refusal, where a path was found to be wrong only when it met data."""
    if sieve.where is None or (sqlstate(error) or "")[:2] not in _MISTAKES:
        return None
    variable = _VARIABLE.search(_first_line(error))
    if variable is not None:
        return checks.refuse("where", f"there are no variables here: write the value itself instead of ${variable[1]}")
    return checks.refuse("where", f"not possible with this data: {_first_line(error)}")


async def _found_in_a_text(tx: Transaction, path: str) -> str:
    """A comparison gives one truth value whatever it looks at, and no other path gives one of a text."""
    sample, nothing = func.to_jsonb(cast("text", Text)), func.jsonb_build_object()
    found = func.jsonb_path_query_array(sample, _path(path), nothing, true())
    return str((await tx.execute(select(cast(found, Text)))).scalar_one())


def _path(text: str) -> ColumnElement[str]:
    return cast(cast(text, Text), _JsonPath())


async def _wrong(tx: Transaction, text: str) -> str | None:
    """What PostgreSQL has against the path."""
    try:
        async with tx.begin_nested():
            await tx.execute(select(cast(_path(text), Text)))
    except exc.DBAPIError as error:
        if (sqlstate(error) or "")[:2] not in _MISTAKES:
            raise
        return _first_line(error)
    return None


async def _explained(tx: Transaction, text: str, wrong: str) -> str:
    """PostgreSQL names the word at which it stopped, and not its place: the shortest beginning that fails alike."""
    near = _NEAR.search(wrong)
    if near is None:
        if "at end of" in wrong:
            return f"not a JSONPath: it ends too early, after character {len(text)}"
        return f"not a JSONPath: {wrong}"
    word = near[1]
    ends = [found.end() for found in re.finditer(re.escape(word), text)][:_TRIED]
    for end in ends[:-1]:
        if await _wrong(tx, text[:end]) == wrong:
            return _place(text, word, end)
    return _place(text, word, ends[-1]) if ends else f"not a JSONPath: {wrong}"


def _place(text: str, word: str, end: int) -> str:
    start = end - len(word)
    return f"not a JSONPath: wrong at character {start + 1}, at {text[start : start + 20]!r}"


def _first_line(error: exc.DBAPIError) -> str:
    cause = error.orig.__cause__ if error.orig is not None else None
    return str(cause or error.orig).partition("\n")[0]
