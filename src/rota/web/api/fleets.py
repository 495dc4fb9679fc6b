"""Fleets: policy, totals, servers, events and the check. The operator's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from rota.ledger import drains, history
from rota.ledger import fleets as ledger_fleets
from rota.ledger import servers as ledger_servers
from rota.ledger.drains import Drain
from rota.live import snapshot
from rota.steward.inspect import expected_servers, inspect
from rota.web.api.access import OperatorOnly, StateNeeded
from rota.web.api.models import After, Body, Change, Limit, Page

router = APIRouter(prefix="/fleets", tags=["fleets"], dependencies=[OperatorOnly])


class Fleet(BaseModel):
    """A fleet's policy, in seconds, and how long records are kept where their account says nothing else."""

    name: str
    interval: float
    ttl: float
    beats_per_second: float = Field(description="heartbeats of all its bots for which there is room")
    keep_days: int | None = Field(description="days that records are kept; null or 0 is for ever")
    keep_records: int | None = Field(description="newest records of each profile that are kept; null or 0 is all")


class NewFleet(Body):
    """A fleet to be made."""

    name: str
    interval: float = 30
    ttl: float = 90


class FleetChange(Change):
    """The policy to come; bots learn of it with their next heartbeat."""

    interval: float | None = Field(default=None, description="seconds between two heartbeats, 0.5 to 3600")
    ttl: float | None = Field(default=None, description="seconds that a lease lasts, at least two intervals")
    beats_per_second: float | None = Field(
        default=None, description="heartbeats of all its bots for which there is room; above it intervals are stretched"
    )
    keep_days: int | None = Field(default=None, description="days that records are kept; 0 is for ever")
    keep_records: int | None = Field(default=None, description="newest records of each profile that are kept; 0 is all")


class ServerCount(BaseModel):
    """A host's bots; `expected` is null for a host that is not listed any more."""

    hostname: str
    actual: int
    expected: int | None
    draining: bool
    drain_deadline: datetime | None


class FleetStatus(Fleet):
    """A fleet at a glance; what bots are granted is its policy, or more where they are too many for its budget."""

    granted_interval: float
    granted_ttl: float
    bots: dict[str, int]
    profiles: dict[str, int]
    servers: list[ServerCount]


class Finding(BaseModel):
    """One thing that is not as it should be."""

    kind: str
    subject: str
    message: str


class CheckReport(BaseModel):
    """What `rota check` prints."""

    ok: bool
    findings: list[Finding]


class Event(BaseModel):
    """One move of live state, as it was recorded."""

    id: str
    at: datetime
    kind: str
    bot: str | None
    profile: str | None
    epoch: int | None
    reason: str | None


@router.get("", operation_id="list_fleets")
async def list_(state: StateNeeded) -> Page[Fleet]:
    """All fleets."""
    async with state.ledger.begin() as tx:
        found = await ledger_fleets.all(tx)
    return Page(items=[Fleet.model_validate(fleet, from_attributes=True) for fleet in found], next=None)


@router.post("", status_code=201, operation_id="create_fleet")
async def create(state: StateNeeded, body: NewFleet) -> Fleet:
    """Makes a fleet."""
    async with state.ledger.begin() as tx:
        made = await ledger_fleets.create(tx, body.name, interval=body.interval, ttl=body.ttl)
    return Fleet.model_validate(made, from_attributes=True)


@router.get("/{fleet}", operation_id="get_fleet")
async def get(state: StateNeeded, fleet: str) -> FleetStatus:
    """A fleet's policy, totals and servers."""
    async with state.ledger.begin() as tx:
        found = await ledger_fleets.get(tx, fleet)
        listed = await ledger_servers.all_of(tx, fleet)
        drained = {drain.subject: drain for drain in await drains.all_of(tx, fleet) if not drain.is_of_a_bot}
    granted = await state.policies.granted(fleet)
    totals = await snapshot.totals(state.live, fleet)
    actual = await snapshot.servers(state.live, fleet)
    return FleetStatus(
        name=found.name,
        interval=found.interval,
        ttl=found.ttl,
        beats_per_second=found.beats_per_second,
        granted_interval=granted.interval,
        granted_ttl=granted.ttl,
        keep_days=found.keep_days,
        keep_records=found.keep_records,
        bots={"total": totals.bots_total, "free": totals.free, **totals.bots},
        profiles={"total": totals.profiles_total, **totals.profiles},
        servers=_server_counts(listed, actual, drained),
    )


@router.patch("/{fleet}", operation_id="change_fleet")
async def change(state: StateNeeded, fleet: str, body: FleetChange) -> Fleet:
    """Changes the policy; a longer lease that was granted before is waited for all the same."""
    async with state.ledger.begin() as tx:
        changed = await ledger_fleets.set_policy(tx, fleet, **body.model_dump())
    return Fleet.model_validate(changed, from_attributes=True)


@router.get("/{fleet}/check", operation_id="check_fleet")
async def check(state: StateNeeded, fleet: str) -> CheckReport:
    """Dead bots, servers with too few or too many, profiles that wait too long, and whether live state is sound."""
    findings = await inspect(state.ledger, state.live, fleet)
    return CheckReport(ok=not findings, findings=[Finding(**_plain(finding)) for finding in findings])


@router.get("/{fleet}/events", operation_id="list_events")
async def events(
    state: StateNeeded,
    fleet: str,
    profile: Annotated[str | None, Query(max_length=64)] = None,
    bot: Annotated[str | None, Query(max_length=320)] = None,
    limit: Limit = 100,
    after: After = None,
) -> Page[Event]:
    """What happened, newest first."""
    async with state.ledger.begin() as tx:
        await ledger_fleets.get(tx, fleet)
        found = await history.events_page(tx, fleet, profile=profile, bot=bot, limit=limit, after=after)
    return Page(items=[Event.model_validate(item, from_attributes=True) for item in found.items], next=found.next)


def _server_counts(
    listed: Sequence[ledger_servers.Server], actual: Mapping[str, int], drained: Mapping[str, Drain]
) -> list[ServerCount]:
    """Hosts that are listed, that have bots, or that are being drained and have none left."""
    there = dict.fromkeys(drained, 0) | dict(actual)
    return [
        ServerCount(
            hostname=host,
            actual=there.get(host, 0),
            expected=expected,
            draining=host in drained,
            drain_deadline=drained[host].deadline if host in drained else None,
        )
        for host, expected in expected_servers(listed, there).items()
    ]


def _plain(finding: Any) -> dict[str, str]:
    return {"kind": finding.kind, "subject": finding.subject, "message": finding.message}
