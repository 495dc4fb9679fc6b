"""Empty live state is built from the ledger, and for one ttl nothing is given away that may still be owned."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func

from rota.ledger import fences, incidents, tables
from rota.ledger.connection import Ledger
from rota.ledger.fleets import Fleet
from rota.ledger.incidents import Incident
from rota.live import clock, keys
from rota.live.liveness import pulse
from rota.live.scripts import Live
from rota.protocol import Working
from rota.steward.observe import observe
from rota.steward.rebuild import rebuild
from tests.live.driver import TTL, Driver
from tests.steward.conftest import known, make_profile


async def lose_everything(live: Live, fleet: str) -> None:
    (found,) = await live.read(("KEYS", f"{{{fleet}}}:*"))
    assert found
    await live.read(("DEL", *found))


async def test_a_new_fleet_is_built_once(ledger: Ledger, live: Live, policy: Fleet) -> None:
    profile = await make_profile(ledger, policy.name)
    first = await rebuild(ledger, live, policy)
    assert first.built
    assert (await Driver(live, policy.name).profile(profile)).phase == "waiting"
    again = await rebuild(ledger, live, await known(ledger, policy.name))
    assert again.incarnation == first.incarnation


async def test_after_a_total_loss_an_owner_comes_back_and_nobody_else_gets_its_profile(
    ledger: Ledger, live: Live, policy: Fleet, driver: Driver
) -> None:
    profile = await make_profile(ledger, policy.name)
    other = await make_profile(ledger, policy.name, "other")
    await rebuild(ledger, live, policy)
    await driver.want(profile, version=9)
    await driver.auth("s1/1")
    told = await driver.beat("s1/1")
    work = Working(profile=told.profile, epoch=told.epoch, revision=told.revision)
    await lose_everything(live, policy.name)
    built = await rebuild(ledger, live, await known(ledger, policy.name))
    assert built.quiet_until is not None
    await pulse(live, policy.name, "web", ttl=TTL)
    await driver.auth("s2/1")
    assert (await driver.beat("s2/1")).code == "wait"
    restored = await driver.auth("s1/1", leased=work)
    assert restored is not None
    assert (await driver.beat("s1/1", work)).code == "continue"
    await driver.pass_time(TTL * 1100 + 1)
    assert (await driver.beat("s2/1")).profile == ({profile, other} - {work.profile}).pop()


async def test_a_loss_is_an_incident_for_some_minutes_and_the_first_building_is_none(
    ledger: Ledger, live: Live, policy: Fleet, driver: Driver
) -> None:
    assert await losses(ledger, policy.name) == []
    before = (await known(ledger, policy.name)).incarnation
    await lose_everything(live, policy.name)
    built = await rebuild(ledger, live, await known(ledger, policy.name))
    await rebuild(ledger, live, await known(ledger, policy.name))
    await observe(ledger, live, policy)
    (loss,) = await losses(ledger, policy.name)
    assert built.quiet_until is not None
    assert (loss.subject, loss.closed_at) == (policy.name, None)
    assert loss.detail == {
        "before": before,
        "incarnation": built.incarnation,
        "quiet_until": built.quiet_until.isoformat(),
    }
    async with ledger.begin() as tx:
        await tx.execute(tables.incidents.update().values(seen_at=func.now() - timedelta(minutes=5, seconds=1)))
    await observe(ledger, live, policy)
    (loss,) = await losses(ledger, policy.name)
    assert loss.closed_at is not None


async def losses(ledger: Ledger, fleet: str) -> list[Incident]:
    async with ledger.begin() as tx:
        return [one for one in (await incidents.page(tx, fleet)).items if one.kind == "live_lost"]


async def test_epochs_rise_although_the_stores_clock_is_behind_what_was_handed_out(
    ledger: Ledger, live: Live, policy: Fleet, driver: Driver
) -> None:
    profile = await make_profile(ledger, policy.name)
    handed_out = (await clock.now_ms(live, policy.name) + 3_600_000) * 1000
    async with ledger.begin() as tx:
        await fences.raise_to(tx, [(profile, int(handed_out))])
    await lose_everything(live, policy.name)
    await rebuild(ledger, live, await known(ledger, policy.name))
    await pulse(live, policy.name, "web", ttl=TTL)
    await driver.auth("s1/1")
    await driver.pass_time(TTL * 1100 + 1)
    told = await driver.beat("s1/1")
    assert told.code == "start"
    assert told.epoch == int(handed_out) + 1


async def test_a_large_ledger_is_applied_in_pages(
    ledger: Ledger, live: Live, policy: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rota.steward.rebuild.STEP", 3)
    made = {await make_profile(ledger, policy.name, f"p{number}") for number in range(7)}
    await rebuild(ledger, live, policy)
    (waiting,) = await live.read(("HKEYS", keys.profiles(policy.name)))
    assert {name.decode() for name in waiting} == made


async def test_live_state_in_an_older_form_is_lost_and_rebuilt(
    ledger: Ledger, live: Live, policy: Fleet, driver: Driver
) -> None:
    profile = await make_profile(ledger, policy.name)
    first = await rebuild(ledger, live, policy)
    await driver.want(profile, version=9)
    await driver.auth("s1/1")
    told = await driver.beat("s1/1")
    work = Working(profile=told.profile, epoch=told.epoch, revision=told.revision)
    await live.read(
        ("HDEL", keys.pulse(policy.name), "form"),
        ("HSET", keys.roster(policy.name), "s1/1", driver.digests["s1/1"] + b"x" * 16 + b"w1 old 1 1 "),
        ("HSET", keys.profiles(policy.name), profile, "s1/1 1 1 1 w 0 1 0 0 0 1 -"),
        ("SADD", keys.server(policy.name, "s1"), "s1/1"),
    )
    assert (await driver.beat("s1/1", work)).code == "unknown"
    (left,) = await live.read(("KEYS", f"{{{policy.name}}}:*"))
    # The beat notes its lease, as in an empty live state.
    assert sorted(left) == [keys.events(policy.name).encode(), keys.pulse(policy.name).encode()]
    built = await rebuild(ledger, live, await known(ledger, policy.name))
    assert built.incarnation != first.incarnation
    assert built.quiet_until is not None
    await pulse(live, policy.name, "web", ttl=TTL)
    assert await driver.auth("s1/1", leased=work) is not None
    assert (await driver.beat("s1/1", work)).code == "continue"
