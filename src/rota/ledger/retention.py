"""Retention: how long records are kept, and the bounded steps in which what is over is taken away.

A fleet and an account each may say for how many days records are kept, and how many of the newest of each profile; the
account's word goes before the fleet's, 0 stands for no limit. The steward calls the steps; each is one transaction of
some thousand rows at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import TextClause, text

from rota.ledger import checks, fences, partitions, webhook_positions
from rota.ledger.connection import Transaction
from rota.ledger.partitions import Partition

STEP = 5_000
"""Rows deleted in one transaction."""
PROFILES = 100
"""Profiles looked at in one transaction."""
BATCHES_KEPT = timedelta(days=7)
"""How long batches of the newest epoch are kept by name."""
MOST_DAYS = 36_500
MOST_RECORDS = 10_000_000
"""So many records are counted through in an index to find the oldest that stays."""

_LIMITS = """
    SELECT p.id AS profile_id, nullif(coalesce(a.keep_days, f.keep_days), 0) AS days,
           nullif(coalesce(a.keep_records, f.keep_records), 0) AS number
    FROM profiles p JOIN accounts a ON a.id = p.account_id JOIN fleets f ON f.name = p.fleet
"""
# Whoever has records in a partition, by one look into the index for each instead of reading it whole.
_HOLDERS = """
    WITH RECURSIVE holders AS (
        (SELECT profile_id FROM {part} ORDER BY profile_id LIMIT 1)
        UNION ALL
        SELECT (SELECT profile_id FROM {part} WHERE profile_id > h.profile_id ORDER BY profile_id LIMIT 1)
        FROM holders h WHERE h.profile_id IS NOT NULL
    ), limits AS ({limits})
"""
_SOMEBODYS = """
    {holders} SELECT EXISTS (
        SELECT 1 FROM holders h LEFT JOIN limits l USING (profile_id)
        WHERE h.profile_id IS NOT NULL
          AND (l.days IS NULL OR CAST(:end AS timestamptz) > now() - make_interval(days => l.days))
    )
"""
_DELETE_DAYS = """
    {holders}, ending AS (
        SELECT h.profile_id, now() - make_interval(days => l.days) AS cutoff
        FROM holders h JOIN limits l USING (profile_id)
        WHERE (SELECT received_at FROM {part} r WHERE r.profile_id = h.profile_id ORDER BY id LIMIT 1)
              < now() - make_interval(days => l.days)
    ), over AS (
        SELECT o.received_at, o.id FROM ending e CROSS JOIN LATERAL (
            SELECT received_at, id FROM {part} r WHERE r.profile_id = e.profile_id ORDER BY id LIMIT :step
        ) o WHERE o.received_at < e.cutoff LIMIT :step
    )
    DELETE FROM {part} r USING over WHERE r.received_at = over.received_at AND r.id = over.id
    RETURNING r.profile_id, r.id, r.kind
"""
_LEAST = text("SELECT min(days), count(number), now() FROM (:limits) AS l".replace(":limits", _LIMITS))
_COUNTED = text(
    """
    SELECT profile_id, number FROM (:limits) AS l WHERE number IS NOT NULL AND profile_id > :after
    ORDER BY profile_id LIMIT :number
    """.replace(":limits", _LIMITS)
)
_DELETE_NUMBER = text("""
    WITH over AS (
        SELECT o.received_at, o.id
        FROM unnest(CAST(:profiles AS text[]), CAST(:numbers AS bigint[])) AS l(profile_id, number)
        CROSS JOIN LATERAL (
            SELECT id FROM records r WHERE r.profile_id = l.profile_id ORDER BY id DESC OFFSET l.number LIMIT 1
        ) newest
        CROSS JOIN LATERAL (
            SELECT received_at, id FROM records r WHERE r.profile_id = l.profile_id AND id <= newest.id
            ORDER BY id LIMIT :step
        ) o LIMIT :step
    )
    DELETE FROM records r USING over WHERE r.received_at = over.received_at AND r.id = over.id
    RETURNING r.profile_id, r.id, r.kind
""")
_FENCED = text("SELECT profile_id FROM fences WHERE profile_id > :after ORDER BY profile_id LIMIT :limit")
_FORGET_OLD = text("""
    WITH gone AS (
        DELETE FROM batches WHERE (profile_id, epoch, batch) IN (
            SELECT b.profile_id, b.epoch, b.batch FROM fences f CROSS JOIN LATERAL (
                SELECT * FROM batches b WHERE b.profile_id = f.profile_id AND b.epoch < f.epoch
                ORDER BY epoch, batch LIMIT :step
            ) b WHERE f.profile_id = ANY(CAST(:profiles AS text[])) LIMIT :step
        ) RETURNING profile_id, count
    ), sums AS (SELECT profile_id, count(*) AS number, sum(count) AS records FROM gone GROUP BY profile_id),
    noted AS (
        UPDATE fences f SET forgotten_records = f.forgotten_records + s.records FROM sums s
        WHERE f.profile_id = s.profile_id
    )
    SELECT coalesce(sum(number), 0) FROM sums
