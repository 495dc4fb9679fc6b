"""docs/webhooks.md: the code that verifies does, and the numbers are those of the code."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

from rota.hooks import post
from rota.hooks.signature import headers, new_secret
from rota.ledger import dead_letters, webhook_deliveries, webhooks
from rota.steward import deliver, message, webhook_troubles
from tests.unit.test_docs_pages import blocks, page, section

GUIDE = page("webhooks.md")


def is_genuine(*arguments: Any) -> bool:
    (code,) = blocks(GUIDE, "python")
    defined: dict[str, Any] = {}
    exec(compile(code, "webhooks.md", "exec"), defined)  # noqa: S102 - our own
    return bool(defined["is_genuine"](*arguments))


def test_the_code_of_the_guide_tells_genuine_messages_from_others() -> None:
    old, new, now, body = new_secret(), new_secret(), int(time.time()), b'{"type":"records.pushed"}'
    signed = headers([new, old], "msg_1", now, body)
    assert is_genuine(old, signed, body)
    assert is_genuine(new, signed, body)
    assert not is_genuine(new_secret(), signed, body)
    assert not is_genuine(new, signed, body + b" ")
    assert not is_genuine(new, {**signed, "webhook-id": "msg_2"}, body)
    assert not is_genuine(new, headers([new], "msg_1", now - 3600, body), body)


def test_the_example_has_the_fields_of_a_message() -> None:
    (example,) = blocks(section(GUIDE, "## For receivers: what comes"), "json")
    told = json.loads(example)
    assert told["type"] == message.RECORDS
    assert f"`{message.TEST}`" in GUIDE
    moment = datetime.fromisoformat("2026-11-23T10:00:00+00:00")
    sent = webhook_deliveries.Sent(4711, 1, 42, 0, "s/1", "alarm", moment, moment, "{}")
    delivery = webhook_deliveries.Delivery(
        "msg_1", "whk_1", "prf_1", 1, 1, moment, moment, [], 1, 0, 1, 1, replayed=False, age=0
    )
    said = json.loads(message.body_of(delivery, [sent]))
    assert list(said) == list(told)
    assert list(said["data"]) == list(told["data"])
    assert list(said["data"]["records"][0]) == list(told["data"]["records"][0])


def test_the_numbers_of_the_guide_are_those_of_the_code() -> None:
    assert (webhook_deliveries.MOST_RECORDS, webhook_deliveries.MOST_BYTES) == (100, 256 * 1024)
    assert (post.WHOLE, deliver.FIRST_DELAY, deliver.LONGEST_DELAY, deliver.JITTER) == (20, 5, 3600, 0.2)
    assert (deliver.GIVE_UP_AFTER, deliver.LEAST_TRIES, deliver.FAILING) == (24 * 3600, 5, 5)
    assert (deliver.AT_ONCE, deliver.AT_ONCE_TO_ONE, deliver.ASK_AT_LEAST_EVERY) == (32, 8, 60)
    assert (dead_letters.KEPT_DAYS, dead_letters.KEPT) == (30, 10_000)
    assert (webhooks.MOST_OF_ONE, webhooks.LONGEST_OVERLAP) == (20, 7 * 86_400)
    assert webhook_deliveries.LEASE == 60
    assert webhook_troubles.FAILING_FOR == 600
