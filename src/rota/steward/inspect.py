"""Duty `inspect`, on demand: what is not as it should be in a fleet. Behind `rota check` and the REST check."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite

from rota.ledger import drains, fleets, incidents, profiles, servers
from rota.ledger.connection import Ledger
from rota.ledger.fleets import Fleet
from rota.ledger.incidents import Incident
from rota.ledger.servers import Server
from rota.live import audit, snapshot
from rota.live.clock import now_ms
from rota.live.entries import moment
from rota.live.scripts import Live

MOST_FINDINGS = 200
WAITING_TOO_LONG = 2.0
"""Waiting for more than this many ttl is too long."""
WAITING_LOOKED_AT = 1000
REAPED_WITHIN = 2.0
"""Seconds after its deadline within which the steward removes a bot; only then is something wrong."""
PULSE_TOO_OLD = 10.0
"""Seconds without a pulse of a web worker after which nobody hears."""
STEWARD_TOO_OLD = 10.0
"""Seconds without a round of a steward, who makes two a second, after which none is at work."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its kind, what it concerns, and a sentence for people."""

    kind: str
    subject: str
    message: str


async def inspect(ledger: Ledger, live: Live, fleet: str) -> list[Finding]:
    """At most 200 findings; an empty list means that all is well.

    Raises:
        NotFoundError: there is no such fleet.
        UnavailableError: a store is away.
    """
    async with ledger.begin() as tx:
        policy = await fleets.get(tx, fleet)
        listed = await servers.all_of(tx, fleet)
        drained = {drain.subject for drain in await drains.all_of(tx, fleet)}
        reported = await incidents.open_of(tx, fleet)
    actual = await snapshot.servers(live, fleet)
    found = [
        *await _live_state(live, policy),
        *_incidents(reported),
        *await _broken(live, fleet),
        *await _dead_bots(live, policy),
        *_bot_numbers(listed, actual, drained),
        *await _waiting(ledger, live, policy),
    ]
    return found[:MOST_FINDINGS]


def expected_servers(listed: Sequence[Server], actual: Mapping[str, int]) -> dict[str, int | None]:
    """Hostname → bots that it should run, for listed hosts and for hosts with bots, which patterns may cover.

    None: nothing lists the host any more.
    """
    expected: dict[str, int | None] = {
        server.hostname: server.expected_bots for server in listed if not server.is_pattern
    }
    patterns = sorted((server for server in listed if server.is_pattern), key=lambda server: -len(server.hostname))
    for host in actual:
        if host not in expected:
            fitting = (server.expected_bots for server in patterns if server.matches(host))
            expected[host] = next(fitting, None)
    return {host: expected[host] for host in sorted(expected, key=snapshot.natural)}


async def _live_state(live: Live, policy: Fleet) -> list[Finding]:
    state = await audit.pulse(live, policy.name)
    if not state.built:
        return [Finding("not_built", policy.name, "live state is not built from the ledger: is the steward running?")]
    found = []
    if state.pulse_age > PULSE_TOO_OLD:
        message = f"no web worker has been heard for {_spell(state.pulse_age)}: nobody is declared dead meanwhile"
        found.append(Finding("deaf", policy.name, message))
    if state.steward_age > STEWARD_TOO_OLD:
        message = (
            f"no steward has been at work {_for(state.steward_age)}: nobody is declared dead, held profiles stay held, "
            "wishes that were not applied at once wait, and nothing is written into history; does its process run, and "
            "what does its log say?"
        )
        found.append(Finding("no_steward", policy.name, message))
    if state.quiet:
        until = datetime.now(UTC) + timedelta(seconds=state.quiet_left)
        message = (
            "live state was lost, its store was restarted or its clock was set: until "
            f"{until:%H:%M:%S} UTC ({state.quiet_left:.0f} s) nothing is given away, so that nobody's work is given to "
            "a second bot; bots at work go on, and come back by themselves"
        )
        found.append(Finding("quiet", policy.name, message))
    return found


def _for(seconds: float) -> str:
    return f"for {_spell(seconds)}" if isfinite(seconds) else "yet"


def _incidents(reported: Sequence[Incident]) -> Iterable[Finding]:
    for one in reported:
        since = f"{one.raised_at:%Y-%m-%d %H:%M:%S} UTC"
        yield Finding("open_incident", one.subject, f"{one.kind} since {since}: {one.message}")


async def _dead_bots(live: Live, policy: Fleet) -> list[Finding]:
    overdue = await audit.overdue(live, policy.name, MOST_FINDINGS)
    return [
        Finding("dead_bot", bot, f"bot {bot} is silent; its deadline passed {_spell(late)} ago")
        for bot, late in overdue
        if late > REAPED_WITHIN
    ]


def _bot_numbers(listed: Sequence[Server], actual: Mapping[str, int], drained: Collection[str]) -> Iterable[Finding]:
    for host, expected in expected_servers(listed, actual).items():
        if host in drained:
            continue
        there = actual.get(host, 0)
        if expected is None:
            yield Finding("unlisted_server", host, f"server {host} runs {there} bots and is not listed")
        elif there < expected:
            yield Finding("too_few_bots", host, f"server {host} runs {there} of {expected} bots")
        elif there > expected:
            yield Finding("too_many_bots", host, f"server {host} runs {there} bots, {expected} are expected")


async def _waiting(ledger: Ledger, live: Live, policy: Fleet) -> list[Finding]:
    late: dict[str, float] = {}
    now = moment(await now_ms(live, policy.name))
    for profile in await snapshot.waiting(live, policy.name, WAITING_LOOKED_AT):
        waited = (now - profile.since).total_seconds() if now and profile.since else 0.0
        if waited > WAITING_TOO_LONG * policy.ttl and len(late) < MOST_FINDINGS:
            late[profile.id] = waited
    if not late:
        return []
    async with ledger.begin() as tx:
        names = await profiles.names(tx, list(late))
    return [
        Finding("waiting_too_long", id_, f"profile {_named(id_, names)} has waited for {_spell(waited)}")
        for id_, waited in late.items()
    ]


def _named(id_: str, names: Mapping[str, str]) -> str:
    return f"{names[id_]} ({id_})" if id_ in names else id_


def _spell(seconds: float) -> str:
    """A duration in the largest unit of which there are at least two: `90 s`, `12 min`, `3 h`, `4 d`."""
    units = [(number, unit) for number, unit in ((86_400, "d"), (3_600, "h"), (60, "min")) if seconds >= 2 * number]
    number, unit = units[0] if units else (1, "s")
    return f"{seconds // number:.0f} {unit}"


async def _broken(live: Live, fleet: str) -> list[Finding]:
    broken = await audit.broken_invariants(live, fleet, MOST_FINDINGS)
    return [Finding("broken_invariant", item.subject, item.message) for item in broken]
