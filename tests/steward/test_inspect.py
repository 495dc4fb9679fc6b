"""`rota check` names everything that is wrong, and nothing else."""

from __future__ import annotations

import re

from rota.ledger import incidents, servers
from rota.ledger.connection import Ledger
from rota.ledger.fleets import Fleet
from rota.ledger.incidents import Sighting
from rota.live import keys
from rota.live.scripts import Live
from rota.steward.inspect import inspect
from rota.steward.rebuild import rebuild
from tests.live.driver import TTL, Driver
from tests.steward.conftest import known, make_profile


async def found(ledger: Ledger, live: Live, fleet: str) -> set[tuple[str, str]]:
    return {(finding.kind, finding.subject) for finding in await inspect(ledger, live, fleet)}


async def list_server(ledger: Ledger, fleet: str, hostname: str, bots: int) -> None:
    async with ledger.begin() as tx:
        await servers.add(tx, fleet=fleet, hostname=hostname, expected_bots=bots)


async def test_a_sound_fleet_has_no_findings(ledger: Ledger, live: Live, driver: Driver) -> None:
    await list_server(ledger, driver.fleet, "s1", 1)
    await driver.working("s1/1")
    assert await found(ledger, live, driver.fleet) == set()


async def test_servers_with_too_few_too_many_and_unlisted_ones_are_named(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    await list_server(ledger, driver.fleet, "few", 2)
    await list_server(ledger, driver.fleet, "many", 1)
    await list_server(ledger, driver.fleet, "farm-*", 1)
    for bot in ("few/1", "many/1", "many/2", "farm-7/1", "stray/1"):
        await driver.auth(bot)
    assert await found(ledger, live, driver.fleet) == {
        ("too_few_bots", "few"),
        ("too_many_bots", "many"),
        ("unlisted_server", "stray"),
    }


async def test_a_silent_bot_and_a_profile_that_waits_too_long_are_named(
    ledger: Ledger, live: Live, driver: Driver
) -> None:
    await list_server(ledger, driver.fleet, "s1", 1)
    await driver.auth("s1/1")
    await driver.want("prf_1", labels={"region": "nowhere"})
    await driver.pass_time(TTL * 2000 + 3000)
    assert await found(ledger, live, driver.fleet) == {("dead_bot", "s1/1"), ("waiting_too_long", "prf_1")}


async def test_a_profile_that_waits_too_long_is_told_with_its_name_and_for_how_long(
    ledger: Ledger, live: Live, policy: Fleet, driver: Driver
) -> None:
    profile = await make_profile(ledger, policy.name, "acme")
    await driver.want(profile)
    for passed, told in ((200_000, "3 min"), (7_500_000, "2 h"), (170_000_000, "2 d")):
        await driver.pass_time(passed)
        (finding,) = await inspect(ledger, live, driver.fleet)
        assert finding.message == f"profile acme ({profile}) has waited for {told}"


async def test_an_incident_that_is_not_over_is_named(ledger: Ledger, live: Live, driver: Driver) -> None:
    for seen in ([Sighting("s1/1", "several processes", {})], []):
        async with ledger.begin() as tx:
            await incidents.observe(tx, driver.fleet, "contested_slot", seen)
        expected = {("open_incident", one.subject) for one in seen}
        assert await found(ledger, live, driver.fleet) == expected


async def test_live_state_that_was_never_built_is_named(ledger: Ledger, live: Live, policy: Fleet) -> None:
    assert await found(ledger, live, policy.name) == {("not_built", policy.name)}


async def test_a_rota_that_hears_nobody_is_named(ledger: Ledger, live: Live, driver: Driver) -> None:
    await driver.pass_time(20_000, hearing=False)
    assert await found(ledger, live, driver.fleet) == {("deaf", driver.fleet)}


async def test_a_fleet_without_a_steward_is_named_until_one_is_at_work(
    ledger: Ledger, live: Live, policy: Fleet, driver: Driver
) -> None:
    await driver.pass_time(20_000, leading=False)
    (finding,) = await inspect(ledger, live, driver.fleet)
    assert (finding.kind, finding.subject) == ("no_steward", driver.fleet)
    assert "no steward has been at work for 2" in finding.message
    await live.read(("HDEL", keys.pulse(driver.fleet), "led"))
    (finding,) = await inspect(ledger, live, driver.fleet)
    assert "no steward has been at work yet: " in finding.message
    await rebuild(ledger, live, await known(ledger, policy.name))
    assert await inspect(ledger, live, driver.fleet) == []


async def test_a_fleet_in_which_nothing_is_given_away_yet_is_named_until_it_is(
    ledger: Ledger, live: Live, policy: Fleet, driver: Driver
) -> None:
    await driver.forget_everything()
    await rebuild(ledger, live, await known(ledger, policy.name))
    await driver.pulse()
    lost = ("open_incident", driver.fleet)
    quiet, *others = await inspect(ledger, live, driver.fleet)
    assert (quiet.kind, quiet.subject) == ("quiet", driver.fleet)
    assert re.search(r"until \d\d:\d\d:\d\d UTC \(\d+ s\) nothing is given away", quiet.message)
    assert [(one.kind, one.subject) for one in others] == [lost]
    await driver.pass_time(TTL * 1100 + 1)
    assert await found(ledger, live, driver.fleet) == {lost}


async def test_broken_live_state_is_named(ledger: Ledger, live: Live, driver: Driver) -> None:
    await list_server(ledger, driver.fleet, "s1", 1)
    work = await driver.working("s1/1")
    await live.read(("HDEL", keys.profiles(driver.fleet), work.profile))
    kinds = {kind for kind, _ in await found(ledger, live, driver.fleet)}
    assert kinds == {"broken_invariant"}
