"""What `push_data` brings, made ready for the ledger."""

from __future__ import annotations

import json
from typing import Any

from rota.errors import FieldError, InvalidRequestError
from rota.ledger import checks


def storable(position: int, data: Any) -> str | None:
    """One record's data as JSON text that PostgreSQL can keep.

    Raises:
        InvalidRequestError: it cannot; the record is named by its position.
    """
    wrong = checks.unstorable(data)
    if wrong is not None:
        where = ".".join(("records", str(position), "data", *wrong[0]))
        raise InvalidRequestError(f"{where}: {wrong[1]}", fields=(FieldError(where, wrong[1]),))
    try:
        return None if data is None else json.dumps(data)
    except ValueError as error:
        where = f"records.{position}.data"
        raise InvalidRequestError(f"{where}: {error}", fields=(FieldError(where, str(error)),)) from None
