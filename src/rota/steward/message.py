"""The body of a webhook's message: one profile's records, in order, as Standard Webhooks wants it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from rota.ledger.webhook_deliveries import Delivery, Sent

RECORDS, TEST = "records.pushed", "webhook.test"
"""The types of messages."""


def body_of(delivery: Delivery, sent: Sequence[Sent]) -> bytes:
    """The message with these records; `missing` tells how many were removed before they could be sent."""
    head = {
        "type": RECORDS,
        "timestamp": iso(sent[-1].received_at),
        "data": {
            "webhook": delivery.webhook,
            "profile": delivery.profile,
            "count": len(sent),
            "missing": delivery.lost + delivery.count - len(sent),
        },
    }
    # The records' data goes in as PostgreSQL has it: read and written anew, long numbers would lose digits.
    records = ",".join(_record(one) for one in sent)
    return f'{_json(head)[:-2]},"records":[{records}]}}}}'.encode()


def body_of_test(webhook: str) -> bytes:
    """What a test sends."""
    data = {"webhook": webhook, "message": "This is a test. No record was pushed."}
    return _json({"type": TEST, "timestamp": iso(datetime.now(UTC)), "data": data}).encode()


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC, as everywhere in rota's interfaces."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _record(one: Sent) -> str:
    head = {
        "id": one.id,
        "epoch": one.epoch,
        "batch": one.batch,
        "position": one.position,
        "bot": one.bot,
        "kind": one.kind,
        "at": iso(one.at),
        "received_at": iso(one.received_at),
    }
    return f'{_json(head)[:-1]},"data":{"null" if one.data is None else one.data}}}'


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
