"""Heartbeats that are held until there is something new for their bots (long poll), so that an order acts at once.

Each worker follows the event streams of its fleets and lets a bot beat once more when an event concerns it; what comes
of that is its answer. When a profile waits, as many idle bots are tried as there are profiles, and more only where they
do not get them. A hold changes nothing in live state: the bot's deadline counts from the beat.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from weakref import WeakSet

import structlog

from rota.errors import RotaError
from rota.live import events
from rota.live.beats import Answer, Beats, Tell
from rota.live.entries import repeated_entry
from rota.live.events import Event
from rota.live.scripts import Live
from rota.live.snapshot import waiting_count
from rota.web.tokens import TokenOwner

CONCERNS = frozenset(["stopping", "reconfigured", "draining", "undrained", "replaced", "killed", "died", "left"])
"""Events after which the bot that they name is to be told something else."""
TRIED_AT_ONCE = 64
MOST_TRIED = 1024
"""Idle bots that are tried for waiting profiles that no bot gets: most likely none bears their labels."""
ENDS_WITHIN = 3.0
PAUSE = 1.0
"""Seconds until the next try after the live store was away."""

log = structlog.get_logger(__name__)
_open: WeakSet[Waiting] = WeakSet()


def end_waits() -> None:
    """Answers all held heartbeats of this process, and holds none any more."""
    for each in tuple(_open):
        each.end()


class Held:
    """One heartbeat that waits: whose it is, what it says, and who is called with its answer."""

    __slots__ = ("bot", "deadline_ms", "entry", "fleet", "tell", "timer")

    def __init__(self, owner: TokenOwner, entry: bytes, deadline_ms: int, tell: Tell) -> None:
        self.fleet = owner.fleet
        self.bot = owner.bot
        self.entry = entry
        self.deadline_ms = deadline_ms
        self.tell: Tell | None = tell
        """None once it was called."""
        self.timer: asyncio.TimerHandle | None = None


class _Fleet:
    """The held heartbeats of one fleet, by bot; those of idle bots in the order of their coming."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.idle: dict[str, Held] = {}
        self.position = ""
        """Id of the last event that was seen; empty before the first look."""
        self.wanted = 0
        """Profiles that have begun to wait and for which no idle bot was found yet."""
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
        held = Held(owner, entry, deadline_ms, tell)
        self._enter(held, idle=idle)
        try:
            # Entered before it beats: what happens in between finds it here.
            self._beats.add(held.fleet, held.bot, entry, deadline_ms, partial(self._begin, held, seconds))
        except RotaError:
            self.forget(held)
            raise
        return held

    def forget(self, held: Held) -> None:
        """The bot hung up: nobody waits for the answer any more."""
        held.tell = None
        self._leave(held)

    def end(self) -> None:
        """Answers all, and holds none any more."""
        self._ended = True
        for fleet in self._fleets.values():
            for held in tuple(fleet.held.values()):
                self._tell(held, None)

    async def aclose(self) -> None:
        """Ends the following of events."""
        self.end()
        tasks = {self._follower, *(fleet.matching for fleet in self._fleets.values())} - {None}
        if tasks:
            # They end by themselves; a read that is cancelled would leave its connection behind.
            await asyncio.wait([task for task in tasks if task is not None], timeout=ENDS_WITHIN)

    def _enter(self, held: Held, *, idle: bool) -> None:
        fleet = self._fleets.setdefault(held.fleet, _Fleet())
        before = fleet.held.get(held.bot)
        if before is not None:
            # A bot waits once: it has sent another heartbeat, or another process has its slot.
            self._tell(before, None)
        fleet.held[held.bot] = held
        if idle:
            fleet.idle[held.bot] = held
        if self._follower is None or self._follower.done():
            self._follower = asyncio.create_task(self._follow())

    def _leave(self, held: Held) -> None:
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None
        fleet = self._fleets[held.fleet]
        if fleet.held.get(held.bot) is held:
            del fleet.held[held.bot]
        if fleet.idle.get(held.bot) is held:
            del fleet.idle[held.bot]

    def _begin(self, held: Held, seconds: float, answer: Answer | RotaError | None) -> None:
        """Its first beat is answered; where that says nothing new, the wait begins."""
        if answer is not None or self._ended:
            self._tell(held, answer)
        elif held.tell is not None:
            held.timer = asyncio.get_running_loop().call_later(seconds, self._tell, held, None)

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
                for held in tuple(fleet.held.values()):
                    self._beat_again(held)
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
                for held in tuple(fleet.held.values()):
                    self._beat_again(held)
            elif event.kind == "waiting":
                fleet.wanted += 1
            elif event.kind in CONCERNS or (event.kind == "auth" and event.reason == "replaced"):
                held_one = fleet.held.get(event.bot or "")
                if held_one is not None:
                    self._beat_again(held_one)
        if fleet.wanted and (fleet.matching is None or fleet.matching.done()):
            fleet.matching = asyncio.create_task(self._match(name, fleet))

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
        """Finds idle bots for the profiles that have begun to wait."""
        # Those who got nothing; the others wait no more.
        tried: set[str] = set()
        while fleet.wanted and len(tried) < MOST_TRIED and not self._ended:
            wanted = min(fleet.wanted, TRIED_AT_ONCE)
            batch = list(islice((held for bot, held in fleet.idle.items() if bot not in tried), wanted))
            if not batch:
                break
            started = await self._try(batch)
            tried |= {held.bot for held in batch if fleet.idle.get(held.bot) is held}
            fleet.wanted = max(0, fleet.wanted - started)
            with contextlib.suppress(RotaError):
                if fleet.wanted and started < len(batch) and not await waiting_count(self._live, name):
                    # Others had free bots, too.
                    break
        fleet.wanted = 0

    async def _try(self, batch: Sequence[Held]) -> int:
        """Lets these beat once more, and says how many of them were given a profile."""
        answers: list[Answer | RotaError | None] = []
        done = asyncio.Event()

        def told(answer: Answer | RotaError | None) -> None:
            answers.append(answer)
            if len(answers) == len(batch):
                done.set()

        for held in batch:
            self._beat_again(held, told)
        await done.wait()
        return sum(isinstance(answer, Answer) and answer.code == "start" for answer in answers)
