"""Profiles: what clients want to have worked on, with every revision of its configuration.

Each change raises the profile's version and leaves an outbox row in the same transaction, so that it reaches live state
whatever dies in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, Select, and_, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from rota.errors import NotFoundError
from rota.ledger import accounts, checks, fleets, outbox
from rota.ledger.connection import Transaction
from rota.ledger.page import Page, bounded, new_id, number_after, page_of
from rota.ledger.tables import fences, profile_revisions, profiles
from rota.ledger.tables import outbox as outbox_table

WantWord = Literal["started", "stopped", "deleted"]


@dataclass(frozen=True)
class Profile:
    """One profile with its newest configuration."""

    id: str
    fleet: str
    account: str
    name: str
    wanted: bool
    revision: int
    version: int
    priority: int
    labels: dict[str, str]
    created_at: datetime
    updated_at: datetime
    config: dict[str, Any]


@dataclass(frozen=True)
class ProfileRevision:
    """One configuration that a profile had."""

    revision: int
    config: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class Wish:
    """What live state has to know of a profile; `epoch` is the highest that was handed out, or 0."""

    profile: str
    fleet: str
    version: int
    want: WantWord
    revision: int
    priority: int
    labels: dict[str, str]
    epoch: int


def _whole() -> Select[Any]:
    return select(
        profiles.c.id,
        profiles.c.fleet,
        profiles.c.account_id,
        profiles.c.name,
        profiles.c.wanted,
        profiles.c.revision,
        profiles.c.version,
        profiles.c.priority,
        profiles.c.labels,
        profiles.c.created_at,
        profiles.c.updated_at,
        profile_revisions.c.config,
    ).join(
        profile_revisions,
        and_(
            profile_revisions.c.profile_id == profiles.c.id,
            profile_revisions.c.revision == profiles.c.revision,
        ),
    )


async def create(
    tx: Transaction,
    *,
    account: str,
    name: str,
    config: Mapping[str, Any],
    fleet: str = "default",
    labels: Mapping[str, str] | None = None,
    priority: int = 0,
    wanted: bool = False,
) -> Profile:
    """A new profile, started at once where `wanted`.

    Raises:
        InvalidRequestError: a field makes no sense; it is named.
        NotFoundError: there is no such account or fleet.
    """
    await fleets.get(tx, fleet)
    await accounts.get(tx, account)
    profile_id = new_id("prf")
    row = {
        "id": profile_id,
        "fleet": fleet,
        "account_id": account,
        "name": checks.name(name),
        "wanted": wanted,
        "revision": 1,
        "version": 1,
        "priority": checks.priority(priority),
        "labels": checks.labels(labels or {}),
    }
    await tx.execute(insert(profiles).values(row))
    await _add_revision(tx, profile_id, 1, checks.config(config))
    await outbox.add(tx, fleet, profile_id)
    return await get(tx, profile_id)


async def get(tx: Transaction, profile_id: str, account: str | None = None) -> Profile:
    """One profile; with `account` only if it is that account's.

    Raises:
        NotFoundError: there is none, it is deleted, or it is another account's.
    """
    query = _whole().where(profiles.c.id == profile_id, profiles.c.deleted_at.is_(None))
    if account is not None:
        query = query.where(profiles.c.account_id == account)
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        raise _missing(profile_id)
    return Profile(*row)


async def page(
    tx: Transaction,
    *,
    fleet: str | None = None,
    account: str | None = None,
    wanted: bool | None = None,
    name_contains: str | None = None,
    limit: int = 100,
    after: str | None = None,
) -> Page[Profile]:
    """Profiles by id, deleted ones left out."""
    limit = bounded(limit)
    query = _whole().where(profiles.c.id > (after or ""), profiles.c.deleted_at.is_(None))
    if fleet is not None:
        query = query.where(profiles.c.fleet == fleet)
    if account is not None:
        query = query.where(profiles.c.account_id == account)
    if wanted is not None:
        query = query.where(profiles.c.wanted == wanted)
    if name_contains:
        query = query.where(profiles.c.name.icontains(name_contains, autoescape=True))
    rows = await tx.execute(query.order_by(profiles.c.id).limit(limit + 1))
    return page_of([Profile(*row) for row in rows], limit, lambda profile: profile.id)


async def change(
    tx: Transaction,
    profile_id: str,
    *,
    account: str | None = None,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    priority: int | None = None,
) -> Profile:
    """Changes what is given; a configuration that differs becomes a new revision.

    Raises:
        InvalidRequestError: a field makes no sense; it is named.
        NotFoundError: as for `get`.
    """
    row = await _lock(tx, profile_id, account)
    values: dict[str, Any] = {}
    if name is not None:
        values["name"] = checks.name(name)
    if labels is not None:
        values["labels"] = checks.labels(labels)
    if priority is not None:
        values["priority"] = checks.priority(priority)
    if config is not None:
        checked = checks.config(config)
        if checked != (await get(tx, profile_id)).config:
            values["revision"] = row.revision + 1
            await _add_revision(tx, profile_id, row.revision + 1, checked)
    if values:
        await _update(tx, row, values)
    return await get(tx, profile_id)


async def set_wanted(tx: Transaction, profile_id: str, *, wanted: bool, account: str | None = None) -> Profile:
    """Start (True) or Stop (False); doing it again changes nothing.

    Raises:
        NotFoundError: as for `get`.
    """
    row = await _lock(tx, profile_id, account)
    if row.wanted != wanted:
        await _update(tx, row, {"wanted": wanted})
    return await get(tx, profile_id)


async def delete(tx: Transaction, profile_id: str, account: str | None = None) -> None:
    """The profile is stopped and gone for everybody; its records and history stay.

    Raises:
        NotFoundError: as for `get`.
    """
    row = await _lock(tx, profile_id, account)
    await _update(tx, row, {"wanted": False, "deleted_at": func.now()})


async def revisions(
    tx: Transaction, profile_id: str, *, limit: int = 100, after: str | None = None
) -> Page[ProfileRevision]:
    """The profile's configurations, oldest first."""
    limit = bounded(limit)
    table = profile_revisions.c
    query = (
        select(table.revision, table.config, table.created_at)
        .where(table.profile_id == profile_id, table.revision > number_after(after))
        .order_by(table.revision)
        .limit(limit + 1)
    )
    rows = [ProfileRevision(*row) for row in await tx.execute(query)]
    return page_of(rows, limit, lambda item: item.revision)


