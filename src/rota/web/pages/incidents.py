"""The page of a fleet's incidents, `/incidents`: those that last, then those that are over, page by page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from rota.ledger import fleets
from rota.ledger.incidents import Incident, open_of
from rota.web.api.incidents import closed_page
from rota.web.pages.rendering import link, render
from rota.web.session import Session, signed_in
from rota.web.state import current

router = APIRouter(include_in_schema=False)

REFRESH = 10
"""Seconds after which a browser without scripts loads the page again."""
OPEN_SHOWN, CLOSED_SHOWN = 100, 50
TITLES = {
    "disk_full": "Disk full",
    "mass_silence": "Mass silence",
    "missing_partition": "Missing partition",
    "live_lost": "Live state was lost",
    "live_differs": "Live state differed",
    "contested_slot": "Contested slot",
    "history_gap": "Gap in history",
    "webhook_failing": "Webhook fails",
    "webhook_dead_letters": "Messages given up",
    "webhook_lost_records": "Records lost to a webhook",
}
"""What each kind is called, the gravest first; one that is not here bears its own name."""


@dataclass(frozen=True)
class IncidentLine:
    """One incident.

    title: what its kind is called.
    subject, subject_href: the bot, server or fleet that it concerns, and its page.
    closed_at: None while it lasts.
    """

    id: int
    kind: str
    title: str
    message: str
    subject: str
    subject_href: str
    href: str
    raised_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True)
class IncidentGroup:
    """The open incidents of one kind: the newest, and how many there are."""

    newest: IncidentLine
    count: int


@dataclass(frozen=True)
class IncidentsPage:
    """The incidents of one fleet.

    here: this page's own address, from which it renews itself.
    lasting: the open ones, newest first; `lasting_total` in all. On the first page alone.
    over: those that are closed, newest first.
    first: address of the first page, or None where this is it.
    following: address of the next page, or None at the end.
    """

    fleet: str
    here: str
    lasting: tuple[IncidentLine, ...]
    lasting_total: int
    over: tuple[IncidentLine, ...]
    first: str | None
    following: str | None


@router.get("/incidents")
async def incidents_page(
    request: Request,
    _: Annotated[Session, Depends(signed_in)],
    fleet: str = "default",
    after: Annotated[str, Query(pattern="^[0-9]{0,18}$")] = "",
) -> Response:
    """The incidents of a fleet."""
    page = await _read(request, fleet, after)
    return render(request, "incidents.html", page, title="Incidents", refresh=REFRESH)


def lines(found: Iterable[Incident]) -> tuple[IncidentLine, ...]:
    """The incidents with titles and links."""
    return tuple(
        IncidentLine(
            id=one.id,
            kind=one.kind,
            title=TITLES.get(one.kind, one.kind.replace("_", " ").capitalize()),
            message=one.message,
            subject=one.subject,
            subject_href=_subject_href(one),
            href=f"{link('incidents', fleet=one.fleet)}#incident-{one.id}",
            raised_at=one.raised_at,
            closed_at=one.closed_at,
        )
        for one in found
    )


def groups(lasting: Sequence[Incident]) -> tuple[IncidentGroup, ...]:
    """Open incidents, which come oldest first, by kind, the gravest kind first."""
    kinds = {one.kind: one for one in lasting}
    ordered = sorted(kinds, key=lambda kind: list(TITLES).index(kind) if kind in TITLES else len(TITLES))
    counts = Counter(one.kind for one in lasting)
    return tuple(IncidentGroup(lines([kinds[kind]])[0], counts[kind]) for kind in ordered)


async def _read(request: Request, fleet: str, after: str) -> IncidentsPage:
    async with current(request).ledger.begin() as tx:
        await fleets.get(tx, fleet)
        lasting = [] if after else list(reversed(await open_of(tx, fleet)))
        over = await closed_page(tx, fleet, limit=CLOSED_SHOWN, after=after or None)
    return IncidentsPage(
        fleet=fleet,
        here=link("incidents", fleet=fleet, after=after or None),
        lasting=lines(lasting[:OPEN_SHOWN]),
        lasting_total=len(lasting),
        over=lines(over.items),
        first=link("incidents", fleet=fleet) if after else None,
        following=link("incidents", fleet=fleet, after=over.next) if over.next else None,
    )


def _subject_href(one: Incident) -> str:
    if one.kind.startswith("webhook_"):
        return link("webhooks", one.subject, fleet=one.fleet)
    if one.subject == one.fleet:
        return link(fleet=one.fleet)
    host, slash, instance = one.subject.partition("/")
    return link("bots", host, instance, fleet=one.fleet) if slash else link("servers", host, fleet=one.fleet)
