"""When a message is tried again, and when it is given up."""

from __future__ import annotations

from typing import Any

from rota.hooks.post import Outcome
from rota.ledger.webhook_deliveries import Delivery
from rota.steward import deliver


def _delivery(tries: int, age: float) -> Delivery:
    nothing: Any = None
    return Delivery("msg_1", "whk_1", "prf_1", 1, 1, nothing, nothing, [], 1, 0, tries, tries, replayed=False, age=age)


def _said(status: int | None, retry_after: float | None = None) -> Outcome:
    return Outcome(status, "no", retry_after, 0.1)


def test_tries_grow_apart_and_fill_a_day() -> None:
    passed = 0.0
    delays: list[float] = []
    while (delay := deliver._again_in(_delivery(len(delays) + 1, passed), _said(500))) is not None:
        delays.append(delay)
        passed += delay
    assert 4 <= delays[0] <= 6
    assert max(delays) <= 3600 * 1.2
    assert 86_400 <= passed < 86_400 + 3600 * 1.2
    assert 25 < len(delays) < 50


def test_a_wish_to_be_left_alone_is_heeded_within_bounds() -> None:
    assert deliver._again_in(_delivery(1, 0), _said(429, 120.0)) == 120.0
    assert deliver._again_in(_delivery(1, 0), _said(503, 1e9)) == 3600.0
    assert (deliver._again_in(_delivery(1, 0), _said(500, 120.0)) or 0) < 10
    assert deliver._pause(1, _said(503, 30.0)) == 30.0
    assert deliver._pause(1, _said(None)) == 0.0
    assert deliver._pause(50, _said(None)) == 60.0


def test_an_outage_of_rota_itself_does_not_use_up_a_messages_tries() -> None:
    assert deliver._again_in(_delivery(2, 1e6), _said(500)) is not None
    assert deliver._again_in(_delivery(5, 1e6), _said(500)) is None
    assert deliver._again_in(_delivery(9, 1e6), _said(410)) is not None
