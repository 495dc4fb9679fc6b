"""All pages in light and dark, wide and on a phone: nothing runs over, text can be read, focus can be seen."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, WIDE, Farm, Opener

CONTRAST = """() => {
  // WCAG 2.2, 1.4.3: every text against what is painted behind it.
  const light = (color) => {
    const linear = (s) => s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = color.map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const parts = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const behind = (element) => {
    for (let up = element; up; up = up.parentElement) {
      const color = parts(getComputedStyle(up).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!text || element.closest("noscript") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const [a, b] = [light(parts(style.color)), light(behind(element))].sort((x, y) => y - x);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) poor.push(`${text}: ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
  return poor;
}"""
UNNAMED = """() => [...document.querySelectorAll("a, button, select, input:not([type=hidden])")]
  .filter((one) => !(one.textContent.trim() || one.ariaLabel || one.labels?.length)).map((one) => one.outerHTML)"""


@pytest.fixture
def paths(farm: Farm) -> list[str]:
    """One of each page: bots that work and drain, profiles that wait and are held, an open incident."""
    held = farm.profile("crashes again and again", start=True)
    farm.work("2")
    farm.leave("2", "crash")
    farm.auth("2")
    farm.contest("1")
    farm.change("/fleets/default/drains", subject=farm.hostname, within=3600)
    waiting = farm.profile("a client with quite a long name that has to fit somewhere " + "w" * 80, start=True)
    crowded = [
        "/",
        "/?view=table",
        "/incidents",
        f"/servers/{farm.hostname}",
        f"/bots/{farm.hostname}/1",
        f"/profiles/{waiting}",
        f"/profiles/{held}",
        "/?fleet=none",
        "/webhooks",
        f"/webhooks/{farm.webhook('what the shop gets ' + 'w' * 60)}",
    ]
    return [*crowded, "/sign-in?token=x"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read_and_fits_a_phone(opened: Opener, paths: list[str], scheme: str) -> None:
    page = opened("/", viewport=PHONE, is_mobile=True, color_scheme=scheme)
    brightness = page.evaluate("getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)")
    assert all(part > 200 if scheme == "light" else part < 60 for part in brightness)
    for path in paths:
        page.goto(path)
        assert overflow(page) == 0, path
        assert page.evaluate(CONTRAST) == [], path
        assert page.evaluate(UNNAMED) == [], path
        page.set_viewport_size({"width": 320, "height": 640})
        assert overflow(page) == 0, f"{path} on a small phone"
        page.set_viewport_size(WIDE)
        assert overflow(page) == 0, f"{path} on a desk"
        page.set_viewport_size(PHONE)


def overflow(page: Page) -> Any:
    """Pixels that the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def test_focus_can_be_seen_wherever_it_goes(opened: Opener, paths: list[str]) -> None:
    page = opened("/")
    expect(page.locator("#live")).to_have_text("live")
    unseen = []
    for _ in range(30):
        page.keyboard.press("Tab")
        seen = page.evaluate("""() => {
          const one = document.activeElement;
          if (one === document.body) return null;
          const outlined = [one, "::before"].some((part) =>
            getComputedStyle(one, part === one ? null : part).outlineStyle !== "none");
          return outlined ? "" : one.outerHTML.slice(0, 120);
        }""")
        if seen is None:
            break
        if seen:
            unseen.append(seen)
    assert unseen == []


def test_a_page_that_asks_for_itself_says_when_it_cannot(opened: Opener, farm: Farm) -> None:
    page = opened(f"/bots/{farm.hostname}/1")
    expect(page.locator("#live")).to_have_text("live")
    page.context.set_offline(True)
    expect(page.locator("#live")).to_contain_text("not live since")
    page.context.set_offline(False)
    expect(page.locator("#live")).to_have_text("live")


def test_the_whole_way_to_a_kill_goes_by_keyboard(opened: Opener, farm: Farm) -> None:
    page = opened(f"/bots/{farm.hostname}/1")
    page.get_by_text("Kill this bot …").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    button = page.get_by_role("button", name=f"Kill {farm.hostname}/1")
    expect(button).to_be_focused()
    farm.beat("2")
    with page.expect_response(f"**/bots/{farm.hostname}/1"):
        pass  # the page renews itself around the form
    expect(page.locator("#live")).to_have_text("live")
    expect(button).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("it has just been killed")).to_be_visible()
