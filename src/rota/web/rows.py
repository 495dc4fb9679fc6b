"""Records as text: the line of JSON that REST, exports and live streams all send.

The data goes through as PostgreSQL wrote it, without being read: no number loses a digit, and a line costs little.
"""

from __future__ import annotations

import json
from datetime import datetime

from rota.ledger.search import Record

COLUMNS = ("id", "profile", "epoch", "batch", "position", "bot", "kind", "at", "received_at", "data")
"""What a record has, in the order of all formats."""


def line(record: Record) -> str:
    """One record as JSON, without a line end in it."""
    return (
        f'{{"id":{record.id},"profile":"{record.profile}","epoch":{record.epoch},"batch":{record.batch},'
        f'"position":{record.position},"bot":{json.dumps(record.bot)},"kind":{json.dumps(record.kind)},'
        f'"at":"{moment(record.at)}","received_at":"{moment(record.received_at)}","data":{record.text}}}'
    )


def moment(at: datetime) -> str:
    """ISO 8601 in UTC, as elsewhere in REST."""
    return at.isoformat().replace("+00:00", "Z")
