"""Webhooks: where records are sent as they come. A client's own, an operator's all."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field, StringConstraints

from rota.errors import ForbiddenError, UnavailableError
from rota.hooks.address import LONGEST_URL, check_url
from rota.hooks.signature import headers, new_secret
from rota.ledger import webhooks as ledger_webhooks
from rota.ledger.webhooks import LONGEST_OVERLAP, MOST_KINDS
from rota.steward.message import body_of_test
from rota.web.api.access import AnyCaller, Caller, StateNeeded
from rota.web.api.models import After, Body, Change, Limit, Page, Word
from rota.web.state import State

router = APIRouter(prefix="/webhooks", tags=["webhooks"])

TESTS_AT_ONCE = 4
"""Test messages that one web worker has under way; each may take as long as a receiver does."""
DAY = 86_400

Url = Annotated[str, StringConstraints(max_length=LONGEST_URL)]
Kinds = Annotated[
    list[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:/-]{1,64}$")]],
    Field(max_length=MOST_KINDS, description="send records of these kinds alone; an empty list: of all"),
]
_testing = asyncio.Semaphore(TESTS_AT_ONCE)


class NewWebhook(Body):
    """A webhook to be registered: for one account's profiles, or, the operator's to choose, for all of a fleet."""

    url: Url = Field(examples=["https://receiver.example/rota"])
    account: Word | None = None
    fleet: Word | None = None
    kinds: Kinds = Field(default_factory=list)
    label: str = Field(default="", max_length=200)
    paused: bool = Field(default=False, description="send nothing until it is enabled")
    from_start: bool = Field(default=False, description="also send the records that are kept already")


class WebhookChange(Change):
    """What is to change; enabling it lets all that waits be tried at once."""

    url: Url | None = None
    kinds: Kinds | None = None
    label: str | None = Field(default=None, max_length=200)
    paused: bool | None = None


class Rotation(Body):
    """How the secret is to be changed."""

    overlap: float = Field(
        default=DAY, ge=0, le=LONGEST_OVERLAP, description="seconds for which messages are signed with the old one, too"
    )


class Webhook(BaseModel):
    """One webhook, without its secret. `state` is enabled, paused, or gone after its receiver answered 410.

    `waiting` counts profiles with records that are not delivered, `dead_letters` messages that were given up, `lost`
    records that were removed before they could be sent. `failing_since` is null while the newest attempt succeeded.
    """

    id: str
    account: str | None
    fleet: str | None
    label: str
    url: str
    kinds: list[str]
    state: str
    waiting: int
    dead_letters: int
    lost: int
    lost_at: datetime | None
    failures: int
    failing_since: datetime | None
    not_before: datetime | None
    last_status: int | None
    last_error: str | None
    last_attempt_at: datetime | None
    last_success_at: datetime | None
    created_at: datetime


class MadeWebhook(Webhook):
    """A new webhook with its secret, which is shown this once."""

    secret: str


class NewSecret(BaseModel):
    """A webhook's new secret, which is shown this once."""

    id: str
    secret: str


class Tested(BaseModel):
    """What became of a test message: `error` is null where it was taken; `took` is seconds."""

    delivered: bool
    status: int | None
    error: str | None
    took: float


@router.post("", status_code=201, operation_id="create_webhook")
async def create(state: StateNeeded, who: AnyCaller, body: NewWebhook) -> MadeWebhook:
    """Registers a webhook. Its address is checked; private ones are refused unless a setting allows them."""
    account, fleet = _whose(who, body)
    await check_url(body.url, state.post.resolver)
    secret = new_secret()
    async with state.ledger.begin() as tx:
        made = await ledger_webhooks.create(
            tx,
            url=body.url,
            secret=secret,
            account=account,
            fleet=fleet,
            kinds=body.kinds,
            label=body.label,
            paused=body.paused,
            from_start=body.from_start,
        )
    return MadeWebhook(secret=secret, **_facts(made))


