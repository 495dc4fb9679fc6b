"""The pages while a store is away: what is known without it is shown, and it is said what is missing."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest

from rota.embedded import EmbeddedValkey
from rota.errors import UnavailableError
from rota.ledger.connection import Transaction
from rota.web.pages import facts
from tests.conformance.site import Site
from tests.web.pages_client import Crowd, Pages, make_crowd, signed_in


def away() -> AbstractAsyncContextManager[Transaction]:
    """The beginning of a transaction with a ledger that does not answer."""
    raise UnavailableError


async def test_without_live_state_the_status_page_says_so_and_comes_back(
    fragile: Site, own_valkey: EmbeddedValkey
) -> None:
    async with signed_in(fragile) as pages:
        profiles = await make_crowd(fragile, Crowd())
        assert "4 / 4" in await shown(pages, "/")
        own_valkey.stop(5)
        forget(pages)
        html = await pages.look("/", 503)
        for words in ("Live state (Redis or Valkey) does not answer", "host-1", "Nothing is known at the moment"):
            assert words in html
        assert "live state does not answer" in await pages.look(f"/profiles/{profiles[0]}")
        for path in ("/servers/host-1", "/bots/host-1/1"):
            failed = await pages.look(path, 503)
            assert '<meta http-equiv="refresh" content="5">' in failed
        own_valkey.start()
        forget(pages)
        await fragile.build()
        assert "No bot has come in yet" not in await pages.look("/")


async def test_without_the_ledger_the_status_page_goes_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "SERVERS_KEPT", 0.0)
    monkeypatch.setattr(facts, "NAMES_KEPT", 0.0)
    async with signed_in(site) as pages:
        profiles = await make_crowd(site, Crowd(name="acme {}"))
        assert "4 / 4" in await shown(pages, "/")
        monkeypatch.setattr(site.state.ledger, "begin", away)
        forget(pages)
        html = await pages.look("/")
        assert "The ledger (PostgreSQL) does not answer" in html
        assert "acme 1" in html
        assert "not known at the moment" in await pages.look("/bots/host-1/1")
        assert '<meta http-equiv="refresh"' in await pages.look(f"/profiles/{profiles[0]}", 503)


async def test_a_wish_that_live_state_does_not_hear_is_kept(fragile: Site, own_valkey: EmbeddedValkey) -> None:
    async with signed_in(fragile) as pages:
        (profile,) = await make_crowd(fragile, Crowd(bots=0, profiles=1))
        token = await pages.form_token()
        own_valkey.stop(5)
        answer = await pages.client.post(f"/profiles/{profile}/stop", data={"form_token": token})
        assert answer.status_code == 303
        assert f'action="/profiles/{profile}/start"' in await pages.look(f"/profiles/{profile}")


async def shown(pages: Pages, path: str) -> str:
    return (await pages.look(path)).replace("<b>", "").replace("</b>", "")


def forget(pages: Pages) -> None:
    """What was read before is not shown again."""
    pages.site.app.fastapi.state.boards._boards.clear()
