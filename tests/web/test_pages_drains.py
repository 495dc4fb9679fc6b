"""Draining from the pages of a server and of a bot, and how the status page shows it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from rota.errors import InvalidRequestError, UnavailableError
from rota.ledger import drains
from rota.ledger.drains import Drain
from rota.web.pages import facts
from rota.web.pages.drains import chosen_within
from rota.web.pages.servers import Place
from tests.conformance.fleet import SERVER, Fleet
from tests.conformance.site import Site
from tests.web.pages_client import Pages, form_token, signed_in


@pytest.fixture
async def pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pages]:
    monkeypatch.setattr(facts, "ORDERS_KEPT", 0.0)
    monkeypatch.setattr("rota.web.stream.FRESH", 0.0)
    async with signed_in(site) as opened:
        yield opened


async def ordered(pages: Pages) -> dict[str, Drain]:
    async with pages.site.state.ledger.begin() as tx:
        return {drain.subject: drain for drain in await drains.all_of(tx, "default")}


def text_of(html: str) -> str:
    """What a person reads."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def action(html: str, verb: str) -> str:
    """Where the form of this verb goes."""
    (found,) = re.findall(rf'action="([^"]+/{verb})"', html)
    return str(found)


async def test_a_server_is_drained_from_its_page_and_taken_back(pages: Pages, bots: Fleet) -> None:
    await bots.work("1")
    await bots.auth("2")
    html = await pages.look(f"/servers/{SERVER}")
    assert "Drain this server" in html
    chosen = {"form_token": form_token(html), "within": "600", "seconds": ""}
    answer = await pages.client.post(action(html, "drain"), data=chosen, follow_redirects=True)
    assert re.search(
        r"Draining: 2 bots left\. What has not ended at [\d:A-Za-z ]+ UTC is killed\.", text_of(answer.text)
    )
    drain = (await ordered(pages))[SERVER]
    assert drain.deadline is not None
    assert abs(drain.deadline - datetime.now(UTC) - timedelta(seconds=600)) < timedelta(seconds=30)
    status = await pages.look("/")
    assert "Draining , what is left is killed at" in text_of(status)
    assert "too many" not in status, "whoever is on the way out is nobody to worry about"
    html = await pages.look(f"/servers/{SERVER}")
    await pages.client.post(action(html, "undrain"), data={"form_token": form_token(html)})
    assert await ordered(pages) == {}
    assert "Draining" not in await pages.look(f"/servers/{SERVER}")
    assert "Draining" not in await pages.look("/")
    assert (await bots.beat("2"))["instruction"] == "wait"


async def test_a_server_without_bots_left_is_drained(pages: Pages, bots: Fleet) -> None:
    await bots.auth("1")
    await pages.send(f"/servers/{SERVER}/drain", within="")
    await bots.call("1", "leave", json={})
    shown = text_of(await pages.look(f"/servers/{SERVER}"))
    assert "Drained: no bot is left. Whoever comes in from here is told to exit, until this is undone." in shown
    assert "Change the deadline" not in shown
    status = text_of(await pages.look("/"))
    assert "Drained" in status
    assert "All is as it should be" in status


async def test_a_host_of_a_pattern_stays_on_the_page_while_it_is_drained(pages: Pages, bots: Fleet) -> None:
    await bots.site.made("servers", hostname="barn-*", expected_bots=3)
    await bots.auth("1")
    await bots.site.made("fleets/default/drains", subject="barn-7")
    assert 'id="server-barn-7"' in await pages.look("/")
    assert "Drained:" in text_of(await pages.look("/servers/barn-7"))
    assert "All is as it should be" in await pages.look("/")
    assert (await pages.send("/servers/barn-7/undrain")).status_code == 303
    await pages.look("/servers/barn-7", 404)


