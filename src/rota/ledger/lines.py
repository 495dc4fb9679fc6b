"""Lines: records as COPY reads them, made once and checked on the way for what PostgreSQL cannot keep.

A line holds what differs from record to record, up to its last tab; `pushes` adds what a batch has in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic_core import PydanticSerializationError, to_json

from rota.errors import FieldError, InvalidRequestError
from rota.ledger import checks
from rota.protocol import DEFAULT_KIND, RecordFields

_NULL = b"\\N"
_NOW = b"now"
"""What PostgreSQL reads as the moment of the transaction: of `received_at`, too."""
_SUSPECT = (b"\\u0000", b"NaN", b"Infinity")
"""What JSON with a NUL or without a finite number must contain; text that merely looks so is looked at again."""


def lines(records: Sequence[RecordFields]) -> list[bytes]:
    """One line for each record, in their order; `records` is what the protocol allows.

    Raises:
        InvalidRequestError: PostgreSQL cannot keep one of them; it is named by its position.
    """
    try:
        texts = [_json(record) for record in records]
    except (PydanticSerializationError, ValueError):
        _blame(records)
        raise
    whole = b"".join(texts)
    if any(part in whole for part in _SUSPECT):
        _blame(records)
    if b"\\" in whole:
        texts = [text if text is _NULL else text.replace(b"\\", b"\\\\") for text in texts]
    return [
        b"%d\t%b\t%b\t%b\t" % (position, record.get("kind", DEFAULT_KIND).encode(), _moment(record.get("at")), text)
        for position, (record, text) in enumerate(zip(records, texts, strict=True))
    ]


def _json(record: RecordFields) -> bytes:
    data = record.get("data")
    return _NULL if data is None else to_json(data)


def _moment(at: datetime | None) -> bytes:
    return _NOW if at is None else at.isoformat().encode()


def _blame(records: Sequence[RecordFields]) -> None:
    for position, record in enumerate(records):
        wrong = checks.unstorable(record.get("data"))
        if wrong is not None:
            where = ".".join(("records", str(position), "data", *wrong[0]))
            raise InvalidRequestError(f"{where}: {wrong[1]}", fields=(FieldError(where, wrong[1]),))
