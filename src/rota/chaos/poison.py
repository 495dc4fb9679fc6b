"""Profiles that kill whoever works on them: they must not eat the fleet."""

from __future__ import annotations

import asyncio

from rota.chaos.scenario import Injected
from rota.chaos.stage import Stage

POISONOUS = 5
LASTS = 6.0
"""Times the ttl."""
POLL = 0.05


async def profiles_poisonous(stage: Stage) -> Injected:
    """Half of the bots that they kill say so, half die without a word; supervisors start others 1 to 4 s later."""
    crowd, witness = stage.crowd, stage.witness
    profiles = stage.some_profiles(POISONOUS)
    witness.restless |= set(profiles)
    crowd.most_missing = 0
    starts = crowd.around.judge.starts
    for number, profile in enumerate(profiles):
        stage.poison(profile, says_so=number % 2 == 0)
    await asyncio.sleep(LASTS * stage.options.ttl)
    stage.cure()
    starts = crowd.around.judge.starts - starts
    unmet = () if crowd.most_missing <= POISONOUS else (f"{crowd.most_missing} bots were lost at one moment",)
    if starts < POISONOUS:
        unmet = (*unmet, f"only {starts} bots began to work for a poisonous profile")
    witness.hurt_profiles(profiles)
    return Injected(len(profiles) + starts, stage.now, unmet)
