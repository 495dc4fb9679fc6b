"""Duty `compare`: does live state hold just what the ledger wants, and history just who works for whom?

Every wish reaches live state through the outbox, and every move history through the event stream; this looks at all of
it once more, whatever may have gone wrong, and mends what differs. Goes in bounded steps: the ledger's profiles, then
live state's, then the assignments that have not ended, then the roster. What is merely on its way is no difference:
each one is looked at again while it cannot change. Whoever asks for a step, what it mended is logged and raised as an
incident.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from rota.errors import InvalidRequestError
from rota.ledger import fleets, history, incidents
from rota.ledger import profiles as ledger_profiles
from rota.ledger.connection import Ledger
from rota.ledger.history import Binding
from rota.ledger.incidents import Changed, Sighting
from rota.ledger.profiles import Wish
from rota.live import audit, bots, events, snapshot
from rota.live import profiles as live_profiles
from rota.live.entries import ProfileView, class_of
from rota.live.scripts import Live
from rota.steward.apply import as_want
from rota.steward.observe import tell

STEP = 500
"""Profiles or assignments compared in one step."""
RECORDED_WITHIN = 3.0
"""Seconds that history may be behind live state, and longer than which nothing waits for it."""
POLL = 0.1
BEHIND = "history is behind live state, so that not every assignment could be compared: does the steward record?"
QUIET = "live state lost something, and for one lease whoever is missing may still come back"
LIVE_DIFFERS = "live_differs"
"""The kind of the incident that tells what was mended."""
DIFFERENCES_TOLD = 50
"""So many of them stand in the incident's figures."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Difference:
    """One thing that differed, and was mended: which profile, and a sentence for people."""

    subject: str
    message: str


@dataclass(frozen=True)
class Compared:
    """One step: how many were looked at, what differed, and `after` of the next step (None at the end).

    `skipped` tells in a sentence why part of it could not be compared; another comparison, later, can.
    """

    count: int
    differences: list[Difference] = field(default_factory=list)
    next: str | None = None
    skipped: str | None = None


async def compare(ledger: Ledger, live: Live, fleet: str, after: str = "") -> Compared:
    """One step, the first of all without `after`; what differs is mended, logged and raised as an incident.

    Raises:
        InvalidRequestError: `after` is not the `next` of a step before.
        NotFoundError: there is no such fleet.
        UnavailableError: a store is away.
    """
    step = await _step(ledger, live, fleet, after)
    if step.differences:
        await _report(ledger, fleet, [each.message for each in step.differences])
    return step


async def _report(ledger: Ledger, fleet: str, messages: Sequence[str]) -> None:
    for message in messages:
        log.warning("live state mended", fleet=fleet, difference=message)
    async with ledger.begin() as tx:
        known = await incidents.open_of(tx, fleet, LIVE_DIFFERS)
        number, texts = len(messages), list(messages)
        if known:
            number += known[0].detail["number"]
            texts = [*known[0].detail["differences"], *texts]
        message = f"{number} times ledger and live state or history differed, and were mended; first: {texts[0]}"
        figures = {"number": number, "differences": texts[:DIFFERENCES_TOLD]}
        await incidents.sight(tx, fleet, LIVE_DIFFERS, [Sighting(fleet, message, figures)])
    if not known:
        tell(LIVE_DIFFERS, fleet, Changed([fleet], []))


async def _step(ledger: Ledger, live: Live, fleet: str, after: str) -> Compared:
    part, _, position = (after or "wishes:").partition(":")
    if not (await audit.pulse(live, fleet)).built:
        async with ledger.begin() as tx:
            await fleets.get(tx, fleet)
        return Compared(0, skipped="live state is not built from the ledger yet: is the steward running?")
    if part == "wishes":
        return await _wishes(ledger, live, fleet, position)
    if part == "live" and position.isdecimal():
        return await _strangers(ledger, live, fleet, position)
    if part == "history":
        return await _history(ledger, live, fleet, position)
    if part == "bots" and position.isdecimal():
        return await _torn(live, fleet, int(position))
    raise InvalidRequestError("`after` must be the `next` of the step before.")


