"""Bots are spread evenly over the servers, but for one server that is to be smaller."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rota.simulator.preparation import Wanted


def test_every_server_has_as_many_bots_as_the_others_or_one_more() -> None:
    assert Wanted("chaos", 3, 11, 10).bots_of() == {"sim-1": 4, "sim-2": 4, "sim-3": 3}


def test_the_last_server_may_be_smaller_than_the_others() -> None:
    assert Wanted("chaos", 3, 11, 10, smallest=2).bots_of() == {"sim-1": 5, "sim-2": 4, "sim-3": 2}


@given(st.integers(2, 9), st.integers(20, 5000), st.none() | st.integers(1, 20))
def test_no_bot_is_lost(servers: int, bots: int, smallest: int | None) -> None:
    spread = Wanted("chaos", servers, bots, 1, smallest=smallest).bots_of()
    assert (len(spread), sum(spread.values())) == (servers, bots)
