"""Profiles: what clients want to have worked on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from rota.errors import ForbiddenError, UnavailableError
from rota.ledger import accounts, history
from rota.ledger import profiles as ledger_profiles
from rota.live import profiles as live_profiles
from rota.live import snapshot
from rota.live.entries import ProfileView
from rota.steward.apply import apply_wishes
from rota.web.api.access import AnyCaller, Caller, StateNeeded
from rota.web.api.holds import attempt, held_because
from rota.web.api.models import (
    After,
    AfterNumber,
    AfterRevision,
    Assignment,
    At,
    Body,
    Change,
    LabelMap,
    Limit,
    Page,
    Word,
)
from rota.web.state import State

router = APIRouter(prefix="/profiles", tags=["profiles"])
log = structlog.get_logger(__name__)


class NewProfile(Body):
    """A profile to be made; `account` is the operator's to choose."""

    name: str = Field(examples=["acme"])
    config: dict[str, Any] = Field(default_factory=dict, examples=[{"url": "https://example.com"}])
    account: Word | None = None
    fleet: Word = "default"
    labels: LabelMap = Field(default_factory=dict, description="labels that a bot must bear")
    priority: int = Field(default=0, ge=-100, le=100, description="higher is served first")
    start: bool = Field(default=False, description="start it at once")


class ProfileChange(Change):
    """What is to change; a configuration that differs becomes a new revision."""

    name: str | None = None
    config: dict[str, Any] | None = None
    labels: LabelMap | None = None
    priority: int | None = Field(default=None, ge=-100, le=100)


class Profile(BaseModel):
    """A profile: what is wanted, and what is. `phase` to `held_because` are null while live state is away.

    `crashes` counts its bots' crashes, and deaths soon after a start, in a row; `attempt` is the try that this makes
    the present or the next one: 1 where nothing is held against the profile. `not_before` is when a held profile is
    tried again, `held_because` says why not now.
    """

    id: str
    name: str
    account: str
    fleet: str
    config: dict[str, Any]
    labels: dict[str, str]
    priority: int
    revision: int
    wanted: bool
    phase: str | None
    bot: str | None
    epoch: int | None
    since: datetime | None
    crashes: int | None
    attempt: int | None
    not_before: datetime | None
    held_because: str | None
    created_at: datetime
    updated_at: datetime


class Revision(BaseModel):
    """One configuration that a profile had."""

    revision: int
    config: dict[str, Any]
    created_at: datetime


@router.post("", status_code=201, operation_id="create_profile")
async def create(state: StateNeeded, who: AnyCaller, body: NewProfile) -> Profile:
    """Makes a profile."""
    if who.account is not None and body.account not in (None, who.account):
        raise ForbiddenError("A client's key makes profiles of its own account alone.")
    async with state.ledger.begin() as tx:
        owner = who.account or body.account or (await accounts.default(tx)).id
        made = await ledger_profiles.create(
            tx,
            account=owner,
            fleet=body.fleet,
            name=body.name,
            config=body.config,
            labels=body.labels,
            priority=body.priority,
            wanted=body.start,
        )
    return await _applied(state, made)


@router.get("", operation_id="list_profiles")
async def list_(
    state: StateNeeded,
    who: AnyCaller,
    fleet: Annotated[str | None, Query()] = None,
    account: Annotated[str | None, Query()] = None,
    wanted: Annotated[bool | None, Query()] = None,
    name: Annotated[str | None, Query(max_length=200, description="part of the name")] = None,
    limit: Limit = 100,
    after: After = None,
) -> Page[Profile]:
    """Profiles by id."""
    async with state.ledger.begin() as tx:
        found = await ledger_profiles.page(
            tx,
            fleet=fleet,
            account=who.account or account,
            wanted=wanted,
            name_contains=name,
            limit=limit,
            after=after,
        )
    return Page(items=await _seen(state, found.items), next=found.next)


@router.get("/{profile_id}", operation_id="get_profile")
async def get(state: StateNeeded, who: AnyCaller, profile_id: str) -> Profile:
    """One profile."""
    return (await _seen(state, [await _own(state, who, profile_id)]))[0]


@router.patch("/{profile_id}", operation_id="change_profile")
async def change(state: StateNeeded, who: AnyCaller, profile_id: str, body: ProfileChange) -> Profile:
    """Changes what is given; a bot at work hears of it at once if it waits, else with its next heartbeat."""
    async with state.ledger.begin() as tx:
        changed = await ledger_profiles.change(
            tx, profile_id, account=who.account, **body.model_dump(exclude_unset=True)
        )
    return await _applied(state, changed)


