"""What the ledger accepts from people: names, labels, configurations, moments. Every refusal names the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rota import storable
from rota.errors import FieldError, InvalidRequestError
from rota.protocol import Labels

MAX_NAME = 200
MAX_CONFIG_BYTES = 65_536
_LABELS = TypeAdapter(Labels)


def refuse(field: str, message: str) -> InvalidRequestError:
    """The error for one wrong field."""
    return InvalidRequestError(f"{field}: {message}", fields=(FieldError(field, message),))


def name(value: str, field: str = "name") -> str:
    """1 to 200 printable characters."""
    text = value.strip()
    if not 1 <= len(text) <= MAX_NAME or not text.isprintable():
        raise refuse(field, f"must be 1 to {MAX_NAME} printable characters")
    return text


def labels(value: Mapping[str, str]) -> dict[str, str]:
    """At most 16 labels of letters, digits and `._/-`."""
    try:
        return _LABELS.validate_python(dict(value))
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in ("labels", *wrong["loc"]))
        raise refuse(where, wrong["msg"]) from None


def priority(value: int) -> int:
    """-100 to 100."""
    if not -100 <= value <= 100:  # noqa: PLR2004
        raise refuse("priority", "must be between -100 and 100")
    return value


def config(value: Mapping[str, Any]) -> dict[str, Any]:
    """At most 64 KiB of JSON that PostgreSQL can keep."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise refuse("config", "must be plain JSON without NaN or Infinity") from None
    if len(text) > MAX_CONFIG_BYTES:
        raise refuse("config", f"must be at most {MAX_CONFIG_BYTES} bytes of JSON")
    wrong = storable.fault(value)
    if wrong is not None:
        raise refuse(wrong.place("config"), wrong.why)
    return dict(value)


def future(value: datetime | None, field: str = "expires_at") -> datetime | None:
    """A moment to come, with its time zone (UTC where none is named)."""
    if value is None:
        return None
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    if aware <= datetime.now(UTC):
        raise refuse(field, "must be in the future")
    return aware
