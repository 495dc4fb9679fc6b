"""`POST /bot/push_data`: pushes that arrive in the same moment are committed together, and answered after that.

While commits are under way the next pushes gather, so groups grow with the load by themselves. What waits is bounded in
records and in bytes, bodies that are still on their way included: above that bots are told to come back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import structlog
from pydantic import TypeAdapter, ValidationError

from rota.errors import (
    DiskFullError,
    InternalError,
    NotFoundError,
    ProblemError,
    RotaError,
    SupersededError,
    UnavailableError,
    UnknownBotError,
)
from rota.ledger import fences, partitions, pushes
from rota.ledger.connection import Ledger
from rota.ledger.lines import lines
from rota.ledger.pushes import Batch, MissingPartitionError, Outcome, Pushed
from rota.live import bots
from rota.live.bots import Claim, Owned, Unproven
from rota.live.scripts import Live
from rota.protocol import MAX_BODY_BYTES, PushFields
from rota.web.http import Receive, as_problem, read_body
from rota.web.policies import Policies
from rota.web.sightings import Sightings
from rota.web.tokens import TokenOwner

COMMITS = 2
"""Commits under way at once in one worker: while the database writes one, the next is sent to it."""
GATHER = 0.003
"""Seconds that a group waits for more while the database is busy with another."""
GROUP_BATCHES = 256
GROUP_BYTES = 2_000_000
"""Where one transaction ends; its statements have to end within the stores' timeout."""
MOST_RECORDS = 100_000
MOST_BYTES = 64_000_000
"""What may wait in one worker; bodies count while they are read, and then the lines that are made of them."""
LINE_OVERHEAD = 64
"""Bytes that a line takes besides its own."""
BODY_WITHIN = 30.0
"""Seconds that a bot may take to send a body."""
RETRY_AFTER = 2.0
RETRY_AFTER_FULL_DISK = 10.0
FULL_DISK = (
    "PostgreSQL's disk is full: no pushed records are taken, and bots keep theirs. Make room, or keep records for less "
    "long."
)

_PUSH = TypeAdapter(PushFields)

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class _Push:
    """One call that waits for its commit; `number` and `lines` as in `pushes.Batch`."""

    owner: TokenOwner
    claim: Claim
    number: int
    lines: list[bytes]
    size: int
    done: asyncio.Future[Pushed]


