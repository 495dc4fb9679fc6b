"""What heartbeats say and what they are answered, for one bot and for many of one host: the hot path.

A beat is written down as the roster entry as it would be if nothing had changed; `live.beats` compares it together with
the others of this moment, and only what is new is answered otherwise. Only `start` and `reconfigure` ask the ledger.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from rota.errors import MalformedRequestError, NotFoundError, ProblemError, RotaError, UnavailableError, UnknownBotError
from rota.ledger import fences
from rota.ledger import profiles as ledger_profiles
from rota.live.beats import Answer, Tell, settle
from rota.live.entries import idle_entry, idle_entry_of, working_entry
from rota.protocol import MAX_BEATS, BeatFields, BeatOfMany, HeartbeatsRequest
from rota.web.held import Held
from rota.web.http import FOLLOWED, ClientGoneError, Receive, Scope, as_problem
from rota.web.policies import Policy
from rota.web.state import State
from rota.web.tokens import Lease, TokenOwner, read_token

_ONE = TypeAdapter(BeatFields)
_MANY = TypeAdapter(HeartbeatsRequest)
_EACH = TypeAdapter(BeatOfMany)
_NOTHING: BeatFields = {}
HELD_LONGER = 1.1
"""Intervals for which a heartbeat is held at most: bots spread theirs by so much."""
LONGEST_NUMBER = 100
"""Digits; every field's largest number has far fewer."""


class _AnyBeats(TypedDict):
    """`HeartbeatsRequest` before its beats are looked at one by one."""

    beats: Annotated[list[Any], Field(max_length=MAX_BEATS)]


_LIST = TypeAdapter(_AnyBeats)


class _News(NamedTuple):
    """What one bot of a fleet is told otherwise than that nothing is new."""

    owner: TokenOwner
    policy: Policy
    answer: Answer


def read_beat(body: bytes) -> BeatFields:
    """What one heartbeat says.

    Raises:
        InvalidRequestError: the body is not what the protocol says.
    """
    if not body:
        return _NOTHING
    try:
        return _ONE.validate_json(body)
    except ValidationError as error:
        raise as_problem(error, body) from None


def begin(state: State, owner: TokenOwner, said: BeatFields, policy: Policy, tell: Tell) -> Held | None:
    """Lets the heartbeat go; `tell` is called with what is new. One that waits is to be forgotten if its bot hangs up.

    Raises:
        UnavailableError: too many wait for their turn.
    """
    entry, seconds = _entry(owner.digest, said), said.get("wait", 0)
    if not seconds:
        state.waiting.outdate(owner)
        state.beats.add(owner.fleet, owner.bot, entry, policy.deadline_ms, tell)
        return None
    idle = said.get("working") is None and said.get("accepting", True)
    longest = policy.interval * HELD_LONGER
    return state.waiting.beat(owner, entry, policy.deadline_ms, tell, idle=idle, seconds=min(seconds, longest))


def nothing_new(said: BeatFields, policy: Policy) -> str:
    """The reply to a heartbeat to which there is nothing new to say."""
    work = said.get("working")
    if work is None:
        return policy.wait_reply
    return f'{policy.continue_reply}{work["profile"]}","epoch":{work["epoch"]},"revision":{work.get("revision", 1)}}}}}'


async def news(state: State, owner: TokenOwner, policy: Policy, answer: Answer | RotaError) -> bytes:
    """The reply to a heartbeat to which there is something new to say.

    Raises:
        UnknownBotError: the token is not on the roster.
        UnavailableError: a store is away.
    """
    if isinstance(answer, RotaError):
        raise answer
    configured = await _configured(state, owner.fleet, [_News(owner, policy, answer)])
    return (configured.get(answer) or _told(answer, policy)).encode()


