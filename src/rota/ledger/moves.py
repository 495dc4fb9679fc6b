"""What events make of assignments, many at a time: a crowd that is given work must not be recorded one by one.

Events of different profiles touch different assignments, so that their order does not matter. They are taken in waves
in which no profile stands twice, each kind of a wave in one statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import TextClause, text

from rota.ledger.connection import Transaction


class Move(NamedTuple):
    """What an event says of the assignment (profile, epoch); `reason` is why it ended."""

    kind: str
    profile: str
    epoch: int
    bot: str
    at: datetime
    reason: str | None


BEGINS = ("granted", "resumed")
ENDS = ("released", "left", "died", "killed", "replaced")


def _of_moves(statement: str) -> TextClause:
    """The statement with `moves` as a table of what happened."""
    moves = """unnest(CAST(:profiles AS text[]), CAST(:epochs AS bigint[]), CAST(:bots AS text[]),
        CAST(:moments AS timestamptz[]), CAST(:reasons AS text[])) AS move(profile, epoch, bot, at, reason)"""
    return text(statement.replace("moves", moves))


_GRANT = _of_moves("""
    INSERT INTO assignments (profile_id, epoch, fleet, bot, server, started_at)
    SELECT profile, epoch, :fleet, bot, split_part(bot, '/', 1), at FROM moves
    ON CONFLICT (profile_id, epoch) DO NOTHING
""")
# Only a resumption that came after the end opens an assignment again.
_RESUME = _of_moves("""
    INSERT INTO assignments AS known (profile_id, epoch, fleet, bot, server, started_at)
    SELECT profile, epoch, :fleet, bot, split_part(bot, '/', 1), at FROM moves
    ON CONFLICT (profile_id, epoch) DO UPDATE
    SET ended_at = NULL, reason = NULL, bot = excluded.bot, server = excluded.server
    WHERE known.ended_at < excluded.started_at
""")
_SUPERSEDE = _of_moves("""
    UPDATE assignments SET ended_at = greatest(started_at, move.at), reason = 'superseded' FROM moves
    WHERE profile_id = move.profile AND assignments.epoch < move.epoch AND ended_at IS NULL
""")
_CONFIRM = _of_moves("""
    UPDATE assignments SET confirmed_at = coalesce(confirmed_at, move.at) FROM moves
    WHERE profile_id = move.profile AND assignments.epoch = move.epoch
""")
# The first end of an assignment counts.
_END = _of_moves("""
    UPDATE assignments SET ended_at = move.at, reason = move.reason FROM moves
    WHERE profile_id = move.profile AND assignments.epoch = move.epoch AND ended_at IS NULL AND started_at <= move.at
""")


async def take(tx: Transaction, fleet: str, moves: Iterable[Move]) -> None:
    """Carries moves into `assignments`, in their order."""
    for wave in _waves(moves):
        for begins, statement in (("granted", _GRANT), ("resumed", _RESUME)):
            await _execute(tx, statement, [move for move in wave if move.kind == begins], fleet)
        await _execute(tx, _SUPERSEDE, [move for move in wave if move.kind in BEGINS])
        await _execute(tx, _CONFIRM, [move for move in wave if move.kind == "working"])
        await _execute(tx, _END, [move for move in wave if move.kind in ENDS])


def _waves(moves: Iterable[Move]) -> Iterator[Sequence[Move]]:
    wave: dict[str, Move] = {}
    for move in moves:
        if move.profile in wave:
            yield list(wave.values())
            wave = {}
        wave[move.profile] = move
    if wave:
        yield list(wave.values())


async def _execute(tx: Transaction, statement: TextClause, moves: Sequence[Move], fleet: str | None = None) -> None:
    if not moves:
        return
    parts = {
        "profiles": [move.profile for move in moves],
        "epochs": [move.epoch for move in moves],
        "bots": [move.bot for move in moves],
        "moments": [move.at for move in moves],
        "reasons": [move.reason for move in moves],
    }
    await tx.execute(statement, parts if fleet is None else {**parts, "fleet": fleet})
