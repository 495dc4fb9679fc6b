"""Webhooks on the pages: registered, looked at, tested, changed; the secret is shown once."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from rota.ledger import incidents, webhooks
from rota.ledger.incidents import Sighting
from rota.web.pages.webhook import LOOKS, OVERLAPS
from tests.conformance.site import Site
from tests.hooks.receiver import Receiver
from tests.web.pages_client import Pages, signed_in
from tests.web.test_api_webhooks import URL, dead_letter

HOSTILE = "</b><script>alert(1)</script>\"'>"


@pytest.fixture
async def pages(site: Site) -> AsyncIterator[Pages]:
    async with signed_in(site) as opened:
        yield opened


async def state_of(pages: Pages, webhook: str) -> str:
    return str((await pages.site.shown(f"webhooks/{webhook}"))["state"])


async def test_a_webhook_is_registered_and_its_secret_shown_once(pages: Pages) -> None:
    owner = await pages.site.account("acme")
    assert "There is no webhook yet" in await pages.look("/webhooks")
    sent = {"url": URL, "account": "acme", "kinds": "alarm, order", "label": "shop", "from_start": "on"}
    answer = await pages.send("/webhooks", **sent)
    assert answer.status_code == 200
    (secret,) = re.findall(r"whsec_[A-Za-z0-9+/=]{44}", answer.text)
    (made,) = (await pages.site.shown("webhooks"))["items"]
    assert (made["account"], made["kinds"], made["label"]) == (owner, ["alarm", "order"], "shop")
    html = await pages.look(f"/webhooks/{made['id']}")
    assert secret not in html
    assert "shop" in html
    assert "acme" in html
    listed = await pages.look("/webhooks")
    assert f'href="/webhooks/{made["id"]}"' in listed
    assert "acme" in listed


@pytest.mark.parametrize(
    ("wish", "status", "told"),
    [
        ({"url": "https://10.0.0.1/"}, 422, "10.0.0.1 leads to a private"),
        ({"url": "nothing"}, 422, "must begin with https"),
        ({"url": URL, "account": "nobody"}, 404, "There is no account nobody"),
        ({"url": URL, "kinds": "ä"}, 422, "kinds"),
    ],
)
async def test_what_is_refused_is_told_and_the_form_keeps_what_was_entered(
    pages: Pages, wish: dict[str, str], status: int, told: str
) -> None:
    answer = await pages.send("/webhooks", label="kept <b>", **wish)
    assert answer.status_code == status
    assert told in answer.text
    assert "kept &lt;b&gt;" in answer.text
    assert (await pages.site.shown("webhooks"))["items"] == []


async def test_a_webhook_is_paused_enabled_and_deleted_from_its_page(pages: Pages) -> None:
    made = (await pages.site.made("webhooks", url=URL))["id"]
    for verb, state in (("pause", "paused"), ("enable", "enabled")):
        answer = await pages.send(f"/webhooks/{made}/{verb}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/webhooks/{made}")
        assert await state_of(pages, made) == state
        assert f'<span class="badge">{state}</span>' in await pages.look(f"/webhooks/{made}")
    answer = await pages.send(f"/webhooks/{made}/delete")
    assert answer.headers["location"] == "/webhooks"
    await pages.look(f"/webhooks/{made}", status=404)


async def test_a_test_and_a_new_secret_are_shown_on_the_page_this_once(pages: Pages) -> None:
    async with Receiver() as receiver:
        made = (await pages.site.made("webhooks", url=receiver.url))["id"]
        answer = await pages.send(f"/webhooks/{made}/test")
        assert "The test was taken: status 204" in answer.text
    assert "The test was not taken" in (await pages.send(f"/webhooks/{made}/test")).text
    for overlap, _words in OVERLAPS:
        answer = await pages.send(f"/webhooks/{made}/rotate", overlap=overlap)
        (secret,) = re.findall(r"whsec_[A-Za-z0-9+/=]{44}", answer.text)
        async with pages.site.state.ledger.begin() as tx:
            assert (await webhooks.secrets_of(tx, made))[0] == secret
    assert "whsec_" not in await pages.look(f"/webhooks/{made}")
    assert (await pages.send(f"/webhooks/{made}/rotate", overlap="5")).status_code == 422


async def test_messages_that_were_given_up_are_sent_once_more_or_discarded(pages: Pages) -> None:
    made = (await pages.site.made("webhooks", url=URL, paused=True, label=HOSTILE))["id"]
    first, second = await dead_letter(pages.site, made, 1), await dead_letter(pages.site, made, 2)
    html = await pages.look(f"/webhooks/{made}")
    assert "answered 500" in html
    assert HOSTILE not in html
    for message in (first, second):
        assert f'value="{message}"' in html
    await pages.send(f"/webhooks/{made}/replay", message=first)
    await pages.send(f"/webhooks/{made}/discard", message=second)
    assert "No message was given up" in await pages.look(f"/webhooks/{made}")
    await dead_letter(pages.site, made, 3)
    await pages.send(f"/webhooks/{made}/discard")
    assert (await pages.site.shown(f"webhooks/{made}/dead-letters"))["items"] == []
    assert (await pages.send(f"/webhooks/{made}/replay", message=second)).status_code == 404


async def test_the_list_tells_webhooks_apart_and_shows_which_one_fails(pages: Pages) -> None:
    secret = "https://user:pass@receiver.example:8443/orders/" + "x" * 90 + "?key=s3cret"
    named = (await pages.site.made("webhooks", url=URL, label="shop", paused=True))["id"]
    async with pages.site.state.ledger.begin() as tx:
        url = "https://receiver.example/alarms"
        failing = (await webhooks.create(tx, url=url, secret="whsec_x", fleet="default")).id
        await webhooks.create(tx, url=secret, secret="whsec_x", fleet="default")
        await webhooks.note_failure(tx, failing, status=500, error="answered 500 " + HOSTILE, pause=60, gone=False)
    await dead_letter(pages.site, named, 1)
    lines = {line: line for line in (await pages.look("/webhooks")).split("<tr>")[1:]}
    (shop,) = [line for line in lines if "shop" in line]
    assert f"<small>{URL.removeprefix('http://')}</small>" in shop
    assert f'<a class="trouble" href="/webhooks/{named}#given-up">1</a>' in shop
    assert 'id="given-up"' in await pages.look(f"/webhooks/{named}")
    (alarms,) = [line for line in lines if ">receiver.example/alarms<" in line]
    assert f'class="{LOOKS["failing"]}"><span class="badge">failing</span>' in alarms
    assert f'<a class="trouble" href="/webhooks/{failing}">answered 500 &lt;' in alarms
    (cut,) = [line for line in lines if "receiver.example:8443/orders/xxx" in line]
    assert "x…</a>" in cut
    assert not any(part in cut for part in ("user", "pass", "s3cret"))
    assert f'class="{LOOKS["enabled"]}"><span class="badge">enabled</span>' in cut


async def test_a_form_that_is_not_ours_changes_nothing(pages: Pages) -> None:
    made = (await pages.site.made("webhooks", url=URL))["id"]
    for path in ("/webhooks", f"/webhooks/{made}/delete", f"/webhooks/{made}/rotate", f"/webhooks/{made}/test"):
        answer = await pages.client.post(path, data={"form_token": "forged", "url": URL, "overlap": "0"})
        assert answer.status_code == 403
    assert len((await pages.site.shown("webhooks"))["items"]) == 1


async def test_an_incident_leads_to_the_webhook(pages: Pages) -> None:
    made = (await pages.site.made("webhooks", url=URL))["id"]
    async with pages.site.state.ledger.begin() as tx:
        await incidents.observe(tx, "default", "webhook_failing", [Sighting(made, "cannot be reached", {})])
    html = await pages.look("/incidents")
    assert f'href="/webhooks/{made}"' in html
    assert "Webhook fails" in html
    async with pages.site.state.ledger.begin() as tx:
        await webhooks.note_failure(tx, made, status=500, error="answered 500", pause=60, gone=False)
    html = await pages.look(f"/webhooks/{made}")
    assert '<span class="badge">failing</span>' in html
    assert "answered 500" in html
    assert LOOKS["failing"] in html
