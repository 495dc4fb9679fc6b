"""What incidents there are about webhooks: receivers that fail for long, messages given up, records lost."""

from __future__ import annotations

from datetime import UTC, datetime

from rota.ledger import webhooks
from rota.ledger.connection import Transaction
from rota.ledger.incidents import Sighting
from rota.ledger.webhooks import Webhook

FAILING, DEAD, LOST = "webhook_failing", "webhook_dead_letters", "webhook_lost_records"
FAILING_FOR = 600.0
"""Seconds for which a receiver must have failed without a success."""
LOST_WITHIN = 86_400.0
"""Seconds for which lost records are told of."""
MOST = 200


async def webhook_troubles(tx: Transaction, fleet: str) -> dict[str, list[Sighting]]:
    """Kind → what is seen of it at this moment, for webhooks that concern profiles of this fleet."""
    found = await webhooks.troubled(tx, fleet, failing_for=FAILING_FOR, lost_within=LOST_WITHIN, most=MOST)
    # Each was found for one reason at least; another one may be too young, or too old, to be told of.
    failing = [failing_webhook(one) for one in found if one.state == "gone" or _age(one.failing_since) > FAILING_FOR]
    dead = [dead_letters(one) for one in found if one.dead]
    lost = [lost_records(one) for one in found if 0 <= _age(one.lost_at) < LOST_WITHIN]
    return {FAILING: failing, DEAD: dead, LOST: lost}


def failing_webhook(webhook: Webhook) -> Sighting:
    """Its receiver takes nothing."""
    detail = {"error": webhook.last_error, "status": webhook.last_status, "waiting": webhook.waiting}
    if webhook.state == "gone":
        message = (
            f"{_named(webhook)} gets nothing any more: its receiver answered 410 Gone. "
            f"Delete it, or enable it again: `rota webhook update {webhook.id} --enable`"
        )
    else:
        message = (
            f"{_named(webhook)} takes nothing: {(webhook.last_error or 'no reason is known').rstrip('.')}. "
            f"Records of {_number(webhook.waiting, 'profile')} wait; messages are given up after a day of tries"
        )
    return Sighting(webhook.id, message, detail)


def dead_letters(webhook: Webhook) -> Sighting:
    """Messages were given up."""
    message = (
        f"{_number(webhook.dead, 'message')} to {_named(webhook, first=False)} "
        f"{'was' if webhook.dead == 1 else 'were'} given up: to be sent once more, or discarded, with "
        f"`rota webhook dead`"
    )
    return Sighting(webhook.id, message, {"dead_letters": webhook.dead, "error": webhook.last_error})


def lost_records(webhook: Webhook) -> Sighting:
    """Retention was quicker than the receiver."""
    message = (
        f"{_named(webhook)} will never get {_number(webhook.lost, 'record')}: the end of the retention came before "
        f"the receiver had taken them"
    )
    return Sighting(webhook.id, message, {"lost": webhook.lost})


def _age(moment: datetime | None) -> float:
    """Seconds; -1 where there is no such moment."""
    return -1.0 if moment is None else max(0.0, (datetime.now(UTC) - moment).total_seconds())


def _named(webhook: Webhook, *, first: bool = True) -> str:
    """The address is not named: many hold a secret in their path."""
    name = f"{webhook.label} ({webhook.id})" if webhook.label else webhook.id
    return f"{'W' if first else 'w'}ebhook {name}"


def _number(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
