"""Duty `deliver`: sends records to webhooks, beside the rounds of the steward that leads, and never in their way.

At least once and in order for each profile, whatever dies at whatever line: what is sent stands in the ledger before it
is sent (`rota.ledger.webhook_deliveries`), and is taken out after the receiver has said that it has it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import structlog

from rota.errors import RotaError
from rota.hooks.post import Outcome, Post
from rota.hooks.signature import headers
from rota.ledger import dead_letters, webhook_deliveries, webhook_positions, webhooks
from rota.ledger.connection import Ledger
from rota.ledger.webhook_deliveries import LEASE, Delivery
from rota.ledger.webhooks import Webhook
from rota.steward.message import body_of
from rota.steward.rounds import Every

PAUSE = 0.5
"""Seconds between two looks for something to send, if nothing calls for one earlier."""
AT_ONCE, AT_ONCE_TO_ONE = 32, 8
"""Messages under way, in all and to one webhook."""
FAILING = 5
"""Failures in a row after which an endpoint is asked with one message at a time, and less and less often."""
ASK_AT_LEAST_EVERY = 60.0
FIRST_DELAY, LONGEST_DELAY, JITTER = 5.0, 3_600.0, 0.2
"""Seconds until a message is tried again: doubled with each try, and spread by a fifth to both sides."""
GIVE_UP_AFTER, LEAST_TRIES = 86_400.0, 5
"""Seconds and tries after which a message is given up; both must be."""
GONE, BUSY = 410, frozenset({429, 503})
"""Statuses: 410 wants nothing any more; the others' `Retry-After` is heeded."""
NOTE_EVERY = 10.0
"""Seconds between two notes that an endpoint is well."""
PRUNE_EVERY = 60.0
STEPS = 40
"""Of finding, in one look."""
END_WITHIN = 3.0
"""Seconds that messages under way get to end when the steward stops or does not lead any more."""
GRACE = 5.0
"""Seconds between the end of the longest try and that of its claim."""

log = structlog.get_logger(__name__)


