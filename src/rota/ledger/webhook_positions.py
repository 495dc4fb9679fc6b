"""How far each webhook has come in each profile's records, and which profiles have something new for it.

Whoever commits records notes their profiles in the same transaction (`touch`); the steward hands these notes on to the
webhooks that they concern (`spread`). So nothing that is committed is overlooked, in whatever order transactions end,
and nothing has to be searched for: neither all profiles nor all records are ever looked through.

A position's `due_at` says when to look for more of its profile. While a delivery of the profile is under way it is
infinity, so that the next one is not begun before; then the end of the delivery makes it due again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from rota.ledger.connection import Transaction

SPREAD_STEP = 500
SWEEP_STEP = 500
MARGIN = timedelta(days=1)
"""A record may have been received before one with a lower id, if its transaction began early and waited; never by this
much, so that older partitions need not be looked into."""

_TOUCH = text(
    # Without webhooks this writes nothing. Where the note stands already its row is locked, which keeps `spread` from
    # taking it away before the records can be seen.
    "INSERT INTO webhook_touches (profile_id) SELECT profile_id FROM unnest(CAST(:profiles AS text[])) AS profile_id "
    "WHERE EXISTS (SELECT FROM webhooks) "
    "ON CONFLICT (profile_id) DO UPDATE SET profile_id = excluded.profile_id WHERE false"
)
_TAKE_NOTES = text(
    "DELETE FROM webhook_touches WHERE profile_id IN "
    "(SELECT profile_id FROM webhook_touches LIMIT :step FOR UPDATE SKIP LOCKED) RETURNING profile_id"
)
_SPREAD = text(
    "INSERT INTO webhook_positions (webhook_id, profile_id, last_id, last_at, due_at) "
    "SELECT w.id, p.id, w.from_id, w.from_at, now() FROM profiles p "
    "JOIN webhooks w ON (w.account_id = p.account_id OR w.fleet = p.fleet) AND w.state <> 'deleted' "
    # What a deleted profile had while it was there still goes to the webhooks of that time.
    "WHERE p.id = ANY(CAST(:profiles AS text[])) AND (p.deleted_at IS NULL OR p.deleted_at >= w.created_at) "
    "ORDER BY w.id, p.id "
    "ON CONFLICT (webhook_id, profile_id) DO UPDATE SET due_at = now() WHERE webhook_positions.due_at IS NULL"
)
_SWEEP_NEXT = text(
    "SELECT id, fleet, account_id, horizon, swept_to, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest, "
    "pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS newest FROM webhooks "
    "WHERE swept_to IS NOT NULL AND state <> 'deleted' ORDER BY horizon NULLS FIRST, id LIMIT 1 FOR UPDATE SKIP LOCKED"
)
_SWEEP_PROFILES = text(
    "SELECT id FROM profiles WHERE (account_id = :account OR fleet = :fleet) AND id > :after AND deleted_at IS NULL "
    "ORDER BY id LIMIT :step"
)
_SWEEP = text(
    # One look into the index for each profile, whatever the planner believes of the table.
    "INSERT INTO webhook_positions (webhook_id, profile_id, last_id, last_at, due_at) "
    "SELECT w.id, p, w.from_id, w.from_at, now() FROM webhooks w CROSS JOIN unnest(CAST(:profiles AS text[])) AS p "
    "CROSS JOIN LATERAL (SELECT r.id FROM records r WHERE r.profile_id = p AND r.id > w.from_id "
    "AND r.received_at >= coalesce(w.from_at - CAST(:margin AS interval), '-infinity') ORDER BY r.id LIMIT 1) AS first "
    "WHERE w.id = :webhook ORDER BY p "
    "ON CONFLICT (webhook_id, profile_id) DO UPDATE SET due_at = now() WHERE webhook_positions.due_at IS NULL"
)
# `r` are the records that go; who has a position without `due_at` has sent all that there is.
_LOSE = (
    "WITH gone AS (SELECT q.webhook_id, q.profile_id, count(*) AS number, max(r.id) AS to_id FROM webhook_positions q "
    "JOIN webhooks w ON w.id = q.webhook_id JOIN {going} ON r.profile_id = q.profile_id AND r.id > q.last_id "
    "AND (cardinality(w.kinds) = 0 OR r.kind = ANY(w.kinds)) WHERE q.due_at IS NOT NULL AND {which} GROUP BY 1, 2), "
    "moved AS (UPDATE webhook_positions q SET last_id = gone.to_id, lost = lost + gone.number FROM gone "
    "WHERE q.webhook_id = gone.webhook_id AND q.profile_id = gone.profile_id AND q.last_id < gone.to_id "
    "RETURNING q.webhook_id, gone.number), "
    "sums AS (SELECT webhook_id, sum(number) AS number FROM moved GROUP BY 1) "
    "UPDATE webhooks w SET lost = w.lost + sums.number, lost_at = now() FROM sums WHERE w.id = sums.webhook_id "
    "RETURNING w.id, sums.number"
)
_LOSE_BEFORE = text(_LOSE.format(going="records r", which="r.received_at < :before"))
_LOSE_ROWS = text(
    _LOSE.format(
        going="unnest(CAST(:profiles AS text[]), CAST(:ids AS bigint[]), CAST(:kinds AS text[])) "
        "AS r(profile_id, id, kind)",
        which="true",
    )
)


@dataclass(frozen=True)
class Lost:
    """Records of one webhook that are removed before they could be sent."""

    webhook: str
    number: int


async def touch(tx: Transaction, profiles: Collection[str]) -> None:
    """Notes profiles that have new records; belongs into the transaction that writes them, behind the writing."""
    if profiles:
        await tx.execute(_TOUCH, {"profiles": sorted(set(profiles))})


async def spread(tx: Transaction) -> int:
    """Hands notes on to the webhooks that they concern; how many of 500 there were."""
    noted = sorted((await tx.execute(_TAKE_NOTES, {"step": SPREAD_STEP})).scalars())
    if noted:
        await tx.execute(_SPREAD, {"profiles": noted})
    return len(noted)


async def sweep(tx: Transaction) -> bool:
    """One step of looking through all profiles of a new webhook, once; whether there may be more to do at once.

    Two kinds of records were not noted for it: those that are older than the webhook, and those of transactions that
    began before it was there to be seen. So this waits until all such transactions have ended.
    """
    row = (await tx.execute(_SWEEP_NEXT)).one_or_none()
    if row is None:
        return False
    if row.horizon is None:
        await _set(tx, row.id, "horizon = :horizon", horizon=row.newest)
        return True
    # A horizon in the future is that of another server, from which this database was restored.
    if row.oldest < row.horizon <= row.newest:
        return False
    given = {"account": row.account_id, "fleet": row.fleet, "after": row.swept_to, "step": SWEEP_STEP}
    found = list((await tx.execute(_SWEEP_PROFILES, given)).scalars())
    if found:
        await tx.execute(_SWEEP, {"webhook": row.id, "profiles": found, "margin": MARGIN})
    await _set(tx, row.id, "swept_to = :to", to=found[-1] if len(found) == SWEEP_STEP else None)
    return True


async def lose_before(tx: Transaction, before: datetime) -> list[Lost]:
    """Counts what webhooks will never get, ahead of the removal of all records that were received before `before`.

    Whoever drops a partition calls it in the same transaction. What is in a delivery already counts itself.
    """
    return [Lost(row[0], int(row[1])) for row in await tx.execute(_LOSE_BEFORE, {"before": before})]


async def lose_rows(tx: Transaction, gone: Sequence[tuple[str, int, str]]) -> list[Lost]:
    """The same for records that this transaction has deleted one by one: their profile, id and kind."""
    if not gone:
        return []
    profiles, ids, kinds = (list(column) for column in zip(*gone, strict=True))
    given = {"profiles": profiles, "ids": ids, "kinds": kinds}
    return [Lost(row[0], int(row[1])) for row in await tx.execute(_LOSE_ROWS, given)]


async def _set(tx: Transaction, webhook_id: str, what: str, **values: object) -> None:
    await tx.execute(text(f"UPDATE webhooks SET {what} WHERE id = :id"), {"id": webhook_id, **values})  # noqa: S608 - ours