class Pushes:
    """All pushes of one web worker."""

    def __init__(self, ledger: Ledger, live: Live, policies: Policies) -> None:
        self._ledger = ledger
        self._live = live
        self._policies = policies
        self._waiting: list[_Push] = []
        self._commits: set[asyncio.Task[None]] = set()
        self._records = 0
        self._bytes = 0
        self._sightings = Sightings(ledger)

    async def push(self, owner: TokenOwner, receive: Receive) -> bytes:
        """The reply to one call, after the commit.

        Raises:
            BodyTooLargeError, ClientGoneError, InvalidRequestError: the body is not what the protocol says.
            UnknownBotError, SupersededError, InvalidRequestError: the bot's data is not taken.
            UnavailableError: a store is away, or too much waits; nothing is known about the commit.
        """
        body = await self._read(receive)
        fields = _parse(body)
        made = lines(fields["records"])
        size = sum(map(len, made)) + LINE_OVERHEAD * len(made)
        claim = Claim(owner.bot, owner.digest, fields.get("profile"), fields.get("epoch"))
        push = _Push(owner, claim, fields["batch"], made, size, asyncio.get_running_loop().create_future())
        # What was read and parsed is several times as large as its lines, and has no more to do here.
        del body, fields
        self._add(push)
        try:
            pushed = await push.done
        finally:
            self._records -= len(made)
            self._bytes -= size
        duplicate = b"true" if pushed.duplicate else b"false"
        return b'{"accepted":%d,"duplicate":%b}' % (pushed.accepted, duplicate)

    async def aclose(self) -> None:
        """Waits for the commits under way."""
        await self._sightings.aclose()
        await asyncio.gather(*self._commits, return_exceptions=True)

    async def _read(self, receive: Receive) -> bytes:
        """The body; while it arrives, it counts among what waits."""
        read, until = 0, 0.0

        async def counted() -> Any:
            nonlocal read, until
            if until == 0:
                message, until = await receive(), time.monotonic() + BODY_WITHIN
            else:
                message = await asyncio.wait_for(receive(), max(0.0, until - time.monotonic()))
            size = len(message.get("body", b""))
            self._refuse_above(self._records, self._bytes + size)
            read += size
            self._bytes += size
            return message

        try:
            return await read_body(counted, MAX_BODY_BYTES)
        except TimeoutError:
            raise UnavailableError("The body took too long to arrive.", retry_after=RETRY_AFTER) from None
        finally:
            self._bytes -= read

    def _add(self, push: _Push) -> None:
        self._refuse_above(self._records + len(push.lines), self._bytes + push.size)
        self._records += len(push.lines)
        self._bytes += push.size
        self._waiting.append(push)
        if len(self._commits) < COMMITS:
            self._commits.add(asyncio.get_running_loop().create_task(self._run()))

    def _refuse_above(self, records: int, size: int) -> None:
        if records > MOST_RECORDS or size > MOST_BYTES:
            raise UnavailableError("Too much data waits to be committed.", retry_after=RETRY_AFTER)

    async def _run(self) -> None:
        try:
            while self._waiting:
                # What arrived in this turn of the event loop goes together; while the database is busy it may wait
                # longer.
                await asyncio.sleep(GATHER if len(self._commits) > 1 else 0)
                group = self._next_group()
                if group:
                    await self._settle(group)
        finally:
            # In the turn in which nothing waited any more: what comes in the next one finds room for a task.
            self._commits.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _next_group(self) -> list[_Push]:
        size, count = 0, 0
        for push in self._waiting[:GROUP_BATCHES]:
            size += push.size
            if count and size > GROUP_BYTES:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _settle(self, group: Sequence[_Push]) -> None:
        """Answers every push of the group, whatever happens."""
        try:
            outcomes = await self._outcomes(group)
        except RotaError as error:
            outcomes = [error if isinstance(error, ProblemError) else InternalError()] * len(group)
        except Exception:
            log.exception("pushes failed", number=len(group))
            outcomes = [InternalError()] * len(group)
        for push, outcome in zip(group, outcomes, strict=True):
            if push.done.done():
                continue
            if isinstance(outcome, Pushed):
                push.done.set_result(outcome)
            else:
                push.done.set_exception(outcome)

    async def _outcomes(self, group: Sequence[_Push]) -> Sequence[Outcome]:
        owned = await self._resolve(group)
        outcomes: dict[int, Outcome] = {}
        batches: dict[int, Batch] = {}
        for index, (push, found) in enumerate(zip(group, owned, strict=True)):
            if isinstance(found, ProblemError):
                outcomes[index] = found
            else:
                batches[index] = Batch(found.profile, found.epoch, push.number, push.owner.bot, push.lines)
        if batches:
            fleets = {push.owner.fleet for push in group}
            outcomes.update(zip(batches, await self._commit(list(batches.values()), fleets), strict=True))
        return [outcomes[index] for index in range(len(group))]

    async def _resolve(self, group: Sequence[_Push]) -> list[Owned | ProblemError]:
        """What each push belongs to, by one script call for each fleet; a fleet that fails fails alone."""
        members: dict[str, list[int]] = {}
        for index, push in enumerate(group):
            members.setdefault(push.owner.fleet, []).append(index)
        found: dict[int, Owned | ProblemError] = {}
        for fleet, indexes in members.items():
            claims = [group[index].claim for index in indexes]
            answers: Sequence[Owned | ProblemError]
            try:
                ttl = (await self._policies.granted(fleet)).ttl
                resolved = await bots.resolve(self._live, fleet, claims, ttl=ttl)
                answers = await self._proved(fleet, claims, resolved)
            except NotFoundError:
                answers = [UnknownBotError()] * len(claims)
            except ProblemError as error:
                answers = [error] * len(claims)
            found.update(zip(indexes, answers, strict=True))
        return [found[index] for index in range(len(group))]

    async def _proved(
        self, fleet: str, claims: Sequence[Claim], answers: Sequence[Owned | Unproven | ProblemError]
    ) -> list[Owned | ProblemError]:
        """The ledger's word where live state does not know of a grant: a store may forget what a bot was told.

        Whether that epoch was ever handed out, and is the newest, is decided with the commit.
        """
        pairs = sorted({(one.profile, one.epoch) for one in answers if isinstance(one, Unproven)})
        holders: Mapping[tuple[str, int], str | None] = {}
        if pairs:
            async with self._ledger.begin() as tx:
                holders = await fences.holders(tx, fleet, pairs)
        proved: list[Owned | ProblemError] = []
        for claim, answer in zip(claims, answers, strict=True):
            if not isinstance(answer, Unproven):
                proved.append(answer)
            elif holders.get((answer.profile, answer.epoch), "-") in (claim.bot, None):
                proved.append(Owned(answer.profile, answer.epoch))
            else:
                proved.append(SupersededError())
        return proved

    async def _commit(self, batches: Sequence[Batch], fleets: set[str]) -> list[Outcome]:
        try:
            try:
                return await pushes.commit(self._ledger, batches)
            except MissingPartitionError:
                await self._make_partitions(fleets)
                return await pushes.commit(self._ledger, batches)
        except DiskFullError as error:
            await self._sightings.tell(fleets, "disk_full", FULL_DISK, {})
            raise DiskFullError(retry_after=RETRY_AFTER_FULL_DISK) from error

    async def _make_partitions(self, fleets: set[str]) -> None:
        """What the steward has not done; after this the data of the moment has its place."""
        async with self._ledger.begin() as tx:
            made = await partitions.ensure(tx)
        log.error("partition of records was missing", made=made)
        message = (
            "There was no partition for the records of today, and a web worker made it: does a steward run and lead? "
            "It makes them days ahead. Or was today's detached or dropped?"
        )
        await self._sightings.tell(fleets, "missing_partition", message, {"made": made})


def _parse(body: bytes) -> PushFields:
    try:
        return _PUSH.validate_json(body)
    except ValidationError as error:
        raise as_problem(error, body) from None
