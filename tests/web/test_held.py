"""Held heartbeats of idle bots, chosen by the labels that their bots bear."""

from __future__ import annotations

import pytest

from rota.live.entries import DIGEST_BYTES, idle_entry
from rota.web.held import Held, Reserve
from rota.web.tokens import TokenOwner

SITE = frozenset([("kind", "site")])


def beat(bot: str, token: int = 0) -> Held:
    owner = TokenOwner("default", bot, token.to_bytes(DIGEST_BYTES))
    return Held(owner, idle_entry(owner.digest, accepting=True, status=""), 1000, lambda _: None, idle=True)


def bots(found: Reserve, required: frozenset[tuple[str, str]]) -> list[str]:
    return [held.bot for held in found.suited(required)]


def test_strangers_are_chosen_where_no_labels_are_required_and_else_once_theirs_are_known() -> None:
    reserve, first, second = Reserve(), beat("s/1"), beat("s/2")
    reserve.enter(first)
    reserve.enter(second)
    assert (bots(reserve, frozenset()), bots(reserve, SITE)) == (["s/1", "s/2"], [])
    reserve.sort(first, {"kind": "site", "region": "eu"})
    assert (reserve.strangers(), bots(reserve, SITE)) == ([second], ["s/1"])
    reserve.sort(second, {"kind": "site"})
    assert bots(reserve, SITE) == bots(reserve, frozenset()) == ["s/2", "s/1"], "who bears fewer labels comes first"


def test_labels_are_known_for_as_long_as_the_bot_keeps_its_token() -> None:
    reserve, first = Reserve(), beat("s/1")
    reserve.enter(first)
    reserve.sort(first, {"kind": "site"})
    reserve.leave(first)
    assert bots(reserve, frozenset()) == []
    again, renewed = beat("s/1"), beat("s/1", token=1)
    reserve.enter(again)
    assert bots(reserve, SITE) == ["s/1"]
    reserve.leave(again)
    reserve.enter(renewed)
    assert (reserve.strangers(), bots(reserve, SITE)) == ([renewed], [])


def test_who_left_before_its_labels_were_read_is_not_there_again() -> None:
    reserve, first = Reserve(), beat("s/1")
    reserve.enter(first)
    reserve.leave(first)
    reserve.sort(first, {"kind": "site"})
    assert bots(reserve, frozenset()) == []


def test_a_newer_heartbeat_of_a_bot_stays_when_the_older_one_leaves() -> None:
    reserve, older, newer = Reserve(), beat("s/1"), beat("s/1")
    reserve.enter(older)
    reserve.enter(newer)
    reserve.leave(older)
    assert reserve.strangers() == [newer]


def test_labels_of_bots_that_do_not_wait_are_forgotten_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota.web.held.FORGOTTEN_FROM", 3)
    reserve = Reserve()
    waiting, *gone = (beat(f"s/{number}") for number in range(6))
    for each in (waiting, *gone):
        reserve.enter(each)
        reserve.sort(each, {"kind": "site"} if each is waiting else {})
    for each in gone[:4]:
        reserve.leave(each)
    reserve.forget_others()
    reserve.enter(gone[0])
    assert reserve.strangers() == [], "they are no more than a few"
    for each in gone:
        reserve.leave(each)
    reserve.forget_others()
    reserve.enter(gone[0])
    assert (reserve.strangers(), bots(reserve, SITE)) == ([gone[0]], ["s/0"])
