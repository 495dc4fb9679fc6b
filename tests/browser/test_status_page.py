"""The status page as an operator has it open: it follows the fleet without being loaded again."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.conftest import RotaServer
from tests.browser.conftest import PHONE, WIDE, Farm, Opener

STOPS_WITHIN = 10.0


def live(page: Page) -> Page:
    """The page once it is live, marked so that loading it again would be noticed."""
    expect(page.locator("#live")).to_have_text("live")
    page.evaluate("window.loadedOnce = true")
    return page


def bot_on(farm: Farm, bot: str) -> str:
    return f'[id="{farm.hostname}/{bot}"]'


@pytest.mark.parametrize("view", ["wall", "table"])
def test_a_killed_bot_disappears_without_reload(opened: Opener, farm: Farm, view: str) -> None:
    page = live(opened(f"/?view={view}"))
    expect(page.locator(bot_on(farm, "1"))).to_have_class("working")
    farm.change(f"/bots/{farm.hostname}/1/kill")
    expect(page.locator(bot_on(farm, "1"))).to_have_count(0)
    expect(page.locator(bot_on(farm, "2"))).to_have_count(1)
    expect(page.locator("#verdict")).to_contain_text(f"{farm.hostname} lacks 1 bot")
    expect(page).to_have_title(re.compile("need.? attention"))
    assert page.evaluate("window.loadedOnce")


@pytest.mark.parametrize("view", ["wall", "table"])
def test_a_started_profile_turns_to_working_without_reload(opened: Opener, farm: Farm, view: str) -> None:
    profile = farm.profile("late comer", start=False)
    page = live(opened(f"/?view={view}"))
    bot = page.locator(bot_on(farm, "2"))
    expect(bot).to_have_class("free")
    farm.change(f"/profiles/{profile}/start")
    expect(page.locator("#queue")).to_contain_text("late comer")
    farm.work("2", status="first step")
    expect(bot).to_have_class("working")
    expect(bot).to_contain_text("late comer")
    expect(bot).to_contain_text("first step")
    expect(page.locator("#queue")).not_to_contain_text("late comer")
    assert page.evaluate("window.loadedOnce")
    farm.change(f"/profiles/{profile}/stop")


def test_ages_grow_and_a_beat_makes_them_small_again(opened: Opener, farm: Farm) -> None:
    page = live(opened("/?view=table"))
    age = page.locator(f"{bot_on(farm, '2')} [data-t]")
    expect(age).to_have_text(re.compile(r"^([2-9]|\d\d) s$"))
    farm.beat("2")
    expect(age).to_have_text(re.compile("^[01] s$"))


def test_pages_go_on_when_rota_stops_and_starts_again(
    chromium: Browser, served: RotaServer, session_of_an_operator: Any, farm: Farm
) -> None:
    context = chromium.new_context(viewport=WIDE, storage_state=session_of_an_operator)
    pages = [context.new_page() for _ in range(3)]
    for page in pages:
        page.goto(f"{served.url}/")
        live(page)
    began, port = time.monotonic(), served.port
    assert served.stop() == 0
    assert time.monotonic() - began < STOPS_WITHIN
    expect(pages[2].locator("#live")).to_contain_text("not live since")
    served.start(port)
    expect(pages[2].locator("#live")).to_have_text("live")
    expect(pages[2].locator(bot_on(farm, "1"))).to_have_count(1)
    assert pages[2].evaluate("window.loadedOnce")
    context.close()


def test_the_wall_is_walked_by_keyboard(opened: Opener, farm: Farm) -> None:
    page = live(opened("/"))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.locator(f"#server-{farm.hostname} h3 a").focus()
    page.keyboard.press("Tab")
    first, second = (page.locator(f"{bot_on(farm, bot)} a") for bot in "12")
    expect(first).to_be_focused()
    expect(first.locator("span")).to_have_css("clip-path", "none")
    for key, focused in (("ArrowRight", second), ("ArrowLeft", first), ("End", second), ("Home", first)):
        page.keyboard.press(key)
        expect(focused).to_be_focused()
    farm.auth("3")
    expect(page.locator(bot_on(farm, "3"))).to_have_count(1)
    expect(first).to_be_focused()
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.closest('.wall')"), "a wall is one stop"
    first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{farm.hostname}/1")


def test_a_phone_shows_everything_by_touch(opened: Opener, farm: Farm) -> None:
    page = live(opened("/", viewport=PHONE, is_mobile=True, has_touch=True))
    page.get_by_role("link", name="table").tap()
    row = page.locator(bot_on(farm, "1"))
    for words in ("working", "acme", "step 3 of 4"):
        expect(row).to_contain_text(words)
    row.get_by_role("link", name="1", exact=True).tap()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{farm.hostname}/1")


def test_without_scripts_everything_is_there(opened: Opener, farm: Farm, served: RotaServer) -> None:
    page = opened("/", java_script_enabled=False)
    expect(page.locator("#live")).to_contain_text("as of")
    bot = page.locator(f"{bot_on(farm, '1')} a")
    bot.hover()
    expect(bot).to_contain_text("step 3 of 4")
    bot.click()
    page.get_by_text("Kill this bot …").click()
    page.get_by_role("button", name="Kill").click()
    expect(page.get_by_text("it has just been killed")).to_be_visible()
    page.goto("/")
    expect(page.locator(bot_on(farm, "1"))).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    page.goto("/")
    expect(page.get_by_label("Operator’s API key")).to_be_focused()
    page.goto(served.sign_in_url)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#live")).to_contain_text("as of")
