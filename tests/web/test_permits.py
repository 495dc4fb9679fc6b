"""Whoever reads for long is asked again whether they may: a key can be revoked, a profile deleted, meanwhile."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rota.errors import ProblemError
from rota.ledger import keys
from rota.ledger.search import Position
from rota.ledger.sieve import Sieve
from rota.web import exports, permits
from rota.web.api.access import Caller
from rota.web.api.records import of_profile
from tests.conformance.fleet import Fleet
from tests.conformance.site import Site
from tests.web.test_api_records import WITHIN, events, pushed


async def revoke(site: Site, profile: str, key: str) -> None:
    del profile
    assert (await site.rest.delete(f"/api/v1/api-keys/{key}")).is_success


async def delete(site: Site, profile: str, key: str) -> None:
    del key
    assert (await site.rest.delete(f"/api/v1/profiles/{profile}")).is_success


@pytest.mark.parametrize(("end", "status"), [(revoke, 401), (delete, 404)])
async def test_whoever_may_not_read_any_more_is_sent_nothing_more(
    bots: Fleet, monkeypatch: pytest.MonkeyPatch, end: Any, status: int
) -> None:
    monkeypatch.setattr(permits, "AGAIN", 0.05)
    monkeypatch.setattr(exports, "ROWS", 1)
    profile, state = await pushed(bots, *range(9)), bots.site.state
    async with state.ledger.begin() as tx:
        key, secret = await keys.create_api_key(tx, role="operator")
    whose = await of_profile(state, Caller(None, secret), profile)
    messages = await state.follower.begin(profile, Sieve(), Position(0), permit=whose.permit)
    assert len(await events(messages, 9)) == 9
    whose = await of_profile(state, Caller(None, secret), profile)
    pieces = await state.exports.begin(whose.scope, Sieve(), exports.NdJson(), permit=whose.permit)
    assert await anext(pieces)
    await end(bots.site, profile, key.id)
    async with asyncio.timeout(WITHIN):
        last = [message async for message in messages][-1]
    assert last.startswith("event: problem\n")
    assert json.loads(last.partition("data: ")[2])["status"] == status
    await asyncio.sleep(permits.AGAIN)
    with pytest.raises(ProblemError) as refusal:
        _ = [piece async for piece in pieces]
    assert refusal.value.status == status
