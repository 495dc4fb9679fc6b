"""Incidents: one for a crowd that falls silent, one for each contested slot, and none for an ordinary death."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from rota.errors import SlotContestedError
from rota.ledger import incidents
from rota.ledger.connection import Ledger
from rota.ledger.fleets import Fleet
from rota.ledger.history import Deaths
from rota.ledger.incidents import Incident
from rota.ledger.tables import events
from rota.live.scripts import Live
from rota.steward.observe import mass_silence, observe
from rota.steward.reap import reap
from rota.steward.record import record
from tests.live.driver import Driver


async def seen(ledger: Ledger, live: Live, policy: Fleet) -> list[Incident]:
    while await record(ledger, live, policy.name):
        pass
    await observe(ledger, live, policy)
    async with ledger.begin() as tx:
        return (await incidents.page(tx, policy.name)).items


async def silence(driver: Driver, dying: list[str], living: list[str]) -> None:
    """Those that live have beaten when the others are found dead."""
    for slot in (*dying, *living):
        await driver.auth(slot)
    await driver.pass_time(60_000)
    for slot in living:
        await driver.beat(slot)
    await driver.pass_time(40_000)
    assert await reap(driver.live, driver.fleet) == len(dying)


async def test_a_crowds_death_is_one_incident_with_its_servers(
    ledger: Ledger, live: Live, driver: Driver, policy: Fleet
) -> None:
    dying = [f"s{server}/{number}" for server in (1, 2) for number in range(4 * server)]
    await silence(driver, dying, [f"s3/{number}" for number in range(18)])
    for _ in range(2):
        (incident,) = await seen(ledger, live, policy)
        assert (incident.kind, incident.subject, incident.closed_at) == ("mass_silence", policy.name, None)
        assert incident.detail.pop("last")
        assert incident.detail == {"bots": 12, "of": 30, "servers": {"s2": 8, "s1": 4}}
        assert incident.message == "12 of 30 bots fell silent at once, on 2 servers: s2 (8), s1 (4)"


async def test_deaths_of_an_incident_that_is_over_raise_none_again_when_the_lease_is_made_longer(
    ledger: Ledger, live: Live, driver: Driver, policy: Fleet
) -> None:
    await silence(driver, [f"s1/{number}" for number in range(12)], [f"s3/{number}" for number in range(18)])
    (incident,) = await seen(ledger, live, policy)
    assert incident.closed_at is None
    async with ledger.begin() as tx:
        await tx.execute(update(events).values(at=events.c.at - timedelta(seconds=50)))
    # The worst is told as long as it lasts, and when the last one died.
    (incident,) = await seen(ledger, live, policy)
    longer, shorter = (replace(policy, ttl=ttl) for ttl in (4 * policy.ttl, 30))
    (incident,) = await seen(ledger, live, shorter)
    assert incident.closed_at is not None
    (incident,) = await seen(ledger, live, longer)
    assert incident.closed_at is not None
    await silence(driver, [f"s2/{number}" for number in range(12)], [f"s3/{number}" for number in range(18)])
    newer, _ = await seen(ledger, live, longer)
    assert (newer.closed_at, newer.detail["servers"]) == (None, {"s2": 12})


async def test_ordinary_deaths_are_no_incident(ledger: Ledger, live: Live, driver: Driver, policy: Fleet) -> None:
    await silence(driver, [f"s1/{number}" for number in range(9)], [f"s3/{number}" for number in range(5)])
    assert await seen(ledger, live, policy) == []


def test_a_small_part_of_a_large_fleet_is_no_crowd() -> None:
    assert mass_silence("f", Deaths({"s1": 199}, None), 801, None) is None
    assert mass_silence("f", Deaths({"s1": 200}, None), 800, None) is not None


def test_while_it_lasts_the_worst_is_told() -> None:
    now = datetime.now(UTC)
    worst = Incident(1, "f", "mass_silence", "f", "the worst", {"bots": 50}, now, now, None)
    kept = mass_silence("f", Deaths({"s1": 40}, None), 60, worst)
    assert kept is not None
    assert kept.message == "the worst"
    worse = mass_silence("f", Deaths({"s1": 60}, None), 60, worst)
    assert worse is not None
    assert worse.detail["bots"] == 60


def test_many_servers_are_counted_and_some_are_named() -> None:
    found = mass_silence("f", Deaths({f"s{number}": 10 for number in range(80)}, None), 0, None)
    assert found is not None
    assert found.message.endswith("and 75 more")
    assert len(found.detail["servers"]) == 50


async def test_a_contested_slot_is_an_incident_until_nobody_asks_for_it_any_more(
    ledger: Ledger, live: Live, driver: Driver, policy: Fleet
) -> None:
    for _ in range(4):
        await driver.auth("s1/1")
        await driver.pass_time(5)
        await driver.beat("s1/1")
    for _ in range(2):
        with pytest.raises(SlotContestedError):
            await driver.auth("s1/1")
        (incident,) = await seen(ledger, live, policy)
        assert (incident.kind, incident.subject, incident.closed_at) == ("contested_slot", "s1/1", None)
    await driver.leave("s1/1")
    (incident,) = await seen(ledger, live, policy)
    assert incident.closed_at is not None