async def _wishes(ledger: Ledger, live: Live, fleet: str, position: str) -> Compared:
    """Live state holds every wish, and history everybody who works."""
    async with ledger.begin() as tx:
        await fleets.get(tx, fleet)
        page = await ledger_profiles.all_wishes(tx, fleet, after=position or None, limit=STEP)
    views = await snapshot.profiles(live, fleet, [wish.profile for wish in page.items])
    torn = await audit.torn_from(live, fleet, views.values())
    found = await _part(live, fleet, torn, "it was bound to {bot}, and {bot} not to it")
    differing = [wish.profile for wish in page.items if difference(wish, views.get(wish.profile))]
    found += await _apply_anew(ledger, live, fleet, differing) if differing else []
    begun, skipped = await _begin_unrecorded(ledger, live, fleet, views.values())
    return Compared(len(page.items), found + begun, f"wishes:{page.next}" if page.next else "live:0", skipped)


def difference(wish: Wish, view: ProfileView | None) -> str | None:
    """What live state has otherwise than the ledger wants it, in words, or None."""
    if view is None:
        return "live state does not know it"
    pairs = {
        "version": (view.version, wish.version),
        "wish": (view.want, wish.want),
        "revision": (view.revision, wish.revision),
        "priority": (view.priority, wish.priority),
        "labels": (view.class_, class_of(wish.labels)),
    }
    wrong = [f"{name} {here} instead of {there}" for name, (here, there) in pairs.items() if here != there]
    if view.epoch < wish.epoch:
        wrong.append(f"epoch {view.epoch}, although {wish.epoch} was handed out")
    return ", ".join(wrong) or None


async def _apply_anew(ledger: Ledger, live: Live, fleet: str, profile_ids: Sequence[str]) -> list[Difference]:
    async with ledger.begin() as tx:
        # The ledger first, and held: an epoch is granted in live state before the ledger hears of it.
        wishes = await ledger_profiles.settled_wishes(tx, profile_ids)
        views = await snapshot.profiles(live, fleet, profile_ids)
        wrong = [(wish, text) for wish in wishes if (text := difference(wish, views.get(wish.profile)))]
        await live_profiles.want(live, fleet, [as_want(wish) for wish, _ in wrong], anew=True)
    return [Difference(wish.profile, f"{wish.profile}: {text}") for wish, text in wrong]


async def _strangers(ledger: Ledger, live: Live, fleet: str, position: str) -> Compared:
    """Live state holds no profile that the ledger has never heard of, as after one was restored from a backup."""
    found, cursor = await snapshot.scan_profiles(live, fleet, int(position))
    async with ledger.begin() as tx:
        strange = set(await ledger_profiles.unknown(tx, [view.id for view in found]))
    unwanted = [view for view in found if view.id in strange and view.want != "deleted"]
    wants = [
        live_profiles.Want(
            profile=view.id,
            version=view.version,
            want="deleted",
            revision=view.revision,
            priority=view.priority,
            labels={},
            epoch=view.epoch,
        )
        for view in unwanted
    ]
    await live_profiles.want(live, fleet, wants, anew=True)
    text = "the ledger does not know it; nobody is to work for it"
    differences = [Difference(view.id, f"{view.id}: {text}") for view in unwanted]
    return Compared(len(found), differences, f"live:{cursor}" if cursor else "history:")


async def _history(ledger: Ledger, live: Live, fleet: str, position: str) -> Compared:
    """No assignment is open under which nobody works."""
    async with ledger.begin() as tx:
        rows = await history.open_bindings(tx, fleet, after=position, limit=STEP)
    whole = len(rows) == STEP
    found, skipped = await _end_unrecorded(ledger, live, fleet, rows)
    return Compared(len(rows), found, f"history:{rows[-1].profile}" if whole else "bots:0", skipped)


