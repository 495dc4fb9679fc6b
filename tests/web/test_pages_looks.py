"""How a bot looks, what needs attention, and how numbers and moments are written: no stores needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rota.ledger.servers import Server
from rota.live.entries import ProfileView
from rota.live.snapshot import BotView, Totals
from rota.web.pages import rendering
from rota.web.pages.cells import LOOKS, MEANINGS, MOST_NAME, Cell, cell
from rota.web.pages.queue import Queue, Waiting
from rota.web.pages.servers import Place, places, share
from rota.web.pages.verdict import judge

TEMPLATES = sorted((Path(rendering.HERE) / "templates").glob("*.html"))
NOW = datetime.now(UTC)


def bot(**changes: Any) -> BotView:
    usual: dict[str, Any] = {
        "id": "web-1/7",
        "server": "web-1",
        "instance": "7",
        "phase": "working",
        "draining": False,
        "quiet": False,
        "profile": "prf_1",
        "epoch": 1,
        "revision": 1,
        "status": "",
        "version": "",
        "labels": {},
        "joined_at": NOW,
        "beat_age": 1.0,
        "interval": 10,
        "silent": False,
    }
    return BotView(**(usual | changes))


def profile(**changes: Any) -> ProfileView:
    usual: dict[str, Any] = {
        "id": "prf_1",
        "phase": "working",
        "bot": "web-1/7",
        "epoch": 1,
        "revision": 1,
        "since": NOW,
        "crashes": 0,
        "not_before": None,
        "last_bot": None,
        "want": "started",
        "version": 1,
        "priority": 0,
        "class_": "-",
    }
    return ProfileView(**(usual | changes))


def shown(view: BotView, of: ProfileView | None = None, name: str = "acme") -> Cell:
    return cell(view, fleet="default", name=name, profile=of)


def totals(**bots: int) -> Totals:
    counted = dict.fromkeys(("idle", "starting", "working", "stopping"), 0) | bots
    return Totals(counted, dict.fromkeys(("stopped", "waiting", "held", "starting", "working", "stopping"), 0))


@pytest.mark.parametrize(
    ("changes", "look", "says"),
    [
        ({}, "working", "working"),
        ({"phase": "idle", "profile": None}, "free", "free"),
        ({"phase": "starting"}, "starting", "starting"),
        ({"phase": "stopping"}, "stopping", "stopping"),
        ({"beat_age": 17.0}, "late", "working, late"),
        ({"beat_age": 99.0, "silent": True}, "silent", "working, silent"),
        ({"draining": True}, "draining", "working, draining"),
        ({"phase": "idle", "quiet": True}, "quiet", "free, takes nothing new"),
    ],
)
def test_a_bot_has_one_look_and_all_its_words(changes: dict[str, Any], look: str, says: str) -> None:
    found = shown(bot(**changes))
    assert (found.look, found.says) == (look, says)


def test_a_bot_whose_profile_crashed_lately_says_so_for_a_while() -> None:
    now = datetime.now(UTC)
    assert shown(bot(), profile(crashes=2, since=now)).says == "working, 2 crashes or early deaths lately"
    assert shown(bot(), profile(crashes=2, since=now - timedelta(hours=1))).look == "working"


def test_every_look_has_a_meaning_and_a_style() -> None:
    style = (rendering.STATIC / "rota.css").read_text(encoding="utf-8")
    assert set(MEANINGS) == set(LOOKS)
    assert all(f"\n.{look} {{" in style for look in LOOKS)


def test_a_long_name_is_cut_beside_a_bot() -> None:
    assert shown(bot(), name="x" * MOST_NAME).profile_name == "x" * MOST_NAME
    assert shown(bot(), name="x" * 200).profile_name == "x" * (MOST_NAME - 1) + "…"


def test_nothing_set_up_is_not_an_alarm() -> None:
    assert judge(totals(), [], [], Queue((), 0, (), 0)).level == "empty"
    all_well = judge(totals(idle=1), [Place("web-1", "/", None, 1, 1, "right")], [], Queue((), 0, (), 0))
    assert (all_well.level, all_well.headline) == ("well", "All is as it should be")


def test_servers_that_are_wrong_are_named_up_to_a_number() -> None:
    wrong = [Place(f"web-{number}", "/", None, 0, 1, "few") for number in range(9)]
    found = judge(totals(), wrong, [], Queue((), 0, (), 0))
    assert found.headline == "7 things need attention"
    assert found.findings[0].text == "web-0 has no bots"
    assert found.findings[-1].text == "3 more servers with too few or too many bots"


def test_what_waits_in_vain_is_told() -> None:
    old = Waiting("acme", "/", NOW - timedelta(minutes=5), None, 0)
    place = [Place("web-1", "/", None, 1, 1, "right")]
    no_bot = judge(totals(working=1), place, [], Queue((old,), 1, (), 0))
    assert no_bot.findings[0].text == "One profile waits and no bot is free"
    no_match = judge(totals(idle=1), place, [], Queue((old,), 1, (), 0))
    assert "compare their labels" in no_match.findings[0].text
    crashed = Waiting("acme", "/", NOW, NOW, 3)
    assert judge(totals(idle=1), place, [], Queue((), 0, (crashed,), 1)).findings[0].text == (
        "acme is held back after crashes or early deaths"
    )


def test_while_live_state_is_away_no_server_is_accused() -> None:
    listed = Server("srv_1", "default", "web-1", 3, {}, NOW)
    (place,) = places(None, [listed], "default")
    assert (place.balance, place.missing, place.is_wrong) == ("unknown", 0, False)


@pytest.mark.parametrize(
    ("numbers", "fair"), [([100] * 6, 200), ([500] * 6, 133), ([10, 2_000], 200), ([1] * 5_000, 1), ([], 200)]
)
def test_bots_are_shared_out_so_that_the_page_stays_small(numbers: list[int], fair: int) -> None:
    assert share(numbers, 800, 200) == fair


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0 s"), (59.9, "59 s"), (60, "1 min"), (3_599, "59 min"), (7_200, "2 h"), (172_800, "2 d")],
)
def test_an_age_has_one_unit(seconds: float, words: str) -> None:
    assert rendering.age(seconds) == words


def test_links_keep_whatever_is_in_a_name() -> None:
    assert rendering.link("bots", "a b", "c/d?e", fleet="x&y") == "/bots/a%20b/c%2Fd%3Fe?fleet=x%26y"
    assert rendering.link("stream", view="wall", page=None) == "/stream?view=wall"


def test_numbers_are_grouped() -> None:
    assert rendering.number(1_234_567) == "1\u202f234\u202f567"


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_is_short_and_holds_neither_script_nor_style(template: Path) -> None:
    text = template.read_text(encoding="utf-8")
    assert text.count("\n") < 60
    assert "<style" not in text
    assert " style=" not in text
    assert "<script>" not in text
    assert "|safe" not in text.replace(" ", "")
    assert 'method="post"' not in text or "form_token" in text or template.name == "sign_in.html"
