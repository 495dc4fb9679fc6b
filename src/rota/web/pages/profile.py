"""The page of one profile, `/profiles/{id}`: what is wanted, what is, and what came of it; Start and Stop."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from rota.errors import UnavailableError
from rota.ledger import accounts, history, profiles, records
from rota.ledger.profiles import Profile, ProfileRevision
from rota.live import profiles as live_profiles
from rota.live import snapshot
from rota.live.entries import ProfileView
from rota.steward.apply import apply_wishes
from rota.web.api.holds import attempt, held_because
from rota.web.pages.forms import our_form
from rota.web.pages.records import RecordLine, shown
from rota.web.pages.rendering import SECURITY_HEADERS, link, render
from rota.web.pages.stints import Stint, stints
from rota.web.session import Session, signed_in
from rota.web.state import State, current

router = APIRouter(include_in_schema=False)

RECORDS_SHOWN, STINTS_SHOWN, REVISIONS_SHOWN = 20, 10, 10


@dataclass(frozen=True)
class ProfilePage:
    """One profile.

    here: this page's own address, from which it renews itself.
    account: name of whose it is.
    view: what live state knows of it; None while that is away or has not heard of it.
    live_away: whether live state is away.
    attempt: which try the present or the next one is; 1 where nothing is held against it.
    held_because: why it is held, in words; None where it is not.
    bot_href: of the bot that works for it, or empty.
    config: the newest configuration as JSON.
    revisions: the newest ones, newest first.
    records: the newest ones; `records_href` is the page of all.
    """

    profile: Profile
    here: str
    account: str
    view: ProfileView | None
    live_away: bool
    attempt: int
    held_because: str | None
    bot_href: str
    config: str
    revisions: tuple[ProfileRevision, ...]
    records: tuple[RecordLine, ...]
    records_href: str
    past: tuple[Stint, ...]


@router.get("/profiles/{profile_id}")
async def profile_page(request: Request, _: Annotated[Session, Depends(signed_in)], profile_id: str) -> Response:
    """The profile's page."""
    page = await _read(current(request), profile_id)
    return render(request, "profile.html", page, title=page.profile.name, fleet=page.profile.fleet)


@router.post("/profiles/{profile_id}/{verb}")
async def change_profile(
    request: Request,
    _: Annotated[dict[str, str], Depends(our_form)],
    profile_id: str,
    verb: Literal["start", "stop", "release"],
) -> Response:
    """Start, Stop, or let a profile that is held after crashes wait again; then back to its page."""
    state = current(request)
    async with state.ledger.begin() as tx:
        if verb == "release":
            profile = await profiles.get(tx, profile_id)
        else:
            profile = await profiles.set_wanted(tx, profile_id, wanted=verb == "start")
    if verb == "release":
        await live_profiles.release(state.live, profile.fleet, profile_id)
    else:
        await _apply(state, profile)
    return RedirectResponse(link("profiles", profile_id), 303, SECURITY_HEADERS)


async def _apply(state: State, profile: Profile) -> None:
    try:
        await apply_wishes(state.ledger, state.live, profile.fleet, [profile.id])
    except UnavailableError:
        # The wish is committed, and the outbox brings it to live state as soon as that is back.
        return


async def _read(state: State, profile_id: str) -> ProfilePage:
    async with state.ledger.begin() as tx:
        profile = await profiles.get(tx, profile_id)
        account = await accounts.get(tx, profile.account)
        earlier = str(max(0, profile.revision - REVISIONS_SHOWN))
        revisions = await profiles.revisions(tx, profile_id, limit=REVISIONS_SHOWN, after=earlier)
        newest = await records.newest(tx, profile_id, RECORDS_SHOWN)
        past = await history.assignments_page(tx, profile=profile_id, limit=STINTS_SHOWN)
    view, away = await _live_view(state, profile)
    return ProfilePage(
        profile=profile,
        here=link("profiles", profile_id),
        account=account.name,
        view=view,
        live_away=away,
        attempt=attempt(view) if view else 1,
        held_because=held_because(view) if view else None,
        bot_href=link("bots", *view.bot.split("/", 1), fleet=profile.fleet) if view and view.bot else "",
        config=json.dumps(profile.config, indent=2, ensure_ascii=False),
        revisions=tuple(reversed(revisions.items)),
        records=shown(newest),
        records_href=link("profiles", profile_id, "records"),
        past=stints(past.items, {}),
    )


async def _live_view(state: State, profile: Profile) -> tuple[ProfileView | None, bool]:
    try:
        found = await snapshot.profiles(state.live, profile.fleet, [profile.id])
    except UnavailableError:
        return None, True
    return found.get(profile.id), False