""")
# The run without a gap that begins where the forgotten ones end, or with the first batch there is: `batch` minus its
# place in the order is the same for all of it.
_FORGET_RUN = text("""
    WITH beginning AS (
        SELECT f.profile_id, f.epoch, f.taken_to, (
            SELECT batch FROM batches b WHERE b.profile_id = f.profile_id AND b.epoch = f.epoch ORDER BY batch LIMIT 1
        ) AS first
        FROM fences f WHERE f.profile_id = ANY(CAST(:profiles AS text[]))
    ), run AS (
        SELECT g.profile_id, g.epoch, b.batch FROM beginning g
        CROSS JOIN LATERAL (
            SELECT n.batch, n.received_at, n.batch - row_number() OVER (ORDER BY n.batch) AS shift,
                   bool_and(n.received_at < now() - CAST(:kept AS interval)) OVER (ORDER BY n.batch) AS old
            FROM (
                SELECT batch, received_at FROM batches b
                WHERE b.profile_id = g.profile_id AND b.epoch = g.epoch ORDER BY batch LIMIT :step
            ) n
        ) b
        WHERE (g.taken_to IS NULL OR g.first = g.taken_to + 1) AND b.old AND b.shift = g.first - 1
        LIMIT :step
    ), gone AS (
        DELETE FROM batches b USING run r
        WHERE b.profile_id = r.profile_id AND b.epoch = r.epoch AND b.batch = r.batch
        RETURNING b.profile_id, b.batch, b.count
    ), sums AS (
        SELECT profile_id, count(*) AS number, sum(count) AS records, min(batch) AS first, max(batch) AS last
        FROM gone GROUP BY profile_id
    ), noted AS (
        UPDATE fences f SET forgotten_records = f.forgotten_records + s.records,
                            taken_from = coalesce(f.taken_from, s.first), taken_to = s.last
        FROM sums s WHERE f.profile_id = s.profile_id
    )
    SELECT coalesce(sum(number), 0) FROM sums
""")


@dataclass(frozen=True)
class Step:
    """What one step has done: how many rows are gone, and after which profile the next one begins; None at the end."""

    gone: int
    next: str | None


def check(keep_days: int | None, keep_records: int | None) -> None:
    """Refuses limits that make no sense.

    Raises:
        InvalidRequestError: it names the field.
    """
    if keep_days is not None and not 0 <= keep_days <= MOST_DAYS:
        raise checks.refuse("keep_days", f"must be 1 to {MOST_DAYS} days, or 0 for no limit")
    if keep_records is not None and not 0 <= keep_records <= MOST_RECORDS:
        raise checks.refuse("keep_records", f"must be 1 to {MOST_RECORDS} records of a profile, or 0 for no limit")


async def ending(tx: Transaction) -> list[Partition]:
    """The partitions in which records may be over by their days, or all may be gone, the oldest first."""
    least, counted, now = (await tx.execute(_LEAST)).one()
    if least is None and not counted:
        return []
    cutoff = now - timedelta(days=least or 1)
    return [one for one in await partitions.all_of(tx) if one.begin is None or one.begin < cutoff]


async def drop_if_over(tx: Transaction, partition: Partition) -> bool:
    """Drops the partition if all that is in it is over for everybody, or nothing is; whether it did.

    Raises:
        UnavailableError: somebody reads it at the moment.
    """
    past = text("SELECT CAST(:end AS timestamptz) < now() - interval '1 hour'")
    if partition.end is None or not (await tx.execute(past, {"end": partition.end})).scalar_one():
        return False
    if (await tx.execute(_on(partition, _SOMEBODYS), {"end": partition.end})).scalar_one():
        return False
    await webhook_positions.lose_before(tx, partition.end)
    await partitions.drop(tx, partition.name)
    return True


async def delete_by_days(tx: Transaction, partition: Partition) -> int:
    """Deletes records of a partition that are over by their days; fewer than `STEP` when that were all."""
    return await _delete(tx, _on(partition, _DELETE_DAYS), {"step": STEP})


async def delete_by_number(tx: Transaction, after: str) -> Step:
    """Deletes records of the next profiles above their number; the same ones are looked at again until all are gone."""
    rows = (await tx.execute(_COUNTED, {"after": after, "number": PROFILES})).all()
    if not rows:
        return Step(0, None)
    values = {"profiles": [row[0] for row in rows], "numbers": [row[1] for row in rows], "step": STEP}
    gone = await _delete(tx, _DELETE_NUMBER, values)
    return Step(gone, after if gone >= STEP else rows[-1][0])


async def forget_batches(tx: Transaction, after: str) -> Step:
    """Takes away what nobody needs to recognise a repeated batch; counts and answers stay as they were.

    Batches of an older epoch are refused anyhow. Of the newest one, a run without a gap that is old enough is kept as
    its two ends in `fences`.
    """
    rows = (await tx.execute(_FENCED, {"after": after, "limit": PROFILES})).scalars().all()
    if not rows:
        return Step(0, None)
    await fences.hold(tx, rows)
    old = int((await tx.execute(_FORGET_OLD, {"profiles": rows, "step": STEP})).scalar_one())
    values = {"profiles": rows, "step": STEP, "kept": BATCHES_KEPT}
    run = int((await tx.execute(_FORGET_RUN, values)).scalar_one())
    return Step(old + run, after if max(old, run) >= STEP else rows[-1])


async def _delete(tx: Transaction, statement: TextClause, values: Mapping[str, Any]) -> int:
    """Deletes records, and counts what webhooks will never get of them; how many are gone."""
    gone = [(row[0], row[1], row[2]) for row in await tx.execute(statement, values)]
    await webhook_positions.lose_rows(tx, gone)
    return len(gone)


def _on(partition: Partition, query: str) -> TextClause:
    holders = _HOLDERS.format(part=partition.name, limits=_LIMITS)
    return text(query.format(holders=holders, part=partition.name))
