"""Incidents on the pages: a banner while they last, and a page of their own for good."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from rota.ledger import incidents
from rota.ledger.incidents import Incident, Sighting
from rota.live.snapshot import Totals
from rota.web.pages import facts
from rota.web.pages import incidents as incidents_page
from rota.web.pages.incidents import TITLES, groups, lines
from rota.web.pages.queue import Queue
from rota.web.pages.servers import Place
from rota.web.pages.verdict import judge
from tests.conformance.site import Site
from tests.web.pages_client import Crowd, Pages, make_crowd, signed_in

HOSTILE = "</b><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


@pytest.fixture
async def pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pages]:
    monkeypatch.setattr(facts, "ORDERS_KEPT", 0.0)
    monkeypatch.setattr("rota.web.stream.FRESH", 0.0)
    async with signed_in(site) as opened:
        yield opened


async def sight(pages: Pages, kind: str, **seen: str) -> None:
    """Subject → message of all that is seen of this kind."""
    async with pages.site.state.ledger.begin() as tx:
        await incidents.observe(tx, "default", kind, [Sighting(what, text, {}) for what, text in seen.items()])


def text_of(html: str) -> str:
    """What a person reads."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


async def test_an_open_incident_is_a_banner_on_the_status_page_until_it_is_over(pages: Pages) -> None:
    await make_crowd(pages.site, Crowd())
    assert "banner" not in await pages.look("/")
    await sight(pages, "mass_silence", default="3 of 4 bots fell silent")
    html = await pages.look("/")
    assert "3 of 4 bots fell silent" in html
    assert "<title>One incident is open · rota</title>" in html
    (href,) = set(re.findall(r'href="(/incidents#incident-\d+)"', html))
    assert f'id="{href.partition("#")[2]}"' in await pages.look("/incidents")
    await sight(pages, "mass_silence")
    html = await pages.look("/")
    assert "banner" not in html
    assert "All is as it should be" in html


async def test_the_page_shows_open_ones_first_and_closed_ones_page_by_page(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incidents_page, "CLOSED_SHOWN", 2)
    assert "No incident is open." in await pages.look("/incidents")
    for number in range(5):
        await sight(pages, "contested_slot", **{f"host-1/{number}": f"slot {number} is contested"})
    await sight(pages, "mass_silence", default="4 bots fell silent")
    html = await pages.look("/incidents")
    shown = text_of(html)
    assert shown.index("4 bots fell silent") < shown.index("slot 4 is contested") < shown.index("slot 3 is contested")
    assert "Open 2" in shown
    assert 'href="/bots/host-1/4"' in html
    seen, path = re.findall(r"slot (\d) is", shown), "/incidents"
    while following := re.search(r'href="([^"]+)">next<', await pages.look(path)):
        path = following[1]
        seen += re.findall(r"slot (\d) is", text_of(await pages.look(path)))
    assert seen == list("43210")
    assert ">first<" in await pages.look(path)


async def test_what_an_incident_says_is_never_markup(pages: Pages) -> None:
    await sight(pages, HOSTILE, **{HOSTILE: HOSTILE})
    for path in ("/", "/incidents"):
        html = await pages.look(path)
        assert "alert(1)" in html
        assert "<script>alert" not in html
        assert "<img src=x" not in html


async def test_the_page_is_an_operators_and_of_a_fleet_that_there_is(pages: Pages) -> None:
    assert (await pages.site.anybody.get("/incidents")).headers["location"] == "/sign-in?next=%2Fincidents"
    assert "no fleet" in await pages.look("/incidents?fleet=nofleet", 404)
    await pages.look("/incidents?after=x", 422)
    await pages.site.made("fleets", name="other")
    assert "There has been none yet." in await pages.look("/incidents?fleet=other")


async def test_every_page_leads_to_the_incidents_of_its_fleet(pages: Pages) -> None:
    await pages.site.made("fleets", name="other")
    made = await pages.site.made("profiles", name="acme", fleet="other")
    assert 'href="/incidents"' in await pages.look("/")
    for path in ("/incidents?fleet=other", f"/profiles/{made['id']}"):
        assert 'href="/incidents?fleet=other"' in await pages.look(path)


def incident(number: int, kind: str, subject: str = "default") -> Incident:
    now = datetime.now(UTC)
    return Incident(number, "default", kind, subject, "", {}, now, now, None)


def test_the_banner_has_one_line_for_each_kind_the_gravest_first() -> None:
    lasting = [
        incident(1, "odd"),
        incident(2, "contested_slot"),
        incident(3, "mass_silence"),
        incident(4, "contested_slot"),
    ]
    shown = [(group.newest.id, group.count) for group in groups(lasting)]
    assert shown == [(3, 1), (4, 2), (1, 1)]


def test_a_subject_leads_to_what_it_is() -> None:
    found = lines([incident(1, "odd_kind"), incident(2, "mass_silence", "web-1"), incident(3, "x", "web-1/7")])
    assert [line.subject_href for line in found] == ["/", "/servers/web-1", "/bots/web-1/7"]
    assert [line.title for line in found] == ["Odd kind", TITLES["mass_silence"], "X"]


@pytest.mark.parametrize(
    ("open_ones", "missing", "headline"),
    [
        (1, 0, "One incident is open"),
        (2, 0, "2 incidents are open"),
        (1, 1, "One incident is open, and one thing needs attention"),
    ],
)
def test_the_verdict_counts_incidents_first(open_ones: int, missing: int, headline: str) -> None:
    totals = Totals({"idle": 1, "working": 0}, {"waiting": 0})
    place = Place("web-1", "/", None, 1, 1 + missing, "few" if missing else "right")
    verdict = judge(totals, [place], [], Queue((), 0, (), 0), open_ones)
    assert (verdict.level, verdict.headline) == ("alarm", headline)