@router.get("", operation_id="list_webhooks")
async def list_(
    state: StateNeeded,
    who: AnyCaller,
    fleet: Annotated[str | None, Query()] = None,
    account: Annotated[str | None, Query()] = None,
    limit: Limit = 100,
    after: After = None,
) -> Page[Webhook]:
    """Webhooks by id, without their secrets."""
    async with state.ledger.begin() as tx:
        found = await ledger_webhooks.page(tx, account=who.account or account, fleet=fleet, limit=limit, after=after)
    return Page(items=[Webhook(**_facts(item)) for item in found.items], next=found.next)


@router.get("/{webhook_id}", operation_id="get_webhook")
async def get(state: StateNeeded, who: AnyCaller, webhook_id: str) -> Webhook:
    """One webhook: how far it has come, and what is wrong with it."""
    async with state.ledger.begin() as tx:
        return Webhook(**_facts(await ledger_webhooks.get(tx, webhook_id, who.account)))


@router.patch("/{webhook_id}", operation_id="change_webhook")
async def change(state: StateNeeded, who: AnyCaller, webhook_id: str, body: WebhookChange) -> Webhook:
    """Changes what is given. A filter applies to messages that are made from now on."""
    if body.url is not None:
        await check_url(body.url, state.post.resolver)
    async with state.ledger.begin() as tx:
        changed = await ledger_webhooks.change(
            tx, webhook_id, account=who.account, **body.model_dump(exclude_unset=True)
        )
    return Webhook(**_facts(changed))


@router.delete("/{webhook_id}", status_code=204, operation_id="delete_webhook")
async def delete(state: StateNeeded, who: AnyCaller, webhook_id: str) -> Response:
    """Ends a webhook: nothing is sent any more, and its dead letters go with it."""
    async with state.ledger.begin() as tx:
        await ledger_webhooks.remove(tx, webhook_id, who.account)
    return Response(status_code=204)


@router.post("/{webhook_id}/rotate", operation_id="rotate_webhook_secret")
async def rotate(state: StateNeeded, who: AnyCaller, webhook_id: str, body: Rotation) -> NewSecret:
    """Makes a new secret; for a while messages are signed with the old one as well."""
    secret = new_secret()
    async with state.ledger.begin() as tx:
        await ledger_webhooks.rotate(tx, webhook_id, secret, overlap=body.overlap, account=who.account)
    return NewSecret(id=webhook_id, secret=secret)


@router.post("/{webhook_id}/test", operation_id="test_webhook")
async def test(state: StateNeeded, who: AnyCaller, webhook_id: str) -> Tested:
    """Sends a test message now, once, whatever state the webhook is in, and tells what became of it."""
    return await send_test(state, who.account, webhook_id)


async def send_test(state: State, account: str | None, webhook_id: str) -> Tested:
    """See `test`."""
    async with state.ledger.begin() as tx:
        webhook = await ledger_webhooks.get(tx, webhook_id, account)
        signing = await ledger_webhooks.secrets_of(tx, webhook_id)
    if _testing.locked():
        raise UnavailableError("Other tests are under way: try again in a moment.")
    body, message_id = body_of_test(webhook_id), f"msg_test_{secrets.token_hex(8)}"
    async with _testing:
        signed = headers(signing, message_id, int(time.time()), body)
        outcome = await state.post.send(webhook.url, signed, body)
    error = outcome.error or None
    return Tested(delivered=outcome.is_delivered, status=outcome.status, error=error, took=round(outcome.took, 3))


def _whose(who: Caller, body: NewWebhook) -> tuple[str | None, str | None]:
    """The account or the fleet that a new webhook is for."""
    if who.account is not None:
        if body.fleet is not None or body.account not in (None, who.account):
            raise ForbiddenError("A client's key registers webhooks for its own account alone.")
        return who.account, None
    if body.account is None and body.fleet is None:
        return None, "default"
    return body.account, body.fleet


def _facts(webhook: ledger_webhooks.Webhook) -> dict[str, Any]:
    facts: dict[str, Any] = dict(vars(webhook))
    facts["dead_letters"] = facts.pop("dead")
    return facts
