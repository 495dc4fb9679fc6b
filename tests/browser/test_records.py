"""The page of a profile's records in a real browser: live, filtered by keyboard and without scripts, and as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PHONE, WIDE, Farm, Opener


def work(farm: Farm) -> str:
    """The path of the records of a profile that the second bot works for."""
    profile = farm.profile("shop", start=True)
    farm.work("2")
    push(farm, 1, *({"price": price, "text": "word " * 80} for price in range(60)))
    return f"/profiles/{profile}/records"


def push(farm: Farm, batch: int, *data: Any) -> None:
    farm._call(farm.tokens["2"], "push_data", batch=batch, records=[{"kind": "price", "data": one} for one in data])


def test_new_records_appear_while_a_filter_is_being_typed(opened: Opener, farm: Farm) -> None:
    page = opened(work(farm))
    expect(page.locator("#live")).to_have_text("live")
    page.get_by_text("Filter …").click()
    page.get_by_label("Kind").fill("pri")
    page.locator("details summary code").first.click()
    push(farm, 2, {"price": 1000})
    expect(page.locator("tbody tr").first).to_contain_text("1000")
    expect(page.get_by_label("Kind")).to_have_value("pri")
    expect(page.locator("tr details[open]")).to_have_count(1)


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_records_are_filtered_and_paged(opened: Opener, farm: Farm, size: Any, *, scripts: bool) -> None:
    page = opened(work(farm), java_script_enabled=scripts, viewport=size)
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_role("link", name="next").click()
    expect(page.locator("tbody tr")).to_have_count(10)
    page.get_by_text("Filter …").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Data").fill("$.price >= 57")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.get_by_text("Filter: data $.price >= 57")).to_be_visible()
    page.get_by_text("Filter: data $.price >= 57").click()
    expect(page.get_by_label("Data")).to_have_value("$.price >= 57")
    page.get_by_role("link", name="Show all").click()
    expect(page.locator("tbody tr")).to_have_count(50)
    width = page.locator("html").bounding_box()
    assert width is not None
    assert width["width"] <= size["width"]


def test_what_was_found_is_taken_away_as_a_file(opened: Opener, farm: Farm, tmp_path: Path) -> None:
    page = opened(f"{work(farm)}?where=%24.price+%3C+2")
    with page.expect_download() as download:
        page.get_by_role("link", name="NDJSON").click()
    assert download.value.suggested_filename.startswith("shop-records-")
    download.value.save_as(tmp_path / "file")
    lines = (tmp_path / "file").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["data"]["price"] for line in lines] == [0, 1]


def test_the_time_of_a_record_is_the_readers_own_to_the_millisecond(opened: Opener, farm: Farm) -> None:
    path = work(farm)
    record = {"at": "2026-03-04T05:06:07.089Z", "data": "old"}
    farm._call(farm.tokens["2"], "push_data", batch=2, records=[record])
    page = opened(f"{path}?order=newest", locale="en-GB", timezone_id="Asia/Tokyo")
    moment = page.locator("tbody tr", has_text="old").locator("time")
    expect(moment).to_have_text("4 Mar 2026, 14:06:07.089")
    expect(moment).to_have_attribute("title", "2026-03-04 05:06:07.089000 UTC")
