"""Records, read: what bots pushed. `pushes` writes them, `search` goes through them, `sieve` says which are wanted.

The ids of one profile rise in the order of the commits, so `id > last` over one profile never passes over a record that
is committed later. Over several profiles that does not hold: there each needs a position of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import ARRAY, Text, cast, func, select, text, true

from rota.ledger import sieve as sieves
from rota.ledger.connection import Transaction
from rota.ledger.search import CLOCK_SLACK, Counted, Found, Position, Record, Scope, Walk, profiles_in
from rota.ledger.sieve import Sieve
from rota.ledger.tables import batches, fences, records

MOST_MINUTES = 1440
"""That a rate is taken over."""


async def page(
    tx: Transaction,
    scope: Scope | str,
    sieve: Sieve = sieves.ALL,
    *,
    limit: int = 100,
    after: Position | None = None,
    newest_first: bool = False,
) -> Found:
    """At most `limit` records of a profile (or a wider scope) behind `after`, in the order of arrival or backwards.

    A page may end early: at 4 MiB of data, or after some seconds of searching; then `more` is true. Over an account,
    oldest first, a walk ends at the newest record there was when it began: what others commit meanwhile could come in
    before its position.

    Raises:
        InvalidRequestError: the path of the sieve is none, or takes too long.
    """
    whose = Scope(profile=scope) if isinstance(scope, str) else scope
    bounded = whose.profile is None or not sieve.takes_all
    walk = await Walk.begin(tx, whose, sieve, after, newest_first=newest_first, bounded=bounded)
    return await walk.records(limit)


async def newest(tx: Transaction, profile: str, limit: int) -> list[Record]:
    """A profile's newest records, newest first."""
    return (await page(tx, profile, limit=limit, newest_first=True)).items


async def count_kept(
    tx: Transaction, scope: Scope, sieve: Sieve = sieves.ALL, *, after: Position | None = None
) -> Counted:
    """Counts what is there for some seconds at most.

    Raises:
        InvalidRequestError: as `page`.
    """
    walk = await Walk.begin(tx, scope, sieve, after, newest_first=False, bounded=True)
    return await walk.count()


async def count_of_last(tx: Transaction, scope: Scope, minutes: int, sieve: Sieve = sieves.ALL) -> Counted:
    """Counts what arrived within the last minutes by the database's clock; the sieve's own `since` is left aside.

    Raises:
        InvalidRequestError: as `page`.
    """
    since = (await tx.execute(select(func.now()))).scalar_one() - timedelta(minutes=minutes)
    return await count_kept(tx, scope, replace(sieve, since=since, until=None))


async def heads(tx: Transaction, followed: Sequence[str], *, recent: bool = False) -> dict[str, Position]:
    """The newest position of each of these profiles that has records; `recent`: that got any lately.

    One look-up for each profile and day that is kept; `recent` looks at two or three days, however many there are.
    """
    wanted = func.unnest(cast(list(followed), ARRAY(Text))).table_valued("profile_id").render_derived(name="wanted")
    newest_one = (
        select(records.c.id, records.c.received_at)
        .where(
            records.c.profile_id == wanted.c.profile_id,
            records.c.received_at >= func.now() - CLOCK_SLACK if recent else true(),
        )
        .order_by(records.c.id.desc())
        .limit(1)
        .lateral("newest")
    )
    query = select(wanted.c.profile_id, newest_one.c.id, newest_one.c.received_at).join_from(wanted, newest_one, true())
    return {row.profile_id: Position.at(row.id, row.received_at) for row in await tx.execute(query)}


async def highest_id(tx: Transaction) -> int:
    """The highest id that was drawn so far, whether or not its record is committed."""
    return int((await tx.execute(text("SELECT last_value FROM records_id_seq"))).scalar_one())


async def owners(
    tx: Transaction, scope: Scope, first: str = "", *, with_first: bool = True, limit: int = 500
) -> list[str]:
    """The profiles in scope by id, from `first` on, or behind it where it is not to be among them (`with_first`)."""
    owned = profiles_in(scope).subquery("owned")
    begins = owned.c.id >= first if with_first else owned.c.id > first
    return list((await tx.execute(select(owned.c.id).where(begins).order_by(owned.c.id).limit(limit))).scalars())


async def count(tx: Transaction, *, fleet_profiles: Sequence[str] | None = None) -> int:
    """How many records were ever taken, of these profiles or of all; records that are kept no more count, too."""
    known, forgotten = select(func.sum(batches.c.count)), select(func.sum(fences.c.forgotten_records))
    if fleet_profiles is not None:
        known = known.where(batches.c.profile_id.in_(fleet_profiles))
        forgotten = forgotten.where(fences.c.profile_id.in_(fleet_profiles))
    total = func.coalesce(known.scalar_subquery(), 0) + func.coalesce(forgotten.scalar_subquery(), 0)
    return int((await tx.execute(select(total))).scalar_one())
