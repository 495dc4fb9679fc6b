"""The demonstration site works, and has its bad moments."""

from __future__ import annotations

from random import Random

import httpx2
import pytest

from rota.simulator.site import Mood, Site


async def test_every_page_says_that_all_is_well_and_the_index_lists_them() -> None:
    async with Site(3, Random(1)) as site, httpx2.AsyncClient(base_url=site.url) as client:
        for number in (1, 2, 3):
            page = await client.get(f"/page-{number}")
            assert page.status_code == 200
            assert "All is well" in page.text
        index = await client.get("/")
        assert index.text.count("<li>") == 3
        assert (await client.get("/page-4")).status_code == 404


@pytest.mark.parametrize("mood", [Mood.BROKEN, Mood.AWAY, Mood.SLOW])
async def test_a_page_in_a_bad_moment_is_broken_away_or_slow(mood: Mood) -> None:
    async with Site(1, Random(1)) as site, httpx2.AsyncClient(base_url=site.url) as client:
        site._pages["/page-1"].mood = mood
        assert site.troubled == 1
        if mood is Mood.AWAY:
            with pytest.raises(httpx2.TransportError):
                await client.get("/page-1")
        else:
            answer = await client.get("/page-1")
            assert answer.status_code == (500 if mood is Mood.BROKEN else 200)


async def test_a_mood_changes_when_its_time_is_over() -> None:
    async with Site(1, Random(1)) as site, httpx2.AsyncClient(base_url=site.url) as client:
        page = site._pages["/page-1"]
        page.mood, page.until = Mood.BROKEN, 0.0
        assert (await client.get("/page-1")).status_code == 200
        page.until = 0.0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rota.simulator.site.SLOW", (0.0, 0.0))
            try:
                await client.get("/page-1")
            except httpx2.TransportError:
                assert page.mood is Mood.AWAY
        assert page.mood is not Mood.FINE
