"""Makes in rota what a simulation needs, through REST alone: servers, an enrolment key, profiles.

What is already there by name is used again, so that a second run starts at once.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from rota.simulator.rest import Rest

LABELS = {"kind": "simulated"}
"""What simulated bots bear and simulated profiles require: no real bot ever gets a made-up profile."""
CONCURRENCY = 8
"""Calls under way at once."""
KEY_LASTS = timedelta(days=1)
"""How much longer than the simulation its enrolment key lasts, should nobody revoke it."""
SERVER_NAME = re.compile(r"^sim-\d+$")
PROFILE_NAME = re.compile(r"^sim-(\d{4,})$")


@dataclass(frozen=True)
class Wanted:
    """How large the simulation is to be."""

    fleet: str
    servers: int
    bots: int
    profiles: int
    seconds: float | None = None
    smallest: int | None = None
    """How many of the bots run on the last server, where it is smaller than the others."""
    interval: float | None = None
    """What the fleet's interval is set to, in seconds; its ttl to three times that."""

    def bots_of(self) -> dict[str, int]:
        """Hostname → bots, spread evenly over the servers, but for one that is to be smaller."""
        if self.smallest is not None:
            others = replace(self, bots=self.bots - self.smallest, servers=self.servers - 1, smallest=None)
            return {**others.bots_of(), f"sim-{self.servers}": self.smallest}
        each, more = divmod(self.bots, self.servers)
        return {f"sim-{number}": each + (number <= more) for number in range(1, self.servers + 1)}


@dataclass(frozen=True)
class Prepared:
    """What the bots need to know. Durations are seconds."""

    enrolment_key: str
    enrolment_key_id: str
    interval: float
    ttl: float


async def prepare(rest: Rest, wanted: Wanted, report: Callable[[str, int, int], None]) -> Prepared:
    """Makes what is missing; `report` hears of what is made, how many are done and of how many.

    Raises:
        ProblemError: rota refused, or cannot be reached.
    """
    path = f"/fleets/{wanted.fleet}"
    if wanted.interval is not None:
        await rest.patch(path, {"interval": wanted.interval, "ttl": 3 * wanted.interval})
    fleet = await rest.get(path)
    await prepare_servers(rest, wanted.fleet, wanted.bots_of())
    await _prepare_profiles(rest, wanted, report)
    key = await make_enrolment_key(rest, wanted.fleet, "rota simulate", wanted.seconds)
    return Prepared(key["key"], key["id"], fleet["interval"], fleet["ttl"])


async def make_enrolment_key(rest: Rest, fleet: str, label: str, seconds: float | None) -> dict[str, Any]:
    """A key that expires a day after the simulation's end; without an end, after thirty days."""
    lasts = KEY_LASTS + (timedelta(days=30) if seconds is None else timedelta(seconds=seconds))
    expires_at = (datetime.now(UTC) + lasts).isoformat()
    made: dict[str, Any] = await rest.post(
        "/enrolment-keys", {"fleet": fleet, "label": label, "expires_at": expires_at}
    )
    return made


async def prepare_servers(
    rest: Rest, fleet: str, bots_of: dict[str, int], labels: dict[str, str] | None = None
) -> None:
    """Lists each server with the number of bots that it is to run, and the labels that its bots get."""
    there = {server["hostname"]: server async for server in rest.pages("/servers", fleet=fleet)}
    for hostname, bots in bots_of.items():
        if hostname not in there:
            wish = {"hostname": hostname, "expected_bots": bots, "fleet": fleet, "labels": labels or {}}
            await rest.post("/servers", wish)
        elif there[hostname]["expected_bots"] != bots:
            await rest.patch(f"/servers/{there[hostname]['id']}", {"expected_bots": bots})
    for hostname, server in there.items():
        if SERVER_NAME.match(hostname) and hostname not in bots_of and server["expected_bots"] and not labels:
            # Of an earlier and larger simulation.
            await rest.patch(f"/servers/{server['id']}", {"expected_bots": 0})


async def _prepare_profiles(rest: Rest, wanted: Wanted, report: Callable[[str, int, int], None]) -> None:
    """Sees to it that exactly the first so many simulated profiles are started."""
    there: dict[int, dict[str, Any]] = {}
    async for profile in rest.pages("/profiles", fleet=wanted.fleet, name="sim-"):
        if match := PROFILE_NAME.match(profile["name"]):
            there[int(match[1])] = profile
    numbers = range(1, wanted.profiles + 1)
    missing = [number for number in numbers if number not in there]
    await in_parallel(
        (rest.post("/profiles", _profile(number, wanted.fleet)) for number in missing),
        lambda done: report("making profiles", done, len(missing)),
    )
    resting = [there[number]["id"] for number in numbers if number in there and not there[number]["wanted"]]
    await in_parallel(
        (rest.post(f"/profiles/{profile}/start") for profile in resting),
        lambda done: report("starting profiles", done, len(resting)),
    )
    surplus = [there[number]["id"] for number in there if number not in numbers and there[number]["wanted"]]
    await in_parallel(
        (rest.post(f"/profiles/{profile}/stop") for profile in surplus),
        lambda done: report("stopping profiles that are too many", done, len(surplus)),
    )


def _profile(number: int, fleet: str) -> dict[str, Any]:
    config = {"target": f"client-{number:04}.example", "pace": 1 + number % 5}
    name = f"sim-{number:04}"
    return {"name": name, "fleet": fleet, "labels": LABELS, "config": config, "start": True}


async def in_parallel(calls: Iterable[Coroutine[Any, Any, Any]], done: Callable[[int], None]) -> list[Any]:
    """Awaits all calls, `CONCURRENCY` at a time, and returns their results in order.

    Raises:
        Exception: the first error of any call; no further calls are begun then.
    """
    queue = iter(enumerate(calls))
    results: dict[int, Any] = {}

    async def work() -> None:
        for place, call in queue:
            results[place] = await call
            done(len(results))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(work())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [results[place] for place in sorted(results)]