async def test_a_bot_is_drained_from_its_page_and_taken_back(pages: Pages, bots: Fleet) -> None:
    await bots.auth("1")
    html = await pages.look(f"/bots/{SERVER}/1")
    chosen = {"form_token": form_token(html), "within": "other", "seconds": "90"}
    answer = await pages.client.post(action(html, "drain"), data=chosen, follow_redirects=True)
    assert "takes nothing new and exits. If it is still there at" in text_of(answer.text)
    drain = (await ordered(pages))[f"{SERVER}/1"]
    assert drain.deadline is not None
    assert drain.deadline - drain.created_at < timedelta(seconds=95)
    assert (await pages.send(f"/bots/{SERVER}/1/undrain")).headers["location"] == f"/bots/{SERVER}/1"
    assert await ordered(pages) == {}
    assert "Drain this bot" in await pages.look(f"/bots/{SERVER}/1")


async def test_the_page_of_a_killed_bot_still_has_its_drain_and_takes_it_back(pages: Pages, bots: Fleet) -> None:
    await bots.auth("1")
    await pages.send(f"/bots/{SERVER}/1/drain")
    await pages.send(f"/bots/{SERVER}/1/kill")
    html = await pages.look(f"/bots/{SERVER}/1")
    assert "it went without saying so, and is told to exit if it comes back within an hour" in text_of(html)
    await pages.client.post(action(html, "undrain"), data={"form_token": form_token(html)})
    assert await ordered(pages) == {}
    await bots.auth("1")
    assert (await bots.beat("1"))["instruction"] == "wait"


async def test_a_bot_of_a_draining_server_says_so_and_offers_no_way_out_of_its_own(pages: Pages, bots: Fleet) -> None:
    await bots.auth("1")
    await pages.send(f"/servers/{SERVER}/drain")
    html = await pages.look(f"/bots/{SERVER}/1")
    assert "its whole server" in html
    assert "undrain" not in html
    assert (await pages.send(f"/bots/{SERVER}/1/undrain")).status_code == 409


@pytest.mark.parametrize("verb", ["drain", "undrain"])
@pytest.mark.parametrize("where", [f"servers/{SERVER}", f"bots/{SERVER}/1"])
async def test_nothing_is_drained_without_a_form_of_ours(pages: Pages, bots: Fleet, where: str, verb: str) -> None:
    await bots.auth("1")
    path = f"/{where}/{verb}"
    assert (await pages.client.get(path)).status_code in (404, 405)
    assert (await pages.client.post(path, data={"form_token": "x"})).status_code == 403
    assert (await pages.site.anybody.post(path, data={"form_token": "x"})).status_code == 303
    assert await ordered(pages) == {}


async def test_what_cannot_be_drained_is_said_in_words(pages: Pages, bots: Fleet) -> None:
    await bots.auth("1")
    assert "There is no server nowhere" in (await pages.send("/servers/nowhere/drain")).text
    assert "There is no bot" in (await pages.send(f"/bots/{SERVER}/9/drain")).text
    odd = await pages.send(f"/servers/{SERVER}/drain", within="other", seconds="soon")
    assert (odd.status_code, "say after how many seconds" in odd.text) == (422, True)
    assert "is not being drained" in (await pages.send(f"/servers/{SERVER}/undrain")).text


@pytest.mark.parametrize(
    ("form", "seconds"),
    [
        ({}, None),
        ({"within": "", "seconds": "5"}, None),
        ({"within": "600", "seconds": "5"}, 600),
        ({"within": "other", "seconds": " 5 "}, 5),
    ],
)
def test_the_deadline_that_was_chosen_counts(form: dict[str, str], seconds: float | None) -> None:
    assert chosen_within(form) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 min"])
def test_a_deadline_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="within"):
        chosen_within({"within": "other", "seconds": text})


def test_a_server_that_is_being_drained_is_not_wrong_whatever_it_lacks() -> None:
    lacking = Place("web-1", "/", None, 0, 3, "few")
    assert lacking.is_wrong
    assert not Place("web-1", "/", None, 0, 3, "few", Drain("default", "web-1", None, datetime.now(UTC))).is_wrong


async def test_while_the_ledger_is_away_pages_tell_of_the_drains_that_they_knew(
    pages: Pages, bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise UnavailableError

    await bots.auth("1")
    await pages.send(f"/servers/{SERVER}/drain")
    await pages.look("/")
    monkeypatch.setattr(pages.site.state.ledger, "begin", away)
    assert "Draining" in await pages.look("/")
    assert "Draining" in await pages.look(f"/servers/{SERVER}")
