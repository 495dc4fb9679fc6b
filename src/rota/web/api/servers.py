"""Servers: machines that may run bots. The operator's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from rota.errors import UnavailableError
from rota.ledger import drains
from rota.ledger import servers as ledger_servers
from rota.ledger.drains import Drain
from rota.live import snapshot
from rota.web.api.access import OperatorOnly, StateNeeded
from rota.web.api.models import After, Body, Change, LabelMap, Limit, Page, Word
from rota.web.state import State

router = APIRouter(prefix="/servers", tags=["servers"], dependencies=[OperatorOnly])


class NewServer(Body):
    """A server to be listed."""

    hostname: str = Field(examples=["bot-farm-1", "bot-farm-*"], description="exact, or a pattern with `*`")
    expected_bots: int = Field(ge=0, le=ledger_servers.MOST_BOTS, description="how many bots each such host should run")
    labels: LabelMap = Field(default_factory=dict, description="labels that all its bots bear")
    fleet: Word = "default"


class ServerChange(Change):
    """What is to change."""

    expected_bots: int | None = Field(default=None, ge=0, le=ledger_servers.MOST_BOTS)
    labels: LabelMap | None = None


class Server(BaseModel):
    """A listed server; `actual_bots` is null while live state is away, and the sum of all hosts for a pattern.

    `draining` is told of exact hostnames alone; `rota server drains` tells of hosts that a pattern stands for.
    """

    id: str
    fleet: str
    hostname: str
    expected_bots: int
    labels: dict[str, str]
    actual_bots: int | None
    draining: bool
    drain_deadline: datetime | None
    created_at: datetime


@router.post("", status_code=201, operation_id="add_server")
async def add(state: StateNeeded, body: NewServer) -> Server:
    """Lists a server, so that its bots are let in."""
    async with state.ledger.begin() as tx:
        made = await ledger_servers.add(
            tx, fleet=body.fleet, hostname=body.hostname, expected_bots=body.expected_bots, labels=body.labels
        )
        drained = await drains.named(tx, made.fleet, [made.hostname])
    return _server(made, await _counts(state, made.fleet), drained)


@router.get("", operation_id="list_servers")
async def list_(
    state: StateNeeded,
    fleet: Annotated[str | None, Query()] = None,
    limit: Limit = 100,
    after: After = None,
) -> Page[Server]:
    """Servers by id."""
    async with state.ledger.begin() as tx:
        found = await ledger_servers.page(tx, fleet=fleet, limit=limit, after=after)
        fleets = {server.fleet for server in found.items}
        drained = {name: await drains.named(tx, name, _hostnames(found.items, name)) for name in fleets}
    counts = {name: await _counts(state, name) for name in fleets}
    items = [_server(server, counts[server.fleet], drained[server.fleet]) for server in found.items]
    return Page(items=items, next=found.next)


@router.get("/{server_id}", operation_id="get_server")
async def get(state: StateNeeded, server_id: str) -> Server:
    """One server."""
    async with state.ledger.begin() as tx:
        found = await ledger_servers.get(tx, server_id)
        drained = await drains.named(tx, found.fleet, [found.hostname])
    return _server(found, await _counts(state, found.fleet), drained)


@router.patch("/{server_id}", operation_id="change_server")
async def change(state: StateNeeded, server_id: str, body: ServerChange) -> Server:
    """Changes what is given; new labels count for bots that come in from now on."""
    async with state.ledger.begin() as tx:
        changed = await ledger_servers.change(tx, server_id, expected_bots=body.expected_bots, labels=body.labels)
        drained = await drains.named(tx, changed.fleet, [changed.hostname])
    return _server(changed, await _counts(state, changed.fleet), drained)


@router.delete("/{server_id}", status_code=204, operation_id="remove_server")
async def remove(state: StateNeeded, server_id: str) -> Response:
    """Takes the server off the list; bots that are in stay, new ones are refused."""
    async with state.ledger.begin() as tx:
        await ledger_servers.remove(tx, server_id)
    return Response(status_code=204)


async def _counts(state: State, fleet: str) -> Mapping[str, int] | None:
    try:
        return await snapshot.servers(state.live, fleet)
    except UnavailableError:
        return None


def _hostnames(listed: Sequence[ledger_servers.Server], fleet: str) -> list[str]:
    return [server.hostname for server in listed if server.fleet == fleet]


def _server(server: ledger_servers.Server, counts: Mapping[str, int] | None, drained: Mapping[str, Drain]) -> Server:
    actual, drain = None, drained.get(server.hostname)
    if counts is not None:
        actual = sum(number for host, number in counts.items() if server.matches(host))
    return Server(
        id=server.id,
        fleet=server.fleet,
        hostname=server.hostname,
        expected_bots=server.expected_bots,
        labels=server.labels,
        actual_bots=actual,
        draining=drain is not None,
        drain_deadline=drain.deadline if drain else None,
        created_at=server.created_at,
    )
