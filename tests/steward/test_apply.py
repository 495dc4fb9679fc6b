"""What clients want reaches live state, whatever dies between the commit and the apply."""

from __future__ import annotations

import pytest

from rota.errors import UnavailableError
from rota.ledger.connection import Ledger
from rota.live.scripts import Live
from rota.steward import apply as apply_module
from rota.steward.apply import apply, apply_wishes
from tests.live.driver import Driver
from tests.steward.conftest import make_profile, set_wanted


async def test_a_wish_that_a_crash_left_in_the_outbox_is_applied_once(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    profile = await make_profile(ledger, driver.fleet)
    assert await apply(ledger, live, driver.fleet) == 1
    assert (await driver.profile(profile)).phase == "waiting"
    assert await apply(ledger, live, driver.fleet) == 0


async def test_wishes_that_were_left_behind_out_of_order_end_as_the_ledger_wants(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    profile = await make_profile(ledger, driver.fleet)
    for wanted in (False, True, False):
        await set_wanted(ledger, profile, wanted=wanted)
    await apply_wishes(ledger, live, driver.fleet, [profile])
    assert (await driver.profile(profile)).phase == "stopped"
    assert await apply(ledger, live, driver.fleet) == 4
    assert (await driver.profile(profile)).phase == "stopped"


async def test_the_outbox_keeps_what_live_state_did_not_take(ledger: Ledger, live: Live, driver: Driver) -> None:
    profile = await make_profile(ledger, driver.fleet)
    nowhere = Live("redis://127.0.0.1:1", timeout=0.2)
    with pytest.raises(UnavailableError):
        await apply(ledger, nowhere, driver.fleet)
    await nowhere.aclose()
    assert await apply(ledger, live, driver.fleet) == 1
    assert (await driver.profile(profile)).phase == "waiting"


async def test_the_outbox_is_emptied_in_bounded_steps(
    ledger: Ledger, live: Live, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply_module, "STEP", 2)
    made = [await make_profile(ledger, driver.fleet, f"p{number}") for number in range(5)]
    steps = [await apply(ledger, live, driver.fleet) for _ in range(4)]
    assert steps == [2, 2, 1, 0]
    assert {(await driver.profile(profile)).phase for profile in made} == {"waiting"}


async def test_only_the_fleet_that_is_asked_for_is_applied(ledger: Ledger, live: Live, driver: Driver) -> None:
    await make_profile(ledger, "default")
    assert await apply(ledger, live, driver.fleet) == 0
