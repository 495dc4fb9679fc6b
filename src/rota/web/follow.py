"""Records as they arrive: one stream of server-sent events per follower, one look for all followed profiles.

A worker looks twice a second for the newest id of every profile that is followed there, and lets the streams of those
that have something new read on from their own position. So a stream that is slow, or has to catch up, holds nothing in
memory; and since ids of one profile rise in the order of commits, `id > last` neither skips nor repeats, whichever
worker the reader comes back to. The id of an event is a position of `ledger/search.py`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator

import structlog

from rota.errors import ProblemError, RotaError, UnavailableError
from rota.ledger import records
from rota.ledger.search import BEGINNING, Found, Position
from rota.ledger.sieve import Sieve
from rota.web import permits, stream
from rota.web.permits import Permit
from rota.web.readers import Readers
from rota.web.rows import line

EVERY = 0.5
"""Seconds between two looks."""
MOST = 128
"""Followers of one worker."""
PAGE = 200
"""Records that a stream reads at a time."""
HEARTBEAT = ": heartbeat\n\n"

log = structlog.get_logger(__name__)


class Follower:
    """All followed profiles of one worker."""

    def __init__(self, readers: Readers) -> None:
        """Nothing happens while nobody follows."""
        self._readers = readers
        self._viewers: dict[str, set[stream.Viewer]] = {}
        self._looking: asyncio.Task[None] | None = None

    @property
    def number(self) -> int:
        """How many follow."""
        return sum(len(viewers) for viewers in self._viewers.values())

    async def aclose(self) -> None:
        """Ends all."""
        for viewers in self._viewers.values():
            for viewer in viewers:
                viewer.end()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def begin(
        self, profile: str, sieve: Sieve, after: Position | None, *, last: int = 0, permit: Permit | None = None
    ) -> AsyncGenerator[str]:
        """The events of what arrives behind `after`; without it from now on, `last` records before that included.

        Where the permit ends, they do, with an event that tells why.

        Raises:
            InvalidRequestError: the path of the sieve is none.
            UnavailableError: too many follow, or the ledger is away.
        """
        if self.number >= MOST:
            raise UnavailableError("Too many follow records at the moment: try again.", retry_after=5)
        position = after or await self._start(profile, sieve, last)
        # Read before anything is answered, so that a bad path still gets an answer of its own.
        first = await self._read_on(profile, sieve, position)
        return self._messages(profile, sieve, position, first, permit or Permit())

    async def _start(self, profile: str, sieve: Sieve, last: int) -> Position:
        async with self._readers.begin() as tx:
            head = (await records.heads(tx, [profile])).get(profile, BEGINNING)
            if not last:
                return head
            newest = await records.page(tx, profile, sieve, limit=last, newest_first=True)
        return Position(newest.items[-1].id - 1) if newest.items else head

    async def _messages(
        self, profile: str, sieve: Sieve, position: Position, page: Found, permit: Permit
    ) -> AsyncGenerator[str]:
        ends_at = time.monotonic() + stream.LIFE
        with stream.opened() as viewer:
            self._enter(profile, viewer)
            try:
                yield f"retry: 1000\nid: {position}\n\n"
                said_at = time.monotonic()
                while not viewer.ended and time.monotonic() < ends_at:
                    await permit.check()
                    if page.position.id != position.id:
                        yield _events(page)
                        said_at = time.monotonic()
                    position = page.position
                    if not page.more and not await _is_told(viewer, min(stream.HEARTBEAT, permits.AGAIN)):
                        if time.monotonic() >= said_at + stream.HEARTBEAT:
                            yield HEARTBEAT
                            said_at = time.monotonic()
                        page = Found([], position, more=False)
                        continue
                    if not viewer.ended:
                        page = await self._read_on(profile, sieve, position)
            except UnavailableError:
                # The reader comes back with its position, and is answered then.
                log.warning("a stream of records ends: the ledger is away", profile=profile)
            except ProblemError as error:
                yield stream.event("problem", json.dumps(error.problem()))
            finally:
                self._leave(profile, viewer)

    async def _read_on(self, profile: str, sieve: Sieve, position: Position) -> Found:
        async with self._readers.begin() as tx:
            return await records.page(tx, profile, sieve, limit=PAGE, after=position)

    def _enter(self, profile: str, viewer: stream.Viewer) -> None:
        self._viewers.setdefault(profile, set()).add(viewer)
        # What came between its first page and now was perhaps told to the others already.
        viewer.nudge()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    def _leave(self, profile: str, viewer: stream.Viewer) -> None:
        viewers = self._viewers[profile]
        viewers.discard(viewer)
        if not viewers:
            del self._viewers[profile]

    async def _look(self) -> None:
        """Nudges those whose profile has something new, until nobody follows any more."""
        known: dict[str, Position] = {}
        while self._viewers:
            started = time.monotonic()
            try:
                async with self._readers.begin() as tx:
                    heads = await records.heads(tx, list(self._viewers), recent=True)
            except RotaError as error:
                log.warning("records cannot be followed", error=str(error))
                heads = known
            except Exception:
                log.exception("records cannot be followed")
                heads = known
            for profile, head in heads.items():
                if known.get(profile) != head:
                    for viewer in self._viewers.get(profile, ()):
                        viewer.nudge()
            known = heads
            await asyncio.sleep(max(0.0, started + EVERY - time.monotonic()))


async def _is_told(viewer: stream.Viewer, within: float) -> bool:
    try:
        await viewer.next(within)
    except TimeoutError:
        return False
    return True


def _events(page: Found) -> str:
    events = [f"id: {Position.at(one.id, one.received_at)}\n{stream.event('', line(one))}" for one in page.items]
    if not page.items or page.items[-1].id != page.position.id:
        # Nothing to show, yet a reader that comes back need not look through it again.
        events.append(f"id: {page.position}\n\n")
    return "".join(events)
