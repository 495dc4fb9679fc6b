"""docs/pages.md names every page, every look and every kind of deadline that the pages offer."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi.routing import APIRoute

from rota.web.pages import router
from rota.web.pages.cells import MEANINGS
from rota.web.pages.drains import CHOICES
from rota.web.pages.incidents import CLOSED_SHOWN

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "pages.md").read_text(encoding="utf-8")
NOT_PAGES = {"/stream", "/profiles/*/records/export"}


def test_every_page_is_in_the_table_and_no_other() -> None:
    pages = {re.sub(r"{\w+}", "*", route.path) for route in routes() if "GET" in (route.methods or ())} - NOT_PAGES
    told = {address.partition("?")[0] for address in re.findall(r"`(/[^`]*)`", table())}
    assert {re.sub("[A-Z]+", "*", address) for address in told} == pages


def routes() -> list[APIRoute]:
    """Those of all page modules."""
    modules = [getattr(included, "original_router", router) for included in router.routes]
    return [route for module in modules for route in module.routes if isinstance(route, APIRoute)]


def table() -> str:
    """The rows that begin with an address."""
    return "\n".join(re.findall(r"^\| (`/.*?) \|", GUIDE, re.MULTILINE))


def test_every_look_is_told_with_its_meaning() -> None:
    told = dict(re.findall(r"^\| (\w+) \| [^|]+ \| ([^|]+) \|$", GUIDE, re.MULTILINE))
    assert {look: told.get(look) for look in MEANINGS} == MEANINGS


def test_every_deadline_of_the_form_is_told() -> None:
    for _, words in CHOICES[1:]:
        assert words.removeprefix("in ") in GUIDE


def test_the_numbers_of_the_incidents_are_those_of_the_page() -> None:
    assert f"what is over, {CLOSED_SHOWN} at a time" in GUIDE