async def _torn(live: Live, fleet: str, cursor: int) -> Compared:
    """No bot names a profile that does not name it in the same way."""
    count, torn, cursor = await audit.torn(live, fleet, cursor)
    found = await _part(live, fleet, torn, "{bot} was bound to it, and it not to {bot}")
    return Compared(count, found, f"bots:{cursor}" if cursor else None)


async def _part(live: Live, fleet: str, torn: Sequence[tuple[str, str]], text: str) -> list[Difference]:
    """Parts those bots and profiles that do not name each other in the same way; `text` says what was wrong."""
    return [
        Difference(profile, f"{profile}: {text.format(bot=bot)}; they were parted")
        for bot, profile in torn
        if await bots.mend(live, fleet, bot, profile)
    ]


async def _begin_unrecorded(
    ledger: Ledger, live: Live, fleet: str, views: Iterable[ProfileView]
) -> tuple[list[Difference], str | None]:
    """What was mended, and why something was not looked at."""
    bound = _bindings(views)
    missing = await _missing(ledger, fleet, bound)
    if not missing:
        return [], None
    if not await _is_recorded(ledger, live, fleet):
        return [], BEHIND
    still = _bindings((await snapshot.profiles(live, fleet, [each.profile for each in missing])).values())
    lost = [each for each in await _missing(ledger, fleet, missing) if each in still]
    async with ledger.begin() as tx:
        await history.mend(tx, fleet, begun=lost)
    text = "history did not know that"
    return [Difference(each.profile, f"{each.profile}: {text} {each.bot} works") for each in lost], None


async def _missing(ledger: Ledger, fleet: str, bound: Sequence[Binding]) -> list[Binding]:
    """Who works without an open assignment in history."""
    async with ledger.begin() as tx:
        rows = await history.open_bindings(tx, fleet, among=[each.profile for each in bound], limit=2 * STEP)
    known = {(row.profile, row.epoch) for row in rows}
    return [each for each in bound if (each.profile, each.epoch) not in known]


async def _end_unrecorded(
    ledger: Ledger, live: Live, fleet: str, rows: Sequence[Binding]
) -> tuple[list[Difference], str | None]:
    """What was mended, and why something was not looked at."""
    over = await _over(live, fleet, rows)
    if not over:
        return [], None
    if (await audit.pulse(live, fleet)).quiet:
        return [], QUIET
    if not await _is_recorded(ledger, live, fleet):
        return [], BEHIND
    async with ledger.begin() as tx:
        again = await history.open_bindings(tx, fleet, among=[row.profile for row in over], limit=2 * STEP)
    lost = await _over(live, fleet, [row for row in again if row in over])
    async with ledger.begin() as tx:
        await history.mend(tx, fleet, ended=lost)
    text = "history did not know that"
    return [Difference(row.profile, f"{row.profile}: {text} {row.bot} has ended") for row in lost], None


async def _over(live: Live, fleet: str, rows: Sequence[Binding]) -> list[Binding]:
    """Open assignments under which nobody works."""
    views = await snapshot.profiles(live, fleet, [row.profile for row in rows])
    bound = {(each.profile, each.epoch) for each in _bindings(views.values())}
    return [row for row in rows if (row.profile, row.epoch) not in bound]


def _bindings(views: Iterable[ProfileView]) -> list[Binding]:
    return [Binding(view.id, view.epoch, view.bot, view.since or datetime.now(UTC)) for view in views if view.bot]


async def _is_recorded(ledger: Ledger, live: Live, fleet: str) -> bool:
    """Whether everything that has happened until now gets into history soon."""
    wanted = events.place(await events.newest(live, fleet))
    deadline = asyncio.get_running_loop().time() + RECORDED_WITHIN
    while True:
        async with ledger.begin() as tx:
            known = await fleets.get(tx, fleet)
        if events.place(known.recorded_to or "0") >= wanted:
            return True
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(POLL)
