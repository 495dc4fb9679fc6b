"""An export is of the moment at which it began, for every profile in it."""

from __future__ import annotations

import json

import pytest

from rota.ledger import accounts
from rota.ledger.search import Scope
from rota.ledger.sieve import Sieve
from rota.web import exports
from tests.conformance.fleet import Fleet
from tests.web.test_api_records import push, pushed


async def test_an_export_leaves_out_what_arrives_after_it_began(bots: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "ROWS", 2)
    profile = await pushed(bots, *range(4))
    pieces = await bots.site.state.exports.begin(Scope(profile=profile), Sieve(), exports.NdJson())
    await push(bots, profile, 4, 5, batch=2)
    text = b"".join([piece async for piece in pieces]).decode()
    assert [json.loads(line)["data"] for line in text.splitlines()] == [0, 1, 2, 3]


async def test_an_export_of_an_account_leaves_that_out_for_profiles_whose_turn_comes_later(
    bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "ROWS", 1)
    made = {await pushed(bots, 1, 2, name=name, bot=name): name for name in ("a", "b", "c")}
    async with bots.site.state.ledger.begin() as tx:
        owner = (await accounts.default(tx)).id
    pieces = await bots.site.state.exports.begin(Scope(account=owner), Sieve(), exports.NdJson())
    for profile, name in made.items():
        await push(bots, profile, 3, bot=name, batch=2)
    text = b"".join([piece async for piece in pieces]).decode()
    assert [json.loads(line)["data"] for line in text.splitlines()] == [1, 2] * 3
