"""Incidents over REST: newest first, open or closed ones alone, page by page."""

from __future__ import annotations

from typing import Any

import pytest

from rota.ledger import incidents
from rota.ledger import page as ledger_page
from rota.ledger.incidents import Sighting
from tests.conformance.site import Json, Site


async def sight(site: Site, *subjects: str, kind: str = "contested_slot") -> None:
    """What the steward's duty says: these are seen, and no others of the kind."""
    seen = [Sighting(subject, f"{subject} is claimed by 2 processes", {"processes": 2}) for subject in subjects]
    async with site.state.ledger.begin() as tx:
        await incidents.observe(tx, "default", kind, seen)


async def collect(site: Site, limit: int, **query: Any) -> list[Json]:
    found: list[Json] = []
    after: dict[str, str] = {}
    while True:
        page = await site.shown("fleets/default/incidents", limit=limit, **query, **after)
        found += page["items"]
        if page["next"] is None:
            return found
        assert len(page["items"]) == limit
        after = {"after": page["next"]}


async def test_an_incident_is_shown_from_when_it_was_seen_until_it_was_over(site: Site) -> None:
    await sight(site, "farm-1/7")
    (lasting,) = (await site.shown("fleets/default/incidents"))["items"]
    assert lasting["kind"] == "contested_slot"
    assert (lasting["subject"], lasting["message"]) == ("farm-1/7", "farm-1/7 is claimed by 2 processes")
    assert (lasting["detail"], lasting["closed_at"]) == ({"processes": 2}, None)
    assert lasting["raised_at"] <= lasting["seen_at"]
    await sight(site)
    (over,) = (await site.shown("fleets/default/incidents"))["items"]
    assert over["id"] == lasting["id"]
    assert over["closed_at"] >= over["raised_at"]


async def test_open_and_closed_ones_are_listed_apart_and_together(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_page, "MOST", 3)
    await sight(site, *(f"h/{number}" for number in range(9)))
    await sight(site, *(f"h/{number}" for number in range(0, 9, 2)))
    for limit in (1, 2, 3):
        everything = [item["subject"] for item in await collect(site, limit)]
        assert everything == [f"h/{number}" for number in reversed(range(9))]
        lasting = [item["subject"] for item in await collect(site, limit, open="true")]
        assert lasting == [f"h/{number}" for number in (8, 6, 4, 2, 0)]
        over = [item["subject"] for item in await collect(site, limit, open="false")]
        assert over == [f"h/{number}" for number in (7, 5, 3, 1)]


async def test_what_makes_no_sense_is_refused(site: Site) -> None:
    for query, field in (({"open": "perhaps"}, "open"), ({"after": "x"}, "after"), ({"limit": 0}, "limit")):
        answer = await site.rest.get("/api/v1/fleets/default/incidents", params=query)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    assert (await site.rest.get("/api/v1/fleets/nofleet/incidents")).status_code == 404
