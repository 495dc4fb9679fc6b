"""The status page: what it shows, how large and how fast it is, and what its stream says."""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections.abc import AsyncIterator

import pytest

from rota import __version__
from rota.ledger import servers
from rota.live import bots
from rota.web import stream
from rota.web.pages import fleet as fleet_page
from tests.conformance.site import Site
from tests.unit.sdk_peer import eventually
from tests.web.pages_client import Crowd, Pages, come_in, make_crowd, signed_in

MOST_BYTES = 200_000
MOST_SECONDS = 0.1
HOSTILE = "</b><script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;"


@pytest.fixture
async def pages(site: Site) -> AsyncIterator[Pages]:
    async with signed_in(site) as opened:
        yield opened


def text_of(html: str) -> str:
    """What a person reads."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


async def stream_of(pages: Pages, **query: str) -> str:
    """All that one stream says until its life is over."""
    answer = await pages.client.get("/stream", params={"version": __version__, **query})
    assert answer.headers["content-type"].startswith("text/event-stream")
    return answer.text


async def test_an_empty_fleet_says_what_to_do_next(pages: Pages) -> None:
    html = await pages.look("/")
    assert "No bot has come in yet" in html
    for command in ("rota server add", "rota enrolment create", "rota simulate"):
        assert command in html


async def test_totals_servers_bots_and_what_waits_are_shown(pages: Pages) -> None:
    await make_crowd(pages.site, Crowd(servers=2, bots=3, profiles=5, name="acme {}", status="step 3 of 4"))
    await pages.site.made(
        "profiles", name="in want", labels={"zone": "moon"}, start=True, account=await an_account(pages)
    )
    for view in ("wall", "table"):
        html = await pages.look(f"/?view={view}")
        shown = text_of(html)
        for words in ("Bots 6", "5 working", "1 free", "0 starting", "0 stopping"):
            assert words in figures_of(html, shown), words
        for words in ("Profiles 6", "1 waiting", "0 held", "0 stopped"):
            assert words in figures_of(html, shown), words
        assert shown.count("3 / 3") == 2
        assert len(re.findall(r'id="host-\d/\d"', html)) == 6
        assert shown.count("step 3 of 4") == 6
        assert all(f"acme {number}" in shown for number in range(1, 6))
        assert len(re.findall(r'<i data-t="\d+">\d s</i>', html)) == 6
        assert re.search(r"in want since \d\d:\d\d:\d\d UTC", shown)


def figures_of(html: str, shown: str) -> str:
    """The text, and each number before its word, as it stands on the page."""
    pairs = re.findall(r"<dt>(\w+)</dt><dd>(\d+)</dd>", html)
    return shown + " ".join(f"{count} {phase}" for phase, count in pairs)


async def an_account(pages: Pages) -> str:
    return await pages.site.account("moon")


async def test_servers_say_what_is_missing_and_what_is_too_many(pages: Pages) -> None:
    async with pages.site.state.ledger.begin() as tx:
        await servers.add(tx, hostname="web-1", expected_bots=3)
        await servers.add(tx, hostname="web-2", expected_bots=1)
        await servers.add(tx, hostname="farm-*", expected_bots=1)
        await servers.add(tx, hostname="nowhere-*", expected_bots=1)
    for bot in ("web-1/1", "web-2/1", "web-2/2", "farm-7/1", "stray/1"):
        await come_in(pages.site, bot)
    shown = text_of(await pages.look("/"))
    for words in ("web-1 lacks 2 bots", "web-2 has 1 bot too many", "stray is not on the list", "no host yet"):
        assert words in shown
    assert "farm-7 lacks" not in shown


async def test_what_bots_and_clients_write_is_never_markup(pages: Pages) -> None:
    ids = await make_crowd(pages.site, Crowd(bots=2, profiles=1, name=HOSTILE + "{}", status=HOSTILE))
    await pages.site.made("profiles", name=HOSTILE, start=True, labels={"a": "b"}, account=await an_account(pages))
    paths = ["/", "/?view=table", "/servers/host-1", "/bots/host-1/1", "/bots/host-1/2", f"/profiles/{ids[0]}"]
    for path in paths:
        html = await pages.look(path)
        assert "alert(1)" in html
        assert "<script>alert" not in html
        assert "<img src=x" not in html
    everything = await briefly(pages)
    assert "alert(1)" in everything
    assert "<script>alert" not in everything


async def briefly(pages: Pages) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "LIFE", 0.3)
        return await stream_of(pages)


@pytest.mark.parametrize("path", ["/", "/sign-in", "/nothing", "/bots/a/b"])
async def test_no_page_lets_anything_foreign_run(pages: Pages, path: str) -> None:
    answer = await pages.client.get(path, follow_redirects=False)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("view", ["wall", "table"])
async def test_a_fleet_of_600_bots_is_small_and_quick(pages: Pages, view: str) -> None:
    crowd = Crowd(
        servers=6, bots=100, profiles=580, name="a client with a long name {:04}", status="waiting for the site"
    )
    await make_crowd(pages.site, crowd)
    html, taken = "", []
    for _ in range(7):
        fleet_page_is_read_again(pages)
        began = time.process_time()  # not what others do on this machine meanwhile
        html = await pages.look(f"/?view={view}")
        taken.append(time.process_time() - began)
    assert len(re.findall(r'id="host-\d/\d+"', html)) == 600
    assert len(html.encode()) < MOST_BYTES
    assert statistics.median(taken) < MOST_SECONDS


def fleet_page_is_read_again(pages: Pages) -> None:
    """Nothing that was read before is shown again."""
    boards = getattr(pages.site.app.fastapi.state, "boards", None)
    if boards is not None:
        boards._boards.clear()


async def test_a_page_stays_small_whatever_is_on_it(pages: Pages) -> None:
    name, status = "<" * 195 + "{:03}", "&" * 64
    await make_crowd(pages.site, Crowd(servers=6, bots=100, profiles=100, name=name, status=status))
    assert len((await pages.look("/?view=table")).encode()) < 2 * MOST_BYTES


async def test_where_servers_run_more_bots_than_fit_the_page_says_so(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_page, "BOTS_SHOWN", 3)
    monkeypatch.setattr(fleet_page, "SERVERS_SHOWN", 1)
    await make_crowd(pages.site, Crowd(servers=2, bots=5, profiles=0))
    html = await pages.look("/")
    assert "2 more bots on the page of host-1" in text_of(html)
    assert 'id="server-host-2"' not in html
    assert 'id="server-host-2"' in await pages.look("/?page=2")
    assert 'id="server-host-2"' in await pages.look("/?page=99")


async def test_a_page_works_without_scripts(pages: Pages) -> None:
    html = await pages.look("/")
    assert '<noscript><meta http-equiv="refresh" content="10"></noscript>' in html
    assert not re.search(r"<script(?! src=)", html)
    assert not re.search(r"<script[^>]* (defer|async)", html), "htmx would begin before its extension is there"
    assert not re.search(r"<style|\sstyle=|\son\w+=", html)


async def test_the_stream_begins_with_everything_and_goes_on_with_changes(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_crowd(pages.site, Crowd(bots=3, profiles=2))
    monkeypatch.setattr(stream, "EVERY", 0.02)
    monkeypatch.setattr(stream, "LIFE", 2.0)
    listening = asyncio.create_task(stream_of(pages))
    await eventually(lambda: is_shown(pages))
    await bots.kill(pages.site.state.live, "default", "host-1/2")
    events = [event for event in (await listening).split("\n\n") if event.startswith(("data", "event"))]
    first, beats, later = events[0], events[1], "".join(events[2:])
    assert first.startswith("data: <title>")
    assert first.count("<hx-partial") == 6
    assert beats.startswith("event: beats")
    assert set(json.loads(beats.partition("data: ")[2])["beats"]) == {"host-1/1", "host-1/2", "host-1/3"}
    assert "<title>One thing needs attention" in later
    assert '<hx-partial id="server-host-1"' in later
    assert 'id="host-1/2"' not in later
    assert 'id="host-1/3"' in later


def is_shown(pages: Pages) -> bool:
    """Whether the board of the only page has been read."""
    boards = getattr(pages.site.app.fastapi.state, "boards", None)
    return boards is not None and all(board._shown is not None for board in boards._boards.values())


async def test_a_stream_of_another_version_or_without_a_session_says_reload(pages: Pages) -> None:
    assert await stream_of(pages, version="0.0.0") == "event: reload\ndata: \n\n"
    answer = await pages.site.anybody.get("/stream", params={"version": __version__})
    assert answer.text == "event: reload\ndata: \n\n"


async def test_one_stream_too_many_is_told_to_ask_again(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST", 0)
    assert await stream_of(pages) == "retry: 4000\nevent: full\ndata: \n\n"


async def test_a_fleet_that_is_not_there_is_not_found(pages: Pages) -> None:
    assert "no fleet" in (await pages.look("/?fleet=atlantis", 404)).lower()
    assert "Invalid request" in await pages.look("/?view=sideways", 422)
