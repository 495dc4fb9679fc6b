"""Orders of clients that are written down and not carried out, because rota dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rota.chaos.links import NONE
from rota.chaos.scenario import Injected
from rota.chaos.stage import POLL, Stage
from rota.simulator.rest import Rest

PROFILES = 20
COMMITTED = 0.5
"""Seconds in which a ledger on the same machine commits, and within which the live store is still waited for."""
OBEYED_WITHIN = 5.0
STOPS_WITHIN = 15.0


async def orders_cut_short(stage: Stage) -> Injected:
    """Twice, and the second time the other way round for half of the profiles: what counts is what was written last."""
    profiles = stage.some_profiles(PROFILES)
    half, quarter = len(profiles) // 2, len(profiles) // 4
    working, resting = profiles[:half], profiles[half:]
    stage.witness.restless |= set(profiles)
    await stage.order("stop", resting)
    await _until_obeyed(stage, dict.fromkeys(resting, False), STOPS_WITHIN + stage.options.ttl)
    link = stage.installation.stores.valkey
    link.cut()
    await _cut_short(stage, stops=working, starts=resting)
    await _cut_short(stage, stops=resting[:quarter], starts=working[:quarter])
    link.cut(NONE)
    mended = stage.now
    wanted = await _written(stage, profiles)
    unmet = await _until_obeyed(stage, wanted, OBEYED_WITHIN + stage.beat_beyond(OBEYED_WITHIN / 2), since=mended)
    expected = dict.fromkeys((*working[:quarter], *resting[quarter:]), True)
    if {profile for profile, on in wanted.items() if on} != set(expected):
        unmet = (*unmet, "not every order was written down before rota died")
    await stage.order("start", profiles)
    return Injected(2 * len(stage.installation.web) + half + half + 2 * quarter, stage.now, unmet)


async def _cut_short(stage: Stage, *, stops: Sequence[str], starts: Sequence[str]) -> None:
    """Gives orders whose application hangs, kills the web workers, and starts them again."""
    there = stage.installation
    async with Rest(there.url, stage.key, connections=len(stops) + len(starts), timeout=COMMITTED * 4) as rest:
        paths = [f"/profiles/{profile}/stop" for profile in stops]
        paths += [f"/profiles/{profile}/start" for profile in starts]
        calls = [asyncio.create_task(rest.post(path)) for path in paths]
        await asyncio.sleep(COMMITTED)
        for member in there.web:
            await member.kill()
        await asyncio.gather(*calls, return_exceptions=True)
    # What the dead had said to the store is not delivered late: it died with them.
    await there.stores.valkey.lose()
    for member in there.web:
        await member.start()
    for member in there.web:
        await there.until_serving(member)


async def _written(stage: Stage, profiles: Sequence[str]) -> dict[str, bool]:
    """Which profiles the ledger wants to be worked on."""
    items = {item["id"]: item["wanted"] async for item in stage.rest.pages("/profiles", fleet=stage.fleet)}
    return {profile: items[profile] for profile in profiles}


async def _until_obeyed(
    stage: Stage, wanted: dict[str, bool], within: float, since: float | None = None
) -> tuple[str, ...]:
    """Waits until bots do what is wanted, and tells for which profiles they do not in time."""
    deadline = (stage.now if since is None else since) + within
    while True:
        wrong = [profile for profile, on in wanted.items() if bool(stage.witness.working(profile)) != on]
        if not wrong:
            return ()
        if stage.now > deadline:
            return tuple(
                f"{profile} is {'not ' if wanted[profile] else ''}worked on {within:.1f} s later" for profile in wrong
            )
        await asyncio.sleep(POLL)
