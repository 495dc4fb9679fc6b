"""Heartbeats that are held until there is something new for their bots (long poll), so that an order acts at once.

Each worker follows the event streams of its fleets and lets a bot beat once more when an event concerns it; what comes
of that is its answer. When profiles wait, as many idle bots with their labels are tried as there are profiles, and more
only where they do not get them. A hold changes nothing in live state: the bot's deadline counts from the beat.

A hold begins with the store's word that there is nothing new for this token; before it a heartbeat is only asked for.
Nothing but an answer of the store is ever told as one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from weakref import WeakSet

import structlog

from rota.errors import RotaError, UnavailableError
from rota.live import events, snapshot
from rota.live.beats import Answer, Beats, Tell
from rota.live.entries import repeated_entry, required_labels
from rota.live.events import Event
from rota.live.scripts import Live
from rota.web.held import Group, Held, Reserve
from rota.web.tokens import TokenOwner

CONCERNS = frozenset(["stopping", "reconfigured", "draining", "undrained", "replaced", "killed", "died", "left"])
"""Events after which the bot that they name is to be told something else."""
TRIED_AT_ONCE = 64
"""Profiles for which idle bots are looked for in one go, each for one."""
MOST_TRIED = 1024
"""Idle bots that get nothing although their labels fit: most likely nothing is given out at the moment."""
WAITS = "waiting"
"""The phase of a profile that a bot may get, and the event that tells of it."""
ENDS_WITHIN = 3.0
LAST_ANSWERS = 1.0
"""Seconds that the store has, once holding ends, for the heartbeats that it has not answered yet."""
PAUSE = 1.0
"""Seconds until the next try after the live store was away."""

log = structlog.get_logger(__name__)
_open: WeakSet[Waiting] = WeakSet()


def end_waits() -> None:
    """Answers all held heartbeats of this process, and holds none any more."""
    for each in tuple(_open):
        each.end()


class _Fleet:
    """The held heartbeats of one fleet, by bot; those of idle bots by labels, too."""

    def __init__(self) -> None:
        self.asked: dict[str, list[Held]] = {}
        """Bot → those whose first answer is not there yet, of whatever token: whose they are, only the store knows."""
        self.held: Group = {}
        self.idle = Reserve()
        self.position = ""
        """Id of the last event that was seen; empty before the first look."""
        self.wanted: dict[str, None] = {}
        """Profiles that have begun to wait and for which no idle bot was found yet."""
        self.begun = 0
        """How often profiles were seen to begin to wait."""
        self.matching: asyncio.Task[None] | None = None


class Waiting:
    """All held heartbeats of one worker."""

    def __init__(self, live: Live, beats: Beats) -> None:
        """Nothing happens before `start`."""
        self._live = live
        self._beats = beats
        self._fleets: dict[str, _Fleet] = {}
        self._follower: asyncio.Task[None] | None = None
        self._ended = False
        _open.add(self)

    @property
    def number(self) -> int:
        """How many heartbeats are held."""
        return sum(len(fleet.held) for fleet in self._fleets.values())

    def beat(
        self, owner: TokenOwner, entry: bytes, deadline_ms: int, tell: Tell, *, idle: bool, seconds: float
    ) -> Held:
        """Beats, and where there is nothing new waits at most `seconds` for something; then calls `tell`, once.

        Raises:
            UnavailableError: too many beats wait for their turn; nothing was taken.
        """
        held = Held(owner, entry, deadline_ms, tell, idle=idle)
        self._beats.add(held.fleet, held.bot, entry, deadline_ms, partial(self._begin, held, seconds))
        fleet = self._fleets.setdefault(held.fleet, _Fleet())
        self._outdate(fleet, held.bot, held.digest)
        held.brief = self._ended
        held.begun = fleet.begun
        # Found here by what happens until the answer is there.
        fleet.asked.setdefault(held.bot, []).append(held)
        if (self._follower is None or self._follower.done()) and not self._ended:
            self._follower = asyncio.create_task(self._follow())
        return held

    def holds(self, fleet: str) -> bool:
        """Whether any heartbeat of this fleet is held, or may soon be."""
        known = self._fleets.get(fleet)
        return known is not None and bool(known.held or known.asked)

    def outdate(self, owner: TokenOwner) -> None:
        """Answers the bot's held heartbeat, if there is one: it has sent another, with the same token."""
        fleet = self._fleets.get(owner.fleet)
        if fleet is not None:
            held = fleet.held.get(owner.bot)
            # A token that is not the bot's own ends nothing.
            if held is not None and held.digest == owner.digest:
                self._tell(held, None)
            self._outdate(fleet, owner.bot, owner.digest)

    def hasten(self, held: Held) -> None:
        """Answers this one as soon as the store has: who sent it has sent something else and waits for that."""
        if held.timer is not None:
            self._tell(held, None)
        else:
            held.brief = True

    def forget(self, held: Held) -> None:
        """The bot hung up: nobody waits for the answer any more."""
        held.tell = None
        self._leave(held)

    def end(self) -> None:
        """Answers all, those that the store has not answered yet after its answer, and holds none any more."""
        self._ended = True
        for fleet in self._fleets.values():
            for held in tuple(fleet.held.values()):
                self._tell(held, None)
        if asked := self._asked():
            for held in asked:
                held.brief = True
            asyncio.get_running_loop().call_later(LAST_ANSWERS, self._give_up)

    def _give_up(self) -> None:
        for held in self._asked():
            self._tell(held, UnavailableError("This part of rota is being stopped.", retry_after=1))

    def _asked(self) -> list[Held]:
        return [held for fleet in self._fleets.values() for some in fleet.asked.values() for held in some]

    async def aclose(self) -> None:
        """Ends the following of events."""
        self.end()
        tasks = {self._follower, *(fleet.matching for fleet in self._fleets.values())} - {None}
        if tasks:
            # They end by themselves; a read that is cancelled would leave its connection behind.
            await asyncio.wait([task for task in tasks if task is not None], timeout=ENDS_WITHIN)

    def _outdate(self, fleet: _Fleet, bot: str, digest: bytes) -> None:
        """Those of this token that are asked for are not to be held: it has sent another."""
        for earlier in fleet.asked.get(bot, ()):
            if earlier.digest == digest:
                earlier.brief = True

    def _begin(self, held: Held, seconds: float, answer: Answer | RotaError | None) -> None:
        """Its first beat is answered; where that says nothing new, the wait begins."""
        if isinstance(answer, RotaError) or (answer is not None and answer.code == "unknown") or held.brief:
            self._tell(held, answer)
        elif held.tell is not None:
            # The token is the bot's own, as is now known.
            self._leave(held)
            self._push_aside(held)
            if answer is None:
                self._hold(held, seconds)
            else:
                self._tell(held, answer)

    def _push_aside(self, newer: Held) -> None:
        """A bot waits once: it has sent another heartbeat, or another process has its slot."""
        before = self._fleets[newer.fleet].held.get(newer.bot)
        if before is not None and before.digest == newer.digest:
            self._tell(before, None)
        elif before is not None:
            self._leave(before)
            self._beat_again(before, partial(self._tell, before))

    def _hold(self, held: Held, seconds: float) -> None:
        fleet = self._fleets[held.fleet]
        fleet.held[held.bot] = held
        if held.idle:
            fleet.idle.enter(held)
        held.timer = asyncio.get_running_loop().call_later(seconds, self._tell, held, None)
        if held.again or (held.idle and held.begun != fleet.begun):
            # Something has happened since the store was asked, which its answer need not know of.
            self._beat_again(held)

    def _leave(self, held: Held) -> None:
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None
        fleet = self._fleets[held.fleet]
        if fleet.held.get(held.bot) is held:
            del fleet.held[held.bot]
        fleet.idle.leave(held)
        asked = fleet.asked.get(held.bot)
        if asked is not None and held in asked:
            asked.remove(held)
            if not asked:
                del fleet.asked[held.bot]

    def _tell(self, held: Held, answer: Answer | RotaError | None) -> None:
        tell, held.tell = held.tell, None
        self._leave(held)
        if tell is not None:
            tell(answer)

    async def _follow(self) -> None:
        """Follows the events while anybody waits, and a while longer."""
        while not self._ended:
            try:
                await self._look()
            except RotaError as error:
                log.warning("events cannot be followed", error=str(error))
                await asyncio.sleep(PAUSE)
            except Exception:
                log.exception("events cannot be followed")
                await asyncio.sleep(PAUSE)

    async def _look(self) -> None:
        for name, fleet in tuple(self._fleets.items()):
            if not fleet.position:
                fleet.position = await events.newest(self._live, name)
                # What has happened before this look may concern whoever is held already.
                self._ask_all(fleet)
        positions = {name: fleet.position for name, fleet in self._fleets.items() if fleet.position}
        found = await events.follow(self._live, positions)
        for name, position in positions.items():
            fleet = self._fleets[name]
            if name in found:
                fleet.position = found[name][-1].id
                self._heed(name, fleet, found[name])
            elif events.place(await events.newest(self._live, name)) < events.place(position):
                # Live state was lost, and its new stream begins earlier.
                fleet.position = ""

    def _heed(self, name: str, fleet: _Fleet, found: Iterable[Event]) -> None:
        for event in found:
            if event.kind == "incarnation":
                # A new stream: everything may be otherwise.
                self._ask_all(fleet)
            elif event.kind == WAITS:
                fleet.begun += 1
                fleet.wanted[event.profile or ""] = None
            elif event.kind in CONCERNS or (event.kind == "auth" and event.reason == "replaced"):
                bot = event.bot or ""
                if bot in fleet.held:
                    self._beat_again(fleet.held[bot])
                for asked in fleet.asked.get(bot, ()):
                    asked.again = True
        if fleet.wanted and (fleet.matching is None or fleet.matching.done()):
            fleet.matching = asyncio.create_task(self._match(name, fleet))

    def _ask_all(self, fleet: _Fleet) -> None:
        for held in tuple(fleet.held.values()):
            self._beat_again(held)
        for some in fleet.asked.values():
            for asked in some:
                asked.again = True

    def _beat_again(self, held: Held, told: Tell | None = None) -> None:
        """Lets a held bot beat once more; what is new is its answer. `told` hears of it, too."""

        def hear(answer: Answer | RotaError | None) -> None:
            if isinstance(answer, Answer):
                self._tell(held, answer)
            if told is not None:
                told(answer)

        try:
            self._beats.add(held.fleet, held.bot, repeated_entry(held.entry), held.deadline_ms, hear)
        except RotaError as error:
            hear(error)

    async def _match(self, name: str, fleet: _Fleet) -> None:
        """Lets idle bots ask for the profiles that have begun to wait: as many as there are, with their labels."""
        tried: set[Held] = set()
        try:
            while fleet.wanted and len(tried) < MOST_TRIED and not self._ended:
                chosen = await self._choose(name, fleet, tried)
                await self._try(chosen)
                # Who got nothing is not asked again; the others wait no more.
                tried |= {held for held in chosen if held.tell is not None}
        except RotaError as error:
            log.warning("no bots are chosen for what waits", error=str(error))
        fleet.wanted.clear()

    async def _choose(self, name: str, fleet: _Fleet, tried: set[Held]) -> list[Held]:
        """A bot for each of the first profiles; those that no bot is left for, or that wait no more, are dropped."""
        wanted = list(islice(fleet.wanted, TRIED_AT_ONCE))
        for id_ in wanted:
            # Before anything is read: what begins to wait afterwards is noted anew.
            del fleet.wanted[id_]
        found = await snapshot.profiles(self._live, name, wanted)
        waits = {id_: required_labels(view.class_) for id_, view in found.items() if view.phase == WAITS}
        if any(waits.values()):
            await self._meet_strangers(name, fleet.idle)
        chosen: dict[Held, None] = {}
        candidates = {required: fleet.idle.suited(required) for required in waits.values()}
        for id_ in wanted:
            suited = candidates[waits[id_]] if id_ in waits else ()
            one = next((held for held in suited if held not in tried and held not in chosen), None)
            if one is not None:
                chosen[one] = None
                # The bot may be given another one, or somebody else's may have been faster: looked at once more.
                fleet.wanted[id_] = None
        return list(chosen)

    async def _meet_strangers(self, name: str, idle: Reserve) -> None:
        """Learns what labels the bots bear of which that is not known yet."""
        strangers = idle.strangers()
        for start in range(0, len(strangers), snapshot.STEP):
            part = strangers[start : start + snapshot.STEP]
            labels = await snapshot.labels(self._live, name, [held.bot for held in part])
            for held in part:
                idle.sort(held, labels.get(held.bot, {}))
        idle.forget_others()

    async def _try(self, batch: Sequence[Held]) -> None:
        """Lets these beat once more, and waits until all are answered."""
        if not batch:
            return
        done, left = asyncio.Event(), len(batch)

        def told(_: Answer | RotaError | None) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set()

        for held in batch:
            self._beat_again(held, told)
        await done.wait()