@router.delete("/{profile_id}", status_code=204, operation_id="delete_profile")
async def delete(state: StateNeeded, who: AnyCaller, profile_id: str) -> Response:
    """Stops the profile and removes it; its records and history stay."""
    gone = await _own(state, who, profile_id)
    async with state.ledger.begin() as tx:
        await ledger_profiles.delete(tx, profile_id, account=who.account)
    await _apply(state, gone.fleet, profile_id)
    return Response(status_code=204)


@router.post("/{profile_id}/start", operation_id="start_profile")
async def start(state: StateNeeded, who: AnyCaller, profile_id: str) -> Profile:
    """Start: a bot begins to work on it as soon as one is free; again changes nothing."""
    return await _set_wanted(state, who, profile_id, wanted=True)


@router.post("/{profile_id}/stop", operation_id="stop_profile")
async def stop(state: StateNeeded, who: AnyCaller, profile_id: str) -> Profile:
    """Stop: its bot is told at once if it waits, else with its next heartbeat; again changes nothing."""
    return await _set_wanted(state, who, profile_id, wanted=False)


@router.post("/{profile_id}/release", operation_id="release_profile")
async def release(state: StateNeeded, who: AnyCaller, profile_id: str) -> Profile:
    """Forgets the profile's crashes, so that it waits again."""
    found = await _own(state, who, profile_id)
    await live_profiles.release(state.live, found.fleet, profile_id)
    return (await _seen(state, [found]))[0]


@router.get("/{profile_id}/revisions", operation_id="list_revisions")
async def revisions(
    state: StateNeeded, who: AnyCaller, profile_id: str, limit: Limit = 100, after: AfterRevision = None
) -> Page[Revision]:
    """The profile's configurations, oldest first."""
    await _own(state, who, profile_id)
    async with state.ledger.begin() as tx:
        found = await ledger_profiles.revisions(tx, profile_id, limit=limit, after=after)
    return Page(items=[Revision.model_validate(item, from_attributes=True) for item in found.items], next=found.next)


@router.get("/{profile_id}/assignments", operation_id="list_assignments")
async def assignments(
    state: StateNeeded, who: AnyCaller, profile_id: str, at: At = None, limit: Limit = 100, after: AfterNumber = None
) -> Page[Assignment]:
    """Who worked for the profile, newest first."""
    await _own(state, who, profile_id)
    async with state.ledger.begin() as tx:
        found = await history.assignments_page(tx, profile=profile_id, at=at, limit=limit, after=after)
    items = [Assignment.model_validate(item, from_attributes=True) for item in found.items]
    return Page(items=items, next=found.next)


async def _own(state: State, who: Caller, profile_id: str) -> ledger_profiles.Profile:
    async with state.ledger.begin() as tx:
        return await ledger_profiles.get(tx, profile_id, account=who.account)


async def _set_wanted(state: State, who: Caller, profile_id: str, *, wanted: bool) -> Profile:
    async with state.ledger.begin() as tx:
        changed = await ledger_profiles.set_wanted(tx, profile_id, wanted=wanted, account=who.account)
    return await _applied(state, changed)


async def _applied(state: State, changed: ledger_profiles.Profile) -> Profile:
    await _apply(state, changed.fleet, changed.id)
    return (await _seen(state, [changed]))[0]


async def _apply(state: State, fleet: str, profile_id: str) -> None:
    """Right away if live state is there; else the outbox holds the wish and the steward finishes it."""
    try:
        await apply_wishes(state.ledger, state.live, fleet, [profile_id])
    except UnavailableError as error:
        log.warning("wish left to the steward", profile=profile_id, error=str(error))


async def _seen(state: State, found: Sequence[ledger_profiles.Profile]) -> list[Profile]:
    """The ledger's profiles together with what live state knows of them."""
    views: dict[str, ProfileView] = {}
    try:
        for fleet in {profile.fleet for profile in found}:
            ids = [profile.id for profile in found if profile.fleet == fleet]
            views |= await snapshot.profiles(state.live, fleet, ids)
    except UnavailableError:
        views = {}
    return [_profile(profile, views.get(profile.id)) for profile in found]


def _profile(profile: ledger_profiles.Profile, view: ProfileView | None) -> Profile:
    return Profile(
        id=profile.id,
        name=profile.name,
        account=profile.account,
        fleet=profile.fleet,
        config=profile.config,
        labels=profile.labels,
        priority=profile.priority,
        revision=profile.revision,
        wanted=profile.wanted,
        phase=view.phase if view else None,
        bot=view.bot if view else None,
        epoch=view.epoch or None if view else None,
        since=view.since if view else None,
        crashes=view.crashes if view else None,
        attempt=attempt(view) if view else None,
        not_before=view.not_before if view else None,
        held_because=held_because(view) if view else None,
        created_at=profile.created_at,
        updated_at=profile.updated_at,
    )