async def heartbeat(state: State, owner: TokenOwner, body: bytes, scope: Scope, receive: Receive) -> bytes:
    """The reply to `POST /bot/heartbeat`; with `wait` it may take so long.

    `receive` tells when the bot hangs up, or, as `scope` does, that it has sent another request and so waits no more.

    Raises:
        ClientGoneError: the bot hung up while it waited.
        InvalidRequestError: the body is not what the protocol says.
        UnknownBotError: the token is not on the roster.
        UnavailableError: a store is away.
    """
    said = read_beat(body)
    policy = await policy_of(state, owner.fleet)
    future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
    held = begin(state, owner, said, policy, partial(settle, future))
    if held is not None:
        await _until_told(state, held, future, scope, receive)
    answer = await future
    if answer is None:
        return nothing_new(said, policy).encode()
    return await news(state, owner, policy, answer)


async def heartbeats(state: State, body: bytes) -> bytes:
    """The reply to `POST /bot/heartbeats`: one for each beat, in their order; a bot that failed has an error there.

    Raises:
        InvalidRequestError: the body as a whole is not what the protocol says.
        UnavailableError: a store is away, or too much waits; all beats may be sent again.
    """
    beats = _read_many(body)
    replies: list[str] = [""] * len(beats)
    fleets: dict[str, list[tuple[int, TokenOwner, BeatOfMany]]] = {}
    for index, beat in enumerate(beats):
        if not isinstance(beat, dict):
            replies[index] = _error(beat)
            continue
        try:
            owner = read_token(beat["token"])
        except UnknownBotError as error:
            replies[index] = _error(error)
        else:
            fleets.setdefault(owner.fleet, []).append((index, owner, beat))
    for fleet, members in fleets.items():
        await _beat_fleet(state, fleet, members, replies)
    return f'{{"replies":[{",".join(replies)}]}}'.encode()


async def policy_of(state: State, fleet: str) -> Policy:
    """The policy of a fleet that a token names.

    Raises:
        UnknownBotError: there is no such fleet.
    """
    try:
        return await state.policies.of(fleet)
    except NotFoundError:
        raise UnknownBotError from None


def bare(profile: str, epoch: int, revision: int) -> str:
    """An assignment without what only `start` and `reconfigure` carry."""
    return f'{{"profile":"{profile}","epoch":{epoch},"revision":{revision}}}'


async def _beat_fleet(
    state: State, fleet: str, members: Sequence[tuple[int, TokenOwner, BeatOfMany]], replies: list[str]
) -> None:
    try:
        turns = await state.policies.turns(fleet)
    except NotFoundError:
        unknown = _error(UnknownBotError())
        for index, _, _ in members:
            replies[index] = unknown
        return
    # What `news` and replies are written with is the bot's own, so that the bots of one host spread their beats.
    policies = list(islice(turns, len(members)))
    if state.waiting.holds(fleet):
        for _, owner, _ in members:
            state.waiting.outdate(owner)
    flat: list[str | bytes] = []
    for _, owner, beat in members:
        flat.append(owner.bot)
        flat.append(_entry(owner.digest, beat))
    answers = await state.beats.many(fleet, flat, policies[0].deadline_ms)
    news = [_News(members[at][1], policies[at], answer) for at, answer in answers.items() if isinstance(answer, Answer)]
    away: ProblemError | None = None
    configured: dict[Answer, str] = {}
    try:
        configured = await _configured(state, fleet, news)
    except UnavailableError as error:
        # What was granted is said again at the next beat; the others need no ledger.
        away = error
    for at, (index, _, beat) in enumerate(members):
        answer, policy = answers.get(at), policies[at]
        if answer is None:
            replies[index] = nothing_new(beat, policy)
        elif isinstance(answer, Answer) and answer.code in ("start", "reconfigure"):
            replies[index] = configured.get(answer) or _error(away or _changing())
        else:
            replies[index] = _told_or_refused(answer, policy)


def _told_or_refused(answer: Answer | ProblemError, policy: Policy) -> str:
    if isinstance(answer, ProblemError):
        return _error(answer)
    return _error(UnknownBotError()) if answer.code == "unknown" else _told(answer, policy)


