"""Servers: machines that may run bots, and how many each should run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from rota.errors import ConflictError, NotFoundError
from rota.ledger import checks, fleets
from rota.ledger.connection import Transaction
from rota.ledger.page import Page, bounded, new_id, page_of
from rota.ledger.tables import servers

_HOSTNAME = re.compile(r"[a-z0-9_*][a-z0-9._*-]{0,252}")
MOST_BOTS = 1_000_000


@dataclass(frozen=True)
class Server:
    """One listed server; `hostname` may be a pattern with `*`."""

    id: str
    fleet: str
    hostname: str
    expected_bots: int
    labels: dict[str, str]
    created_at: datetime

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for any number of hosts."""
        return "*" in self.hostname

    def matches(self, hostname: str) -> bool:
        """Whether a host of this name is meant."""
        pattern = ".*".join(re.escape(part) for part in self.hostname.split("*"))
        return re.fullmatch(pattern, hostname) is not None


async def add(
    tx: Transaction,
    *,
    fleet: str = "default",
    hostname: str,
    expected_bots: int,
    labels: Mapping[str, str] | None = None,
) -> Server:
    """Lists a server.

    Raises:
        ConflictError: it is listed already.
        InvalidRequestError: a hostname, number or label that makes no sense.
        NotFoundError: there is no such fleet.
    """
    host = hostname.strip().lower()
    if not _HOSTNAME.fullmatch(host):
        raise checks.refuse("hostname", "must be a hostname, or a pattern of one with *")
    await fleets.get(tx, fleet)
    values = insert(servers).values(
        id=new_id("srv"),
        fleet=fleet,
        hostname=host,
        expected_bots=_number(expected_bots),
        labels=checks.labels(labels or {}),
    )
    row = (await tx.execute(values.on_conflict_do_nothing().returning(servers))).one_or_none()
    if row is None:
        raise ConflictError(f"The server {host} is listed already in fleet {fleet}.")
    return Server(*row)


async def get(tx: Transaction, server_id: str) -> Server:
    """One server.

    Raises:
        NotFoundError: there is none with this id.
    """
    row = (await tx.execute(select(servers).where(servers.c.id == server_id))).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no server {server_id}.")
    return Server(*row)


async def change(
    tx: Transaction,
    server_id: str,
    *,
    expected_bots: int | None = None,
    labels: Mapping[str, str] | None = None,
) -> Server:
    """Changes what is given. New labels count for bots that come in from now on."""
    values: dict[str, Any] = {}
    if expected_bots is not None:
        values["expected_bots"] = _number(expected_bots)
    if labels is not None:
        values["labels"] = checks.labels(labels)
    if not values:
        return await get(tx, server_id)
    changed = update(servers).where(servers.c.id == server_id).values(values).returning(servers)
    row = (await tx.execute(changed)).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no server {server_id}.")
    return Server(*row)


async def remove(tx: Transaction, server_id: str) -> None:
    """Takes the server off the list; bots that are in stay, and new ones are refused."""
    if (await tx.execute(delete(servers).where(servers.c.id == server_id))).rowcount == 0:
        raise NotFoundError(f"There is no server {server_id}.")


async def page(
    tx: Transaction, *, fleet: str | None = None, limit: int = 100, after: str | None = None
) -> Page[Server]:
    """Servers by id."""
    limit = bounded(limit)
    query = select(servers).where(servers.c.id > (after or ""))
    if fleet is not None:
        query = query.where(servers.c.fleet == fleet)
    rows = await tx.execute(query.order_by(servers.c.id).limit(limit + 1))
    return page_of([Server(*row) for row in rows], limit, lambda server: server.id)


async def all_of(tx: Transaction, fleet: str, limit: int = 10_000) -> list[Server]:
    """The servers of a fleet by hostname, exact ones before patterns."""
    query = select(servers).where(servers.c.fleet == fleet).order_by(servers.c.hostname).limit(limit)
    return sorted((Server(*row) for row in await tx.execute(query)), key=lambda server: server.is_pattern)


def _number(expected_bots: int) -> int:
    if not 0 <= expected_bots <= MOST_BOTS:
        raise checks.refuse("expected_bots", f"must be between 0 and {MOST_BOTS}")
    return expected_bots