class Courier:
    """Sends while it is told to; one for a process."""

    def __init__(self, ledger: Ledger, post: Post) -> None:
        """Nothing happens before `lead`."""
        self._ledger = ledger
        self._post = post
        self._running: asyncio.Task[None] | None = None
        self._stopping = False
        self._wake = asyncio.Event()
        self._under_way: dict[asyncio.Task[None], Delivery] = {}
        self._after = ""
        self._pruning = Every(PRUNE_EVERY)

    async def lead(self, leading: bool) -> None:  # noqa: FBT001 - it is what the name asks
        """Begins where this steward leads, and ends where it does not."""
        if leading and self._running is None:
            self._stopping = False
            self._running = asyncio.create_task(self._run())
        elif not leading:
            await self.stop()

    async def stop(self) -> None:
        """Lets what is under way end for a moment; what has not is given back to whoever comes next."""
        if self._running is None:
            return
        self._stopping = True
        self._wake.set()
        await self._running
        self._running = None
        left = dict(self._under_way)
        if not left:
            return
        _, late = await asyncio.wait(left, timeout=END_WITHIN)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        try:
            async with self._ledger.begin() as tx:
                await webhook_deliveries.release(tx, [left[task] for task in late])
        except RotaError as error:
            log.warning("claims are left to run out", error=str(error))

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            more = False
            try:
                more = await self._look()
            except RotaError as error:
                log.warning("duty failed", duty="deliver", error=str(error))
            except Exception:
                log.exception("duty failed", duty="deliver")
            if not more and not self._stopping:
                try:
                    await asyncio.wait_for(self._wake.wait(), PAUSE)
                except TimeoutError:
                    continue

    async def _look(self) -> bool:
        """Finds what is new and sends what there is room for; whether another look is worth while at once."""
        for _ in range(STEPS):
            async with self._ledger.begin() as tx:
                noted = await webhook_positions.spread(tx)
            if noted < webhook_positions.SPREAD_STEP:
                break
        async with self._ledger.begin() as tx:
            more = await webhook_positions.sweep(tx)
        if self._pruning.due():
            await self._prune()
        return await self._fill() or more

    async def _prune(self) -> None:
        for _ in range(STEPS):
            async with self._ledger.begin() as tx:
                if not await dead_letters.prune(tx):
                    return

    async def _fill(self) -> bool:
        """Begins as many tries as there is room for; whether there is room left and may be more to send."""
        counts = Counter(delivery.webhook for delivery in self._under_way.values())
        room = AT_ONCE - len(self._under_way)
        if room <= 0:
            return False
        full = [webhook for webhook, count in counts.items() if count >= AT_ONCE_TO_ONE]
        async with self._ledger.begin() as tx:
            found = await webhook_deliveries.ready(tx, busy=full, after=self._after, most=room)
        more = False
        for webhook_id in found:
            self._after = webhook_id
            begun, rest = await self._begin(webhook_id, counts[webhook_id], room)
            more |= rest
            room -= begun
            if room <= 0:
                return False
        return more

    async def _begin(self, webhook_id: str, under_way: int, room: int) -> tuple[int, bool]:
        """Begins tries to one webhook: how many, and whether there may be more."""
        async with self._ledger.begin() as tx:
            try:
                webhook = await webhooks.get(tx, webhook_id)
            except RotaError:
                return 0, False
            free = min(_at_once(webhook) - under_way, room)
            if free <= 0:
                return 0, False
            signing = await webhooks.secrets_of(tx, webhook_id)
            # Half of the room for what was tried before, so that neither keeps the other from going.
            claimed = await webhook_deliveries.claim(tx, webhook_id, (free + 1) // 2)
            begun: list[Delivery] = []
            more = False
            if free > len(claimed):
                begun, more = await webhook_deliveries.begin(tx, webhook_id, webhook.kinds, free - len(claimed))
        for delivery in [*claimed, *begun]:
            task = asyncio.create_task(self._try(webhook, delivery, signing))
            self._under_way[task] = delivery
            task.add_done_callback(self._ended)
        number = len(claimed) + len(begun)
        return number, more and number < free

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        self._wake.set()

    async def _try(self, webhook: Webhook, delivery: Delivery, signing: list[str]) -> None:
        """One try; if it cannot be written down what became of it, the claim runs out and it is tried again."""
        try:
            async with asyncio.timeout(LEASE - GRACE):
                await self._send(webhook, delivery, signing)
        except (RotaError, TimeoutError) as error:
            log.warning("delivery left to be tried again", id=delivery.id, error=str(error) or "timeout")
        except Exception:
            log.exception("delivery left to be tried again", id=delivery.id)

    async def _send(self, webhook: Webhook, delivery: Delivery, signing: list[str]) -> None:
        async with self._ledger.begin() as tx:
            sent = await webhook_deliveries.read(tx, delivery)
            if not sent:
                await webhook_deliveries.vanished(tx, delivery)
                log.warning("records removed before they were sent", webhook=webhook.id, number=delivery.count)
                return
        body = body_of(delivery, sent)
        signed = headers(signing, delivery.id, int(time.time()), body)
        outcome = await self._post.send(webhook.url, signed, body)
        async with self._ledger.begin() as tx:
            if outcome.is_delivered:
                await webhook_deliveries.delivered(tx, delivery, missing=delivery.count - len(sent))
                await webhooks.note_success(tx, webhook.id, outcome.status or 0, every=NOTE_EVERY)
                return
            again_in = _again_in(delivery, outcome)
            known = await webhook_deliveries.failed(
                tx, delivery, status=outcome.status, error=outcome.error, again_in=again_in
            )
            if known:
                pause = _pause(webhook.failures + 1, outcome)
                gone = outcome.status == GONE
                await webhooks.note_failure(
                    tx, webhook.id, status=outcome.status, error=outcome.error, pause=pause, gone=gone
                )
        if again_in is None:
            log.warning("message given up", webhook=webhook.id, id=delivery.id, error=outcome.error)


def _at_once(webhook: Webhook) -> int:
    return 1 if webhook.failures >= FAILING else AT_ONCE_TO_ONE


def _again_in(delivery: Delivery, outcome: Outcome) -> float | None:
    """Seconds until the next try; None where this was the last one."""
    if delivery.age >= GIVE_UP_AFTER and delivery.tries >= LEAST_TRIES and outcome.status != GONE:
        return None
    delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(delivery.tries - 1, 20))
    delay *= random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - it spreads load and guards nothing
    return max(delay, _asked(outcome))


def _pause(failures: int, outcome: Outcome) -> float:
    """Seconds for which the endpoint as a whole is left alone."""
    asked = _asked(outcome)
    if failures < FAILING:
        return asked
    return max(asked, min(ASK_AT_LEAST_EVERY, 2.0 ** min(failures - FAILING, 10)))


def _asked(outcome: Outcome) -> float:
    """What the receiver asks for, within bounds."""
    if outcome.status not in BUSY or outcome.retry_after is None:
        return 0.0
    return min(LONGEST_DELAY, outcome.retry_after)
