"""The page of one webhook, `/webhooks/{id}`: how far it has come and what is wrong; its dead letters; what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import RedirectResponse, Response

from rota.hooks.signature import new_secret
from rota.ledger import accounts, checks, dead_letters, webhooks
from rota.ledger.dead_letters import DeadLetter
from rota.ledger.webhooks import Webhook
from rota.web.api.webhooks import Tested, send_test
from rota.web.pages.forms import our_form
from rota.web.pages.rendering import SECURITY_HEADERS, link, render
from rota.web.session import Session, signed_in
from rota.web.state import State, current

router = APIRouter(include_in_schema=False)

SHOWN = 50
REFRESH = 10
OVERLAPS = (("86400", "1 day"), ("3600", "1 hour"), ("604800", "7 days"), ("0", "not at all: it has leaked"))
"""Seconds for which an old secret stays good, and their words."""
LOOKS = {"enabled": "working", "failing": "silent", "paused": "quiet", "gone": "gone"}
"""What a webhook is, and the look that says so."""


@dataclass(frozen=True)
class WebhookPage:
    """One webhook.

    here: this page's own address, from which it renews itself; its forms go below `form_href`.
    state: enabled, failing, paused or gone; `look` is how that looks.
    whose: the fleet, or the account's name.
    secret: a new secret, which is shown this once; else empty.
    tested: what became of a test just now, or None.
    letters: the dead letters of this page.
    first, following: addresses of the first and the next page of them, or None.
    """

    webhook: Webhook
    fleet: str
    here: str
    form_href: str
    state: str
    look: str
    whose: str
    secret: str
    tested: Tested | None
    letters: tuple[DeadLetter, ...]
    first: str | None
    following: str | None
    overlaps: tuple[tuple[str, str], ...] = OVERLAPS


@router.get("/webhooks/{webhook_id}")
async def webhook_page(
    request: Request,
    _: Annotated[Session, Depends(signed_in)],
    webhook_id: str,
    fleet: str = "default",
    after: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """The webhook's page."""
    return await show(request, webhook_id, fleet, after=after)


@router.post("/webhooks/{webhook_id}/rotate")
async def rotate_secret(
    request: Request, form: Annotated[dict[str, str], Depends(our_form)], webhook_id: str, fleet: str = "default"
) -> Response:
    """Makes a new secret, and shows it this once."""
    secret, chosen = new_secret(), form.get("overlap", "")
    if chosen not in dict(OVERLAPS):
        raise checks.refuse("overlap", "must be one of those that are offered")
    async with current(request).ledger.begin() as tx:
        await webhooks.rotate(tx, webhook_id, secret, overlap=float(chosen))
    return await show(request, webhook_id, fleet, secret=secret)


@router.post("/webhooks/{webhook_id}/test")
async def send_a_test(
    request: Request, _: Annotated[dict[str, str], Depends(our_form)], webhook_id: str, fleet: str = "default"
) -> Response:
    """Sends a test message, and tells what became of it."""
    tested = await send_test(current(request), None, webhook_id)
    return await show(request, webhook_id, fleet, tested=tested)


@router.post("/webhooks/{webhook_id}/{verb}")
async def change_webhook(
    request: Request,
    form: Annotated[dict[str, str], Depends(our_form)],
    webhook_id: str,
    verb: Literal["pause", "enable", "delete", "replay", "discard"],
    fleet: str = "default",
) -> Response:
    """Does it; `replay` and `discard` with one `message`, or with all dead letters. Then back to the page."""
    await _do(current(request), webhook_id, verb, form.get("message") or None)
    where = link("webhooks", fleet=fleet) if verb == "delete" else link("webhooks", webhook_id, fleet=fleet)
    return RedirectResponse(where, 303, SECURITY_HEADERS)


async def show(
    request: Request, webhook_id: str, fleet: str, *, after: str = "", secret: str = "", tested: Tested | None = None
) -> Response:
    """The page as a response; with a new secret, or what became of a test, it stands there this once."""
    page = await _read(current(request), webhook_id, fleet, after, secret=secret, tested=tested)
    # What is shown once must not be gone because a browser without scripts loads the page again.
    refresh = None if secret or tested else REFRESH
    return render(request, "webhook.html", page, title=page.webhook.label or webhook_id, refresh=refresh, fleet=fleet)


def look_of(webhook: Webhook) -> str:
    """Its state in one word: `failing` is one that is enabled and whose newest attempts failed."""
    return "failing" if webhook.state == "enabled" and webhook.failing_since is not None else webhook.state


async def _do(state: State, webhook_id: str, verb: str, message: str | None) -> None:
    async with state.ledger.begin() as tx:
        await webhooks.get(tx, webhook_id)
        if verb == "delete":
            await webhooks.remove(tx, webhook_id)
        elif verb == "replay":
            await dead_letters.replay(tx, webhook_id, message)
        elif verb == "discard":
            await dead_letters.discard(tx, webhook_id, message)
        else:
            await webhooks.change(tx, webhook_id, paused=verb == "pause")


async def _read(
    state: State, webhook_id: str, fleet: str, after: str, *, secret: str, tested: Tested | None
) -> WebhookPage:
    async with state.ledger.begin() as tx:
        webhook = await webhooks.get(tx, webhook_id)
        owner = (await accounts.get(tx, webhook.account)).name if webhook.account else ""
        found = await dead_letters.page(tx, webhook_id, limit=SHOWN, after=after or None)
    return WebhookPage(
        webhook=webhook,
        fleet=fleet,
        here=link("webhooks", webhook_id, fleet=fleet, after=after or None),
        form_href=link("webhooks", webhook_id),
        state=look_of(webhook),
        look=LOOKS[look_of(webhook)],
        whose=owner or f"all of fleet {webhook.fleet}",
        secret=secret,
        tested=tested,
        letters=tuple(found.items),
        first=link("webhooks", webhook_id, fleet=fleet) if after else None,
        following=link("webhooks", webhook_id, fleet=fleet, after=found.next) if found.next else None,
    )
