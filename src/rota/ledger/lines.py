"""Lines: records as COPY reads them, made once and checked on the way for what PostgreSQL cannot keep.

A line holds what differs from record to record, up to its last tab; `pushes` adds what a batch has in common.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic_core import to_json

from rota import storable
from rota.errors import FieldError, InvalidRequestError
from rota.protocol import DEFAULT_KIND, RecordFields

_NULL = b"\\N"
_NOW = b"now"
"""What PostgreSQL reads as the moment of the transaction: of `received_at`, too."""
MOST_NAMED = 100
"""Records of one batch that a refusal names."""


def lines(records: Sequence[RecordFields]) -> list[bytes]:
    """One line for each record, in their order; `records` is what the protocol allows.

    Raises:
        InvalidRequestError: PostgreSQL cannot keep some of them; they are named by their positions.
    """
    try:
        texts = [_json(record) for record in records]
    except ValueError:
        refuse_faults([record.get("data") for record in records])
        raise
    whole = b"".join(texts)
    if storable.is_suspect(whole):
        refuse_faults([record.get("data") for record in records])
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


def refuse_faults(data: Sequence[Any]) -> None:
    """Looks for what cannot be kept in the data of the records of one batch; each is named at one place.

    Raises:
        InvalidRequestError: there is such data.
    """
    faults = ((position, storable.fault(value)) for position, value in enumerate(data))
    found = (FieldError(wrong.place("records", str(at), "data"), wrong.why) for at, wrong in faults if wrong)
    if named := tuple(itertools.islice(found, MOST_NAMED)):
        raise InvalidRequestError(f"{named[0].field}: {named[0].message}", fields=named)
