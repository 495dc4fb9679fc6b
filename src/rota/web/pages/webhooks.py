"""The page of webhooks, `/webhooks`: a fleet's own and those of clients, page by page, and the form for a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from rota.errors import InvalidRequestError, NotFoundError, ProblemError
from rota.hooks.address import check_url
from rota.hooks.signature import new_secret
from rota.ledger import accounts, fleets, webhooks
from rota.ledger.webhooks import Webhook
from rota.web.pages.forms import our_form
from rota.web.pages.rendering import link, render
from rota.web.pages.webhook import LOOKS, look_of, show
from rota.web.session import Session, signed_in
from rota.web.state import State, current

router = APIRouter(include_in_schema=False)

SHOWN = 50
REFRESH = 10
MOST_ADDRESS, MOST_TROUBLE = 64, 100
"""Characters of a line."""


@dataclass(frozen=True)
class WebhookLine:
    """One webhook.

    address: host and path, cut where they are long; the rest of it may hold secrets.
    state: enabled, failing, paused or gone; `look` is how that looks.
    whose: a fleet, or an account's name.
    trouble: what the newest attempt came to, where it failed; else empty.
    """

    webhook: Webhook
    href: str
    address: str
    state: str
    look: str
    whose: str
    trouble: str


@dataclass(frozen=True)
class WebhooksPage:
    """Webhooks by id.

    here: this page's own address, from which it renews itself.
    create_href: where the form for a new one goes.
    error: why the last one was not made, or empty; `entered` is what the form held.
    first, following: addresses of the first and the next page, or None.
    """

    fleet: str
    here: str
    lines: tuple[WebhookLine, ...]
    create_href: str
    error: str
    entered: Mapping[str, str]
    first: str | None
    following: str | None


@router.get("/webhooks")
async def webhooks_page(
    request: Request,
    _: Annotated[Session, Depends(signed_in)],
    fleet: str = "default",
    after: Annotated[str, Query(max_length=200)] = "",
) -> Response:
    """All webhooks."""
    page = await _read(current(request), fleet, after)
    return render(request, "webhooks.html", page, title="Webhooks", refresh=REFRESH)


@router.post("/webhooks")
async def create_webhook(
    request: Request, form: Annotated[dict[str, str], Depends(our_form)], fleet: str = "default"
) -> Response:
    """Registers one, and shows its page with the secret, this once."""
    state, secret = current(request), new_secret()
    try:
        made = await _create(state, form, fleet, secret)
    except (InvalidRequestError, NotFoundError) as error:
        page = await _read(state, fleet, "", error=error, entered=form)
        return render(request, "webhooks.html", page, title="Webhooks", status=error.status)
    return await show(request, made.id, fleet, secret=secret)


async def _create(state: State, form: Mapping[str, str], fleet: str, secret: str) -> Webhook:
    url, client = form.get("url", "").strip(), form.get("account", "").strip()
    await check_url(url, state.post.resolver)
    async with state.ledger.begin() as tx:
        account = (await accounts.find(tx, client)).id if client else None
        return await webhooks.create(
            tx,
            url=url,
            secret=secret,
            account=account,
            fleet=None if client else fleet,
            kinds=form.get("kinds", "").replace(",", " ").split(),
            label=form.get("label", ""),
            from_start="from_start" in form,
        )


async def _read(
    state: State, fleet: str, after: str, *, error: ProblemError | None = None, entered: Mapping[str, str] | None = None
) -> WebhooksPage:
    async with state.ledger.begin() as tx:
        await fleets.get(tx, fleet)
        found = await webhooks.page(tx, limit=SHOWN, after=after or None)
        owners = {item.account for item in found.items if item.account is not None}
        names = {owner: (await accounts.get(tx, owner)).name for owner in owners}
    lines = tuple(_line(item, fleet, _whose(item, names)) for item in found.items)
    return WebhooksPage(
        fleet=fleet,
        here=link("webhooks", fleet=fleet, after=after or None),
        lines=lines,
        create_href=link("webhooks", fleet=fleet),
        error=error.detail if error else "",
        entered=entered or {},
        first=link("webhooks", fleet=fleet) if after else None,
        following=link("webhooks", fleet=fleet, after=found.next) if found.next else None,
    )


def _line(webhook: Webhook, fleet: str, whose: str) -> WebhookLine:
    state, address = look_of(webhook), urlsplit(webhook.url)
    trouble = webhook.last_error or "" if state in {"failing", "gone"} else ""
    return WebhookLine(
        webhook=webhook,
        href=link("webhooks", webhook.id, fleet=fleet),
        address=_cut(f"{address.netloc.rpartition('@')[2]}{address.path.rstrip('/')}", MOST_ADDRESS),
        state=state,
        look=LOOKS[state],
        whose=whose,
        trouble=_cut(trouble, MOST_TROUBLE),
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _whose(webhook: Webhook, names: Mapping[str, str]) -> str:
    return f"fleet {webhook.fleet}" if webhook.account is None else names[webhook.account]