def _read_many(body: bytes) -> Sequence[BeatOfMany | ProblemError]:
    """The beats; one that is wrong by itself does not keep the others from theirs."""
    try:
        return _MANY.validate_json(body)["beats"]
    except ValidationError as error:
        refusal = as_problem(error, body)
    try:
        # Python's own parser takes what pydantic's refuses the whole text for, halves of surrogate pairs and the like.
        text = body.decode(errors="surrogateescape")
        beats = _LIST.validate_python(json.loads(text, parse_int=_whole_number))["beats"]
    except (ValueError, RecursionError):
        raise refusal from None
    return [_read_each(beat) for beat in beats]


def _read_each(beat: Any) -> BeatOfMany | ProblemError:
    try:
        return _EACH.validate_json(json.dumps(beat))
    except ValidationError as error:
        return as_problem(error, b"")
    except RecursionError:
        return MalformedRequestError("The beat is nested too deeply.")


def _whole_number(digits: str) -> float:
    """One that is too long for Python, and for every field, is wrong wherever it stands."""
    return int(digits) if len(digits) <= LONGEST_NUMBER else math.inf


def _entry(digest: bytes, said: BeatFields) -> bytes:
    accepting, status, work = said.get("accepting", True), said.get("status", ""), said.get("working")
    if work is not None:
        revision = work.get("revision", 1)
        return working_entry(digest, work["profile"], work["epoch"], revision, accepting=accepting, status=status)
    if "ended" not in said:
        return idle_entry(digest, accepting=accepting, status=status)
    ended = said["ended"]
    profile, epoch = ("-", 0) if ended is None else (ended["profile"], ended["epoch"])
    return idle_entry_of(digest, accepting=accepting, status=status, profile=profile, epoch=epoch)


async def _until_told(
    state: State, held: Held, future: asyncio.Future[Answer | None], scope: Scope, receive: Receive
) -> None:
    """Waits for the answer as long as the bot does."""
    more = asyncio.ensure_future(receive())
    either: set[asyncio.Future[Any]] = {future, more}
    try:
        if not scope.get(FOLLOWED):
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return
        if more.done() and more.result()["type"] == "http.disconnect":
            raise ClientGoneError
        state.waiting.hasten(held)
        await asyncio.wait({future})
    finally:
        state.waiting.forget(held)
        more.cancel()


def _told(answer: Answer, policy: Policy) -> str:
    if answer.code == "unknown":
        raise UnknownBotError
    if answer.code in ("start", "reconfigure"):
        raise _changing()
    assignment = bare(answer.profile, answer.epoch, answer.revision) if answer.profile != "-" else "null"
    return f'{{"instruction":"{answer.code}",{policy.json},"assignment":{assignment}}}'


async def _configured(state: State, fleet: str, news: Iterable[_News]) -> dict[Answer, str]:
    """Starts and reconfigurations with name, configuration and lease.

    Their epochs are fenced in the ledger BEFORE the bots hear of them: from then on no data of an older epoch can be
    committed, whatever live state forgets.
    """
    handed_out = [one for one in news if one.answer.code in ("start", "reconfigure")]
    if not handed_out:
        return {}
    wanted = [(one.answer.profile, one.answer.revision) for one in handed_out]
    async with state.ledger.begin() as tx:
        await fences.raise_to(tx, [(one.answer.profile, one.answer.epoch) for one in handed_out])
        found = await ledger_profiles.configs(tx, wanted)
    replies = {}
    for (owner, policy, answer), key in zip(handed_out, wanted, strict=True):
        if key in found:
            name, config = found[key]
            assignment = {
                "profile": answer.profile,
                "name": name,
                "epoch": answer.epoch,
                "revision": answer.revision,
                "config": config,
                "lease": state.leases.sign(Lease(fleet, owner.bot, answer.profile, answer.epoch)),
            }
            text = json.dumps(assignment)
            replies[answer] = f'{{"instruction":"{answer.code}",{policy.json},"assignment":{text}}}'
    return replies


def _changing() -> ProblemError:
    return UnavailableError("The profile is being changed at the moment.", retry_after=1)


def _error(problem: ProblemError) -> str:
    return f'{{"error":{json.dumps({"code": problem.code, "detail": problem.detail})}}}'
