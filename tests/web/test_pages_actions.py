"""What an operator does from the pages of single things: kill a bot; start, stop and release a profile."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from rota.live import snapshot
from tests.conformance.fleet import SERVER, Fleet
from tests.conformance.site import Site
from tests.web.pages_client import Crowd, Pages, form_token, make_crowd, signed_in


@pytest.fixture
async def pages(site: Site) -> AsyncIterator[Pages]:
    async with signed_in(site) as opened:
        yield opened


async def phase_of(pages: Pages, profile: str) -> str:
    return (await snapshot.profiles(pages.site.state.live, "default", [profile]))[profile].phase


async def test_a_bots_page_tells_what_is_known_of_it(pages: Pages, bots: Fleet) -> None:
    work = await bots.work("7", "acme")
    await bots.beat("7", work, status="step 2")
    html = await pages.look(f"/bots/{SERVER}/7")
    for words in ("step 2", "acme", f"/profiles/{work['profile']}", f"/servers/{SERVER}", "working", "Kill this bot"):
        assert words in html


async def test_a_bot_is_killed_from_its_page(pages: Pages, bots: Fleet) -> None:
    work = await bots.work("7")
    await pages.site.record()
    html = await pages.look(f"/bots/{SERVER}/7")
    (action,) = re.findall(r'action="([^"]+/kill)"', html)
    answer = await pages.client.post(action, data={"form_token": form_token(html)}, follow_redirects=True)
    assert "it has just been killed" in answer.text
    assert await snapshot.bot(pages.site.state.live, "default", f"{SERVER}/7") is None
    assert await phase_of(pages, work["profile"]) == "held"
    assert f"{SERVER}/7" not in await pages.look("/")
    await pages.site.record()
    gone = await pages.look(f"/bots/{SERVER}/7", 404)
    assert "not on the roster" in gone
    assert "killed" in gone


async def test_killing_twice_says_that_the_bot_is_gone(pages: Pages, bots: Fleet) -> None:
    await bots.auth("7")
    assert (await pages.send(f"/bots/{SERVER}/7/kill")).status_code == 303
    assert (await pages.send(f"/bots/{SERVER}/7/kill")).status_code == 404


async def test_a_profile_is_started_and_stopped_from_its_page(pages: Pages, bots: Fleet) -> None:
    profile = await bots.profile("acme", start=False)
    assert f'action="/profiles/{profile}/start"' in await pages.look(f"/profiles/{profile}")
    assert (await pages.send(f"/profiles/{profile}/start")).headers["location"] == f"/profiles/{profile}"
    assert await phase_of(pages, profile) == "waiting"
    assert f'action="/profiles/{profile}/stop"' in await pages.look(f"/profiles/{profile}")
    assert (await pages.send(f"/profiles/{profile}/stop")).status_code == 303
    assert await phase_of(pages, profile) == "stopped"


async def test_a_profile_that_is_held_after_crashes_is_let_wait_again(pages: Pages, bots: Fleet) -> None:
    work = await bots.work("1")
    for bot in ("1", "2", "3"):
        if bot != "1":
            await bots.auth(bot)
            await bots.beat(bot)
        await bots.call(bot, "leave", json={"reason": "crash"})
        if await phase_of(pages, work["profile"]) == "held":
            break
    assert await phase_of(pages, work["profile"]) == "held"
    html = await pages.look(f"/profiles/{work['profile']}")
    assert "Let it wait again now" in html
    assert re.search(r"Held until .+, then attempt 2: its bot crashed once\.", re.sub(r"<[^>]+>", "", html))
    assert re.search(r"crashed once; attempt 2 at \d", re.sub(r"<[^>]+>", "", await pages.look("/")))
    assert "held back after crashes or early deaths" in await pages.look("/")
    await pages.send(f"/profiles/{work['profile']}/release")
    assert await phase_of(pages, work["profile"]) == "waiting"


@pytest.mark.parametrize("action", ["bots/farm-1/7/kill", "profiles/{profile}/stop", "profiles/{profile}/release"])
async def test_nothing_is_changed_without_a_form_of_ours(pages: Pages, bots: Fleet, action: str) -> None:
    work = await bots.work("7")
    path = "/" + action.format(profile=work["profile"])
    assert (await pages.client.get(path)).status_code in (404, 405)
    assert (await pages.client.post(path)).status_code == 422
    assert (await pages.client.post(path, data={"form_token": "x"})).status_code == 403
    assert (await pages.site.anybody.post(path, data={"form_token": "x"})).status_code == 303
    assert (await pages.client.post(path, data={}, headers={"sec-fetch-site": "cross-site"})).status_code in (403, 422)
    assert await phase_of(pages, work["profile"]) == "working"


async def test_a_profiles_page_tells_what_is_wanted_what_is_and_what_came_of_it(pages: Pages, bots: Fleet) -> None:
    work = await bots.work("7", "acme")
    await bots.push("7", [{"kind": "measured", "data": {"latency": 12}}], **work)
    await pages.site.record()
    await pages.site.rest.patch(f"/api/v1/profiles/{work['profile']}", json={"config": {"pace": 2}})
    html = await pages.look(f"/profiles/{work['profile']}")
    for words in ("acme", "measured", "latency", "&#34;pace&#34;: 2", "revision 2", f"/bots/{SERVER}/7", "started"):
        assert words in html


async def test_what_is_not_there_is_not_found_in_words(pages: Pages) -> None:
    assert "There is no profile prf_none" in await pages.look("/profiles/prf_none", 404)
    assert "There is no server nowhere" in await pages.look("/servers/nowhere", 404)
    assert "There is no bot a/b" in await pages.look("/bots/a/b", 404)
    assert "nothing here by that name" in await pages.look("/nothing", 404)
    assert "Invalid request" in await pages.look("/?page=0", 422)


async def test_a_servers_page_lists_all_of_its_bots_page_by_page(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota.web.pages.server.BOTS_SHOWN", 4)
    await make_crowd(pages.site, Crowd(bots=10, profiles=2))
    seen: list[str] = []
    path: str | None = "/servers/host-1"
    while path is not None:
        html = await pages.look(path)
        seen += re.findall(r'id="(host-1/\d+)"', html)
        following = re.search(r'href="([^"]+)">next<', html)
        path = following[1] if following else None
    assert seen == [f"host-1/{number}" for number in range(1, 11)]


async def test_a_listed_server_without_bots_says_what_a_bot_needs(pages: Pages, bots: Fleet) -> None:
    assert "rota enrolment create" in await pages.look(f"/servers/{SERVER}")


async def test_a_script_that_renews_a_page_gets_errors_that_leave_it_as_it_is(pages: Pages) -> None:
    failed = await pages.client.get("/servers/nowhere", headers={"hx-request": "true"})
    assert failed.headers["hx-reswap"] == "none"
    signed_out = await pages.site.anybody.get("/servers/nowhere", headers={"hx-request": "true"})
    assert (signed_out.status_code, signed_out.headers["hx-refresh"]) == (204, "true")
