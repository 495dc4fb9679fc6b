"""The page of a profile's records: what it shows, its filter, its pages and files."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from html import unescape
from typing import Any

import pytest

from rota.ledger import search
from rota.web.pages import records as page_of_records
from tests.conformance.fleet import Fleet
from tests.conformance.site import Site
from tests.web.pages_client import Pages, signed_in


@pytest.fixture
async def pages(bots: Fleet) -> AsyncIterator[Pages]:
    async with signed_in(bots.site) as opened:
        yield opened


async def filled(pages: Pages, bots: Fleet, *data: Any) -> str:
    """The path of a profile for which these were pushed."""
    working = await bots.work()
    answer = await bots.push(
        "1", [{"kind": "even" if n % 2 == 0 else "odd", "data": one} for n, one in enumerate(data)]
    )
    assert answer.status_code == 200, answer.text
    return f"/profiles/{working['profile']}"


def shown(html: str) -> list[str]:
    """The data of each line."""
    return [unescape(text) for text in re.findall(r"<code>(.*?)</code>", html, re.DOTALL)]


def href(html: str, text: str) -> str:
    found = re.search(rf'<a href="([^"]+)"[^>]*>{text}</a>', html)
    assert found is not None, text
    return unescape(found[1])


async def test_the_page_of_a_profile_leads_to_its_records(pages: Pages, bots: Fleet) -> None:
    path = await filled(pages, bots, *range(5))
    html = await pages.look(path)
    assert shown(html.partition("Newest records")[2])[:5] == ["4", "3", "2", "1", "0"]
    records = await pages.look(href(html, "all of them, filter, export"))
    assert "<h1>Records of acme</h1>" in records
    assert "1.0 a minute, over the last 5 minutes" in records
    assert shown(records) == ["4", "3", "2", "1", "0"]
    assert 'hx-trigger="every 2s"' in records


async def test_the_time_of_a_record_is_told_to_the_millisecond_with_its_date(pages: Pages, bots: Fleet) -> None:
    working = await bots.work()
    now = datetime.now(UTC).replace(microsecond=4_567)
    moments = ["2026-03-04T05:06:07.123456Z", now.isoformat()]
    assert (await bots.push("1", [{"data": 1, "at": at} for at in moments])).status_code == 200
    html = await pages.look(f"/profiles/{working['profile']}/records?order=oldest")
    old, new = re.findall(r'<time datetime="([^"]+)" title="([^"]+)" data-clock="ms">([^<]+)</time>', html)
    assert old == ("2026-03-04T05:06:07.123Z", "2026-03-04 05:06:07.123456 UTC", "4 Mar 2026 05:06:07.123 UTC")
    assert new[:2] == (f"{now:%Y-%m-%dT%H:%M:%S}.004Z", f"{now:%Y-%m-%d %H:%M:%S}.004567 UTC")
    assert f"{now:%H:%M:%S}.004 UTC" in new[2]


async def test_records_are_paged_and_nothing_is_shown_twice(
    pages: Pages, bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_of_records, "SHOWN", 3)
    path = f"{await filled(pages, bots, *range(8))}/records"
    html, seen = await pages.look(path), list[str]()
    for _ in range(2):
        seen += shown(html)
        html = await pages.look(href(html, "next"))
        assert "hx-trigger" not in html
    seen += shown(html)
    assert seen == [str(n) for n in range(7, -1, -1)]
    assert ">next</a>" not in html
    assert shown(await pages.look(href(html, "first"))) == ["7", "6", "5"]
    assert shown(await pages.look(f"{path}?order=oldest")) == ["0", "1", "2"]


async def test_the_filter_is_kept_in_the_form_in_pages_and_in_files(
    pages: Pages, bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_of_records, "SHOWN", 2)
    path = f"{await filled(pages, bots, *range(10))}/records"
    query = "kind=odd&bot=&from=2026-01-01T00:00&to=&where=%24+%3E+2&order=newest"
    html = await pages.look(f"{path}?{query}")
    assert shown(html) == ["9", "7"]
    assert 'value="odd"' in html
    assert 'value="$ &gt; 2"' in html
    assert "<summary>Filter: kind odd, from 2026-01-01T00:00, data $ &gt; 2</summary>" in html
    html_2 = await pages.look(href(html, "next"))
    assert shown(html_2) == ["5", "3"]
    answer = await pages.client.get(href(html, "NDJSON"))
    assert [json.loads(line)["data"] for line in answer.text.splitlines()] == [3, 5, 7, 9]
    assert answer.headers["content-disposition"].startswith('attachment; filename="acme-records-')
    assert shown(await pages.look(href(html, "Show all"))) == ["9", "8"]


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("where=%24.a+%3E%3E+1", "where", "wrong at character 6"),
        ("from=yesterday", "from", "must be a date and a time"),
        ("to=0001-01-01T00:00%2B23:00", "to", "must be a date and a time"),
        ("epoch=x", "epoch", "must be a number"),
    ],
)
async def test_what_is_wrong_in_the_form_is_said_beside_it(
    pages: Pages, bots: Fleet, query: str, field: str, says: str
) -> None:
    path = f"{await filled(pages, bots, 1)}/records"
    html = await pages.look(f"{path}?{query}", 422)
    assert re.search(rf'<strong id="{field}-wrong" class="wrong">[^<]*{says}', html)
    assert shown(html) == []
    assert "as a file" not in html
    assert '<details class="act quiet-act filter" open>' in html
    assert (await pages.client.get(f"{path}/export?{query}")).status_code == 422


async def test_what_bots_push_is_escaped_and_cut(pages: Pages, bots: Fleet) -> None:
    hostile = "</code><script>alert(1)</script>"
    large = {"text": ["x" * 100] * 1_000}
    path = f"{await filled(pages, bots, hostile, large)}/records"
    html = await pages.look(path)
    assert "<script>alert" not in html
    assert len(html) < 100_000
    assert "characters; the file has all of them" in html
    assert json.dumps(hostile) in shown(html)


async def test_a_search_without_time_for_all_says_so(
    pages: Pages, bots: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{await filled(pages, bots, *range(9))}/records"
    monkeypatch.setattr(search, "FIRST_WINDOW", 2)
    monkeypatch.setattr(search, "SEARCH_SECONDS", 0.0)
    html = await pages.look(f"{path}?where=%24+%3D%3D+100")
    assert "Nothing so far." in html or "Not all was looked through" in html


async def test_records_are_for_who_has_signed_in(site: Site, bots: Fleet) -> None:
    profile = await bots.profile()
    for path in ("records", "records/export"):
        answer = await site.anybody.get(f"/profiles/{profile}/{path}")
        assert (answer.status_code, answer.headers["location"][:8]) == (303, "/sign-in")


async def test_there_is_no_page_of_records_without_a_profile(pages: Pages) -> None:
    await pages.look("/profiles/prf_none/records", 404)
    await pages.look("/profiles/prf_none/records/export", 404)
