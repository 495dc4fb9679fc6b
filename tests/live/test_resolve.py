"""resolve: whose data it is, and under which epoch it is taken."""

from __future__ import annotations

import pytest

from rota.errors import InvalidRequestError, SupersededError, UnknownBotError
from rota.live.bots import Claim, Unproven, resolve
from tests.live.conftest import build
from tests.live.driver import TTL, Driver


async def test_data_belongs_to_the_current_assignment_by_default(driver: Driver) -> None:
    work = await driver.working("s1/1")
    assert await driver.resolve("s1/1") == (work.profile, work.epoch)


async def test_the_last_flush_after_a_stop_is_taken(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.want("prf_1", "stopped")
    await driver.beat("s1/1")
    assert await driver.resolve("s1/1", work.profile, work.epoch) == (work.profile, work.epoch)


async def test_an_older_epoch_is_superseded(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.auth("s1/1")
    await driver.beat("s1/1")
    with pytest.raises(SupersededError):
        await driver.resolve("s1/1", work.profile, work.epoch)


async def test_another_bots_assignment_is_not_ones_own(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.auth("s1/2")
    with pytest.raises(SupersededError):
        await driver.resolve("s1/2", work.profile, work.epoch)


async def test_of_an_epoch_that_was_never_granted_here_the_ledger_knows(driver: Driver) -> None:
    work = await driver.working("s1/1")
    for profile, epoch in ((work.profile, work.epoch + 1), ("prf_nowhere", 1)):
        assert await driver.resolve("s1/1", profile, epoch) == Unproven(profile, epoch)


async def test_the_newest_epoch_of_a_profile_whose_owner_was_forgotten_is_known_to_the_ledger(driver: Driver) -> None:
    work = await driver.working("s1/1")
    await driver.forget_everything()
    await build(driver.live, driver.fleet)
    await driver.want(work.profile, epoch=work.epoch)
    await driver.auth("s1/1")
    assert await driver.resolve("s1/1", work.profile, work.epoch) == Unproven(work.profile, work.epoch)
    with pytest.raises(SupersededError):
        await driver.resolve("s1/1", work.profile, work.epoch - 1)


async def test_an_idle_bot_must_name_what_its_data_is_of(driver: Driver) -> None:
    await driver.auth("s1/1")
    with pytest.raises(InvalidRequestError):
        await driver.resolve("s1/1")


async def test_an_unknown_token_is_refused(driver: Driver) -> None:
    driver.digests["s1/1"] = b"x" * 16
    with pytest.raises(UnknownBotError):
        await driver.resolve("s1/1")


async def test_many_are_answered_in_their_order_and_none_for_another(driver: Driver) -> None:
    """More than one script call holds; an error of one is nobody else's."""
    work = await driver.working("s1/1")
    await driver.auth("s1/2")
    one = Claim("s1/1", driver.digests["s1/1"], None, None)
    wrong = [
        Claim("s1/1", b"\x00" * 32, None, None),
        Claim("s1/2", driver.digests["s1/2"], None, None),
        Claim("s1/2", driver.digests["s1/2"], work.profile, work.epoch),
        Claim("s1/1", driver.digests["s1/1"], None, work.epoch + 1),
    ]
    found = await resolve(driver.live, driver.fleet, [one, *wrong] * 50, ttl=TTL)
    kinds = [UnknownBotError, InvalidRequestError, SupersededError, Unproven]
    for at in range(0, len(found), 5):
        assert found[at] == (work.profile, work.epoch)
        assert [type(error) for error in found[at + 1 : at + 5]] == kinds
    assert await resolve(driver.live, driver.fleet, [], ttl=TTL) == []