async def names(tx: Transaction, profile_ids: Sequence[str]) -> dict[str, str]:
    """Id → name; unknown ids are left out."""
    query = select(profiles.c.id, profiles.c.name).where(profiles.c.id.in_(profile_ids))
    return {row.id: row.name for row in await tx.execute(query)}


async def configs(
    tx: Transaction, pairs: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], tuple[str, dict[str, Any]]]:
    """(profile, revision) → (name, configuration), in one query; unknown ones are left out."""
    table = profile_revisions.c
    query = (
        select(table.profile_id, table.revision, profiles.c.name, table.config)
        .join(profiles, profiles.c.id == table.profile_id)
        .where(tuple_(table.profile_id, table.revision).in_(pairs))
    )
    return {(row[0], row[1]): (row[2], row[3]) for row in await tx.execute(query)}


async def wishes(tx: Transaction, profile_ids: Sequence[str]) -> list[Wish]:
    """The current wishes of these profiles, deleted ones included."""
    return await _wishes(tx, _wish_query().where(profiles.c.id.in_(profile_ids)))


async def settled_wishes(tx: Transaction, profile_ids: Sequence[str]) -> list[Wish]:
    """The wishes of those of these profiles that nothing is being changed about; they stay so while `tx` lasts."""
    pending = select(outbox_table.c.id).where(outbox_table.c.profile_id == profiles.c.id).exists()
    query = _wish_query().where(profiles.c.id.in_(profile_ids), ~pending).order_by(profiles.c.id)
    return await _wishes(tx, query.with_for_update(read=True, of=profiles))


async def unknown(tx: Transaction, profile_ids: Sequence[str]) -> list[str]:
    """Those of these profiles that the ledger has never heard of."""
    known = set((await tx.execute(select(profiles.c.id).where(profiles.c.id.in_(profile_ids)))).scalars())
    return [profile for profile in profile_ids if profile not in known]


async def all_wishes(tx: Transaction, fleet: str, *, after: str | None, limit: int) -> Page[Wish]:
    """All wishes of a fleet by profile id, for building live state anew; deleted profiles are left out."""
    query = _wish_query().where(
        profiles.c.fleet == fleet, profiles.c.id > (after or ""), profiles.c.deleted_at.is_(None)
    )
    limit = bounded(limit)
    found = await _wishes(tx, query.order_by(profiles.c.id).limit(limit + 1))
    return page_of(found, limit, lambda wish: wish.profile)


def _wish_query() -> Select[Any]:
    return select(
        profiles.c.id,
        profiles.c.fleet,
        profiles.c.version,
        profiles.c.wanted,
        profiles.c.deleted_at,
        profiles.c.revision,
        profiles.c.priority,
        profiles.c.labels,
        func.coalesce(fences.c.epoch, 0).label("epoch"),
    ).outerjoin(fences, fences.c.profile_id == profiles.c.id)


async def _wishes(tx: Transaction, query: Select[Any]) -> list[Wish]:
    return [
        Wish(
            profile=row.id,
            fleet=row.fleet,
            version=row.version,
            want="deleted" if row.deleted_at else "started" if row.wanted else "stopped",
            revision=row.revision,
            priority=row.priority,
            labels=row.labels,
            epoch=row.epoch,
        )
        for row in await tx.execute(query)
    ]


async def _lock(tx: Transaction, profile_id: str, account: str | None) -> Row[Any]:
    """The profile's row, locked, so that versions and revisions of concurrent changes stay distinct."""
    query = select(profiles).where(profiles.c.id == profile_id, profiles.c.deleted_at.is_(None))
    if account is not None:
        query = query.where(profiles.c.account_id == account)
    row = (await tx.execute(query.with_for_update())).one_or_none()
    if row is None:
        raise _missing(profile_id)
    return row


async def _update(tx: Transaction, row: Row[Any], values: Mapping[str, Any]) -> None:
    changed = update(profiles).where(profiles.c.id == row.id)
    await tx.execute(changed.values(version=row.version + 1, updated_at=func.now(), **values))
    await outbox.add(tx, row.fleet, row.id)


async def _add_revision(tx: Transaction, profile_id: str, revision: int, config: dict[str, Any]) -> None:
    await tx.execute(insert(profile_revisions).values(profile_id=profile_id, revision=revision, config=config))


def _missing(profile_id: str) -> NotFoundError:
    return NotFoundError(f"There is no profile {profile_id}.")
