"""What an operator is told and does about a whole server: incidents as a banner, and drains, without reload."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, Farm, Opener


def live(page: Page) -> Page:
    """The page once it is live, marked so that loading it again would be noticed."""
    expect(page.locator("#live")).to_have_text("live")
    page.evaluate("window.loadedOnce = true")
    return page


def test_an_incident_appears_as_a_banner_and_goes_without_reload(opened: Opener, farm: Farm) -> None:
    page = live(opened("/"))
    banner = page.get_by_role("region", name="Open incidents")
    expect(banner).to_have_count(0)
    farm.contest("2")
    expect(banner).to_contain_text(f"Several processes call themselves {farm.hostname}/2")
    expect(page).to_have_title(re.compile("^One incident is open"))
    expect(page.locator("#verdict")).to_contain_text("One incident is open")
    farm.change(f"/bots/{farm.hostname}/2/kill")
    expect(banner).to_have_count(0)
    assert page.evaluate("window.loadedOnce")


def test_the_banner_leads_to_the_incident_and_its_page_stays_live(opened: Opener, farm: Farm) -> None:
    farm.contest("2")
    page = opened("/", viewport=PHONE, is_mobile=True)
    page.get_by_role("link", name="Contested slot").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Incidents")
    one = page.locator(page.url.partition("#")[2] and f"#{page.url.partition('#')[2]}")
    expect(one).to_be_in_viewport()
    expect(one).to_have_class("lasting")
    live(page)
    farm.change(f"/bots/{farm.hostname}/2/kill")
    expect(one).to_have_class("over")
    expect(one).to_contain_text("lasted")
    assert page.evaluate("window.loadedOnce")


def test_a_server_is_drained_and_taken_back_while_its_page_follows(opened: Opener, farm: Farm) -> None:
    status = live(opened("/"))
    page = live(opened(f"/servers/{farm.hostname}"))
    page.get_by_text("Drain this server …").click()
    page.get_by_label("Deadline").select_option("another …")
    page.get_by_label("Seconds").fill("3000")
    with page.expect_response(f"**/servers/{farm.hostname}"):
        pass  # the page renews itself around the form
    expect(page.get_by_label("Seconds")).to_have_value("3000")
    page.get_by_role("button", name=f"Drain server {farm.hostname}").click()
    drain = page.get_by_role("region", name="Drain")
    expect(drain).to_contain_text("2 bots left. What has not ended at")
    card = status.locator(f"#server-{farm.hostname}")
    expect(card).to_contain_text("Draining, what is left is killed at")
    live(page)
    farm.leave("2")
    expect(drain).to_contain_text("1 bot left")
    farm.leave("1")
    expect(drain).to_contain_text("no bot is left")
    expect(card).to_contain_text("Drained")
    expect(status.locator("#verdict")).not_to_contain_text(farm.hostname)
    assert page.evaluate("window.loadedOnce")
    page.get_by_role("button", name="Let its bots work again").click()
    expect(page.get_by_text("Drain this server …")).to_be_visible()
    expect(status.locator("#verdict")).to_contain_text(f"{farm.hostname} has no bots")
    assert status.evaluate("window.loadedOnce")


@pytest.mark.parametrize("scripts", [True, False])
def test_a_bot_is_drained_by_keyboard(opened: Opener, farm: Farm, *, scripts: bool) -> None:
    page = opened(f"/bots/{farm.hostname}/2", java_script_enabled=scripts)
    page.get_by_text("Drain this bot …").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Deadline")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name=f"Drain bot {farm.hostname}/2")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Drain")).to_contain_text("If it is still there at")
    assert farm.beat("2")["instruction"] == "exit"
    page.get_by_role("button", name="Let it work again").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Drain this bot …")).to_be_visible()
    assert farm.beat("2")["instruction"] == "wait"
