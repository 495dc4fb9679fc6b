"""Webhooks: where records are sent as they come, for one client's profiles or for a whole fleet's.

How far each has come stands in `webhook_positions`, what is on its way in `webhook_deliveries`; the modules of these
names hold what is done with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, case, delete, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from rota.errors import ConflictError, NotFoundError
from rota.ledger import accounts, checks, fleets
from rota.ledger.connection import Transaction
from rota.ledger.page import Page, bounded, new_id, page_of
from rota.ledger.tables import profiles, webhook_secrets, webhooks
from rota.ledger.tables import webhook_deliveries as deliveries
from rota.ledger.tables import webhook_positions as positions

KIND = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
State = Literal["enabled", "paused", "gone"]
MOST_KINDS = 50
MOST_OF_ONE = 20
"""Webhooks of one account, and of one fleet."""
MOST_SECRETS = 5
"""Secrets that one message is signed with at most."""
LONGEST_OVERLAP = 7 * 86_400


@dataclass(frozen=True)
class Webhook:
    """One webhook; either `account` or `fleet` is None.

    state: `gone` is one that answered 410, and gets nothing until it is enabled again.
    failing_since: when the first failure was after which no attempt has succeeded; None where the last one has.
    lost: records that retention removed before they could be sent.
    waiting: profiles with records that are not delivered.
    dead: messages that were given up and are kept.
    """

    id: str
    account: str | None
    fleet: str | None
    label: str
    url: str
    kinds: list[str]
    state: State
    failures: int
    failing_since: datetime | None
    not_before: datetime | None
    last_status: int | None
    last_error: str | None
    last_attempt_at: datetime | None
    last_success_at: datetime | None
    lost: int
    lost_at: datetime | None
    created_at: datetime
    waiting: int
    dead: int


def _whole() -> Select[Any]:
    waiting = select(func.count()).where(positions.c.webhook_id == webhooks.c.id, positions.c.due_at.is_not(None))
    dead = select(func.count()).where(deliveries.c.webhook_id == webhooks.c.id, deliveries.c.dead_at.is_not(None))
    return select(
        webhooks.c.id,
        webhooks.c.account_id,
        webhooks.c.fleet,
        webhooks.c.label,
        webhooks.c.url,
        webhooks.c.kinds,
        webhooks.c.state,
        webhooks.c.failures,
        webhooks.c.failing_since,
        webhooks.c.not_before,
        webhooks.c.last_status,
        webhooks.c.last_error,
        webhooks.c.last_attempt_at,
        webhooks.c.last_success_at,
        webhooks.c.lost,
        webhooks.c.lost_at,
        webhooks.c.created_at,
        waiting.scalar_subquery(),
        dead.scalar_subquery(),
    ).where(webhooks.c.state != "deleted")


async def create(  # noqa: PLR0913 - one for each column that is chosen
    tx: Transaction,
    *,
    url: str,
    secret: str,
    account: str | None = None,
    fleet: str | None = None,
    kinds: Sequence[str] = (),
    label: str = "",
    paused: bool = False,
    from_start: bool = False,
) -> Webhook:
    """A new webhook for the records that come from now on, or, `from_start`, for all that are kept.

    Raises:
        InvalidRequestError: a field makes no sense, or both or neither of account and fleet are given.
        NotFoundError: there is no such account or fleet.
        ConflictError: there are too many already.
    """
    if (account is None) == (fleet is None):
        raise checks.refuse("account", "give either an account or a fleet")
    if account is not None:
        await accounts.get(tx, account)
    if fleet is not None:
        await fleets.get(tx, fleet)
    await _leave_room(tx, account, fleet)
    webhook_id = new_id("whk")
    # An id that is drawn later is of a record that comes later.
    now_at = 0 if from_start else int((await tx.execute(text("SELECT nextval('records_id_seq')"))).scalar_one())
    await tx.execute(
        insert(webhooks).values(
            id=webhook_id,
            fleet=fleet,
            account_id=account,
            label=checks.name(label, "label") if label else "",
            url=url,
            kinds=_kinds(kinds),
            state="paused" if paused else "enabled",
            from_id=now_at,
            from_at=None if from_start else func.now(),
            swept_to="",
            failures=0,
            lost=0,
        )
    )
    await tx.execute(insert(webhook_secrets).values(webhook_id=webhook_id, value=secret))
    return await get(tx, webhook_id)


async def get(tx: Transaction, webhook_id: str, account: str | None = None) -> Webhook:
    """One webhook; with `account` only if it is that account's.

    Raises:
        NotFoundError: there is none, or it is somebody else's.
    """
    query = _whole().where(webhooks.c.id == webhook_id)
    if account is not None:
        query = query.where(webhooks.c.account_id == account)
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise _missing(webhook_id)
    return Webhook(*row)


async def page(
    tx: Transaction,
    *,
    account: str | None = None,
    fleet: str | None = None,
    limit: int = 100,
    after: str | None = None,
) -> Page[Webhook]:
    """Webhooks by id; with `account` or `fleet` only theirs."""
    limit = bounded(limit)
    query = _whole().where(webhooks.c.id > (after or ""))
    if account is not None:
        query = query.where(webhooks.c.account_id == account)
    if fleet is not None:
        query = query.where(webhooks.c.fleet == fleet)
    rows = await tx.execute(query.order_by(webhooks.c.id).limit(limit + 1))
    return page_of([Webhook(*row) for row in rows], limit, lambda webhook: webhook.id)


async def troubled(tx: Transaction, fleet: str, *, failing_for: float, lost_within: float, most: int) -> list[Webhook]:
    """Webhooks of a fleet's profiles of which somebody should know.

    They fail for `failing_for` seconds, are gone, have dead letters, or lost records within `lost_within` seconds.
    """
    mine = select(profiles.c.id).where(profiles.c.account_id == webhooks.c.account_id, profiles.c.fleet == fleet)
    dead = select(deliveries.c.id).where(deliveries.c.webhook_id == webhooks.c.id, deliveries.c.dead_at.is_not(None))
    wrong = or_(
        and_(webhooks.c.state == "enabled", webhooks.c.failing_since < _ago(failing_for)),
        webhooks.c.state == "gone",
        webhooks.c.lost_at > _ago(lost_within),
        dead.exists(),
    )
    query = _whole().where(or_(webhooks.c.fleet == fleet, mine.exists()), wrong).order_by(webhooks.c.id).limit(most)
    return [Webhook(*row) for row in await tx.execute(query)]


async def change(
    tx: Transaction,
    webhook_id: str,
    *,
    account: str | None = None,
    url: str | None = None,
    kinds: Sequence[str] | None = None,
    label: str | None = None,
    paused: bool | None = None,
) -> Webhook:
    """Changes what is given; enabling one that is paused or gone lets all that waits be tried anew, at once.

    Raises:
        InvalidRequestError: a field makes no sense; it is named.
        NotFoundError: there is none, or it is somebody else's.
    """
    await get(tx, webhook_id, account)
    values: dict[str, Any] = {}
    if url is not None:
        values["url"] = url
    if kinds is not None:
        values["kinds"] = _kinds(kinds)
    if label is not None:
        values["label"] = checks.name(label, "label") if label else ""
    if paused is not None:
        values["state"] = "paused" if paused else "enabled"
    if values:
        await tx.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))
    if url is not None or paused is False:
        await _try_anew(tx, webhook_id)
    return await get(tx, webhook_id, account)


async def remove(tx: Transaction, webhook_id: str, account: str | None = None) -> None:
    """Nothing is sent any more; the steward takes away what is left, step by step.

    Raises:
        NotFoundError: there is none, or it is somebody else's.
    """
    await get(tx, webhook_id, account)
    await tx.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(state="deleted"))


async def rotate(tx: Transaction, webhook_id: str, secret: str, *, overlap: float, account: str | None = None) -> None:
    """From now on messages are signed with this secret, and for `overlap` seconds with those before it, too.

    Raises:
        InvalidRequestError: the overlap is out of range.
        NotFoundError: there is none, or it is somebody else's.
    """
    if not 0 <= overlap <= LONGEST_OVERLAP:
        raise checks.refuse("overlap", f"must be 0 to {LONGEST_OVERLAP} seconds")
    await get(tx, webhook_id, account)
    until = _ago(-overlap)
    mine = webhook_secrets.c.webhook_id == webhook_id
    ends = func.least(func.coalesce(webhook_secrets.c.expires_at, until), until)
    await tx.execute(update(webhook_secrets).where(mine).values(expires_at=ends))
    await tx.execute(insert(webhook_secrets).values(webhook_id=webhook_id, value=secret))
    await tx.execute(delete(webhook_secrets).where(mine, webhook_secrets.c.expires_at <= func.now()))


async def secrets_of(tx: Transaction, webhook_id: str) -> list[str]:
    """What its messages are signed with at this moment, the newest first."""
    query = select(webhook_secrets.c.value).where(
        webhook_secrets.c.webhook_id == webhook_id,
        or_(webhook_secrets.c.expires_at.is_(None), webhook_secrets.c.expires_at > func.now()),
    )
    rows = await tx.execute(query.order_by(webhook_secrets.c.id.desc()).limit(MOST_SECRETS))
    return [str(value) for value in rows.scalars()]


async def note_success(tx: Transaction, webhook_id: str, status: int, *, every: float) -> None:
    """The endpoint is well; written down where that is news, and else once in `every` seconds."""
    stale = or_(webhooks.c.last_success_at.is_(None), webhooks.c.last_success_at < _ago(every))
    news = update(webhooks).where(webhooks.c.id == webhook_id, or_(webhooks.c.failures > 0, stale))
    await tx.execute(
        news.values(
            failures=0,
            failing_since=None,
            not_before=None,
            last_status=status,
            last_error=None,
            last_attempt_at=func.now(),
            last_success_at=func.now(),
        )
    )


async def note_failure(
    tx: Transaction, webhook_id: str, *, status: int | None, error: str, pause: float, gone: bool
) -> None:
    """The endpoint failed: nothing is sent for `pause` seconds, and, where it is `gone`, nothing at all."""
    later = _ago(-pause)
    values: dict[str, Any] = {
        "failures": webhooks.c.failures + 1,
        "failing_since": func.coalesce(webhooks.c.failing_since, func.now()),
        "not_before": func.greatest(webhooks.c.not_before, later) if pause > 0 else webhooks.c.not_before,
        "last_status": status,
        "last_error": error,
        "last_attempt_at": func.now(),
    }
    if gone:
        values["state"] = case((webhooks.c.state == "enabled", "gone"), else_=webhooks.c.state)
    await tx.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))


async def _leave_room(tx: Transaction, account: str | None, fleet: str | None) -> None:
    """Each webhook costs a share of every push; two that are made at once may be one too many."""
    mine = webhooks.c.account_id == account if account is not None else webhooks.c.fleet == fleet
    query = select(func.count()).select_from(webhooks).where(mine, webhooks.c.state != "deleted")
    if (await tx.execute(query)).scalar_one() >= MOST_OF_ONE:
        raise ConflictError(f"There are {MOST_OF_ONE} webhooks already: delete one that is not needed.")


async def _try_anew(tx: Transaction, webhook_id: str) -> None:
    """What waits for its next try is due, with all of its tries before it.

    What is being tried at this moment may be sent a second time, under its id.
    """
    await tx.execute(
        update(webhooks)
        .where(webhooks.c.id == webhook_id)
        .values(failures=0, failing_since=None, not_before=None, last_error=None)
    )
    waits = and_(deliveries.c.webhook_id == webhook_id, deliveries.c.dead_at.is_(None))
    await tx.execute(update(deliveries).where(waits).values(since=func.now(), tries=0, due_at=func.now()))


def _ago(seconds: float) -> ColumnElement[datetime]:
    return func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _kinds(kinds: Sequence[str]) -> list[str]:
    if len(kinds) > MOST_KINDS:
        raise checks.refuse("kinds", f"must be at most {MOST_KINDS}")
    if not all(KIND.fullmatch(kind) for kind in kinds):
        raise checks.refuse("kinds", "must each be 1 to 64 letters, digits and `._:/-`, as records have them")
    return sorted(set(kinds))


def _missing(webhook_id: str) -> NotFoundError:
    return NotFoundError(f"There is no webhook {webhook_id}.")
