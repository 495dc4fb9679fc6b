"""The spool on disk: one SQLite file for one slot, with all records that rota does not have yet, and the claim.

`disk` calls it, from one thread. It never waits for rota and never changes what a batch number stands for: a
batch is fixed on the disk itself before it is handed out, so that the next process sends the same one.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from rota.errors import SpoolError
from rota.protocol import MAX_BODY_BYTES, MAX_RECORDS
from rota.sdk import aside
from rota.sdk.claim import Claim
from rota.sdk.outbox import Batch, SetAside, batch_of, fitting, head_of
from rota.sdk.reserve import Reserve

_VERSION = 1
_APPLICATION = 0x726F7461  # "rota"
_WAL_KEPT = 4 * 2**20
_WAL_PAGES = 256
"""After which SQLite's log goes into the file: with what is put in at once it stays far smaller than the reserve."""
_LEFT_FREE = 2**20
"""Bytes of free pages in the file that stay free on a full disk."""
_BOXES_KEPT = 1_000
_SCHEMA = (
    # number: of the batch that ends with the record `upto`, or of the next one where that is null.
    """CREATE TABLE box (
        id INTEGER PRIMARY KEY, profile TEXT NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL DEFAULT 0,
        upto INTEGER, most INTEGER NOT NULL, superseded INTEGER NOT NULL DEFAULT 0, UNIQUE (profile, epoch))""",
    # AUTOINCREMENT: no seq comes twice, not even after all records are gone; files are named by it.
    """CREATE TABLE record (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, box INTEGER NOT NULL REFERENCES box (id), data BLOB NOT NULL)""",
    "CREATE INDEX record_of_box ON record (box, seq)",
    "CREATE TABLE claim (one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)


class SpoolHeldError(SpoolError):
    """Another process has the file."""


@dataclass(frozen=True, slots=True)
class Box:
    """What one assignment has in the file."""

    profile: str
    epoch: int
    count: int
    size: int
    first: int | None
    superseded: int
    """Rota takes nothing of it any more."""


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    number: int
    upto: int | None
    most: int


class Spool:
    """An open spool; nobody else can open it meanwhile, and the system lets it go when this process ends."""

    def __init__(self, path: Path, *, most_aside: int) -> None:
        """`most_aside`: so many bytes of records that rota refused may lie beside it.

        Raises:
            SpoolHeldError: another process, or another bot of this one, has it.
            SpoolError: it cannot be made or read.
        """
        self.path = path
        self._most_aside = most_aside
        self._reserve = Reserve(path)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SpoolError(f"no folder for the spool {path} can be made: {error}") from None
        with self._told():
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            with self._told():
                self._prepare_with_room()
        except BaseException:
            self._db.close()
            raise
        self._reserve.take()

    def close(self) -> None:
        """Lets the file go."""
        self._db.close()

    def _prepare_with_room(self) -> None:
        try:
            self._prepare()
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if not (_is_full(error) and self._reserve.give_up()):
                raise
            self._prepare()

    def _prepare(self) -> None:
        run = self._db.execute
        # The lock is the operating system's, and proves that the process that had it before is gone.
        run("PRAGMA locking_mode = EXCLUSIVE")
        if run("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise SpoolError(f"the spool {self.path} lies on a file system that SQLite's WAL mode does not work on")
        run(f"PRAGMA journal_size_limit = {_WAL_KEPT}")
        run(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        run("BEGIN IMMEDIATE")
        (version,) = run("PRAGMA user_version").fetchone()
        (tables,) = run("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = run("PRAGMA application_id").fetchone()
        if tables and (application != _APPLICATION or version != _VERSION):
            raise SpoolError(
                f"{self.path} is not a spool of this version of rota: name another folder, or move it away"
            )
        if not tables:
            for statement in _SCHEMA:
                run(statement)
        claim = self.claim()
        if claim is not None:
            self._write_claim(claim.inherited())
        # The next number of an assignment that is long over is of no use any more.
        gone = "id NOT IN (SELECT box FROM record) AND id <= (SELECT max(id) FROM box) - ?"
        run(f"DELETE FROM box WHERE {gone}", (_BOXES_KEPT,))  # noqa: S608 - only the text above
        run("COMMIT")

    # ---- records

    def boxes(self) -> list[Box]:
        """What each assignment has in it that has anything."""
        with self._told():
            rows = self._db.execute(
                "SELECT profile, epoch, count(seq), sum(length(data)), min(seq), superseded "
                "FROM box JOIN record ON box = id GROUP BY id ORDER BY id"
            )
            return [Box(*row) for row in rows]

    def next_seq(self) -> int:
        """The number after that of the last record that was ever put in."""
        with self._told():
            row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'record'").fetchone()
            return row[0] + 1 if row else 1

    def put(self, profile: str, epoch: int, records: Sequence[tuple[int, bytes]]) -> None:
        """Takes records with their numbers; a kill leaves all of them in the file, or none."""
        self._check_room(sum(len(data) for _, data in records))
        with self._transaction(must=False):
            self._db.execute(
                "INSERT OR IGNORE INTO box (profile, epoch, most) VALUES (?, ?, ?)", (profile, epoch, MAX_BODY_BYTES)
            )
            box = self._row(profile, epoch)
            assert box is not None  # noqa: S101 - it was just put there
            self._db.executemany(
                "INSERT INTO record (seq, box, data) VALUES (?, ?, ?)", [(seq, box.id, data) for seq, data in records]
            )

    def first(self, profile: str, epoch: int) -> int | None:
        """The number of the first record that waits."""
        with self._told():
            query = "SELECT min(seq) FROM record JOIN box ON box = id WHERE profile = ? AND epoch = ?"
            found: int | None = self._db.execute(query, (profile, epoch)).fetchone()[0]
            return found

    def batch(self, profile: str, epoch: int) -> Batch | None:
        """The batch that is on its way, else a new one, which has reached the disk itself when this returns."""
        with self._told():
            box = self._row(profile, epoch)
            if box is None:
                return None
            head, numbers = head_of(profile, epoch, box.number), list[int]()
            with contextlib.closing(self._rows(box)) as rows:
                if box.upto is not None:
                    return batch_of(box.number, head, [data for _, data in rows])
                records = fitting(head, _noting(rows, numbers), box.most)
        if not records:
            return None
        with self._transaction(sync=True):
            self._db.execute("UPDATE box SET upto = ? WHERE id = ?", (numbers[len(records) - 1], box.id))
        return batch_of(box.number, head, records)

    def settle(self, profile: str, epoch: int, number: int) -> int:
        """Takes the batch of this number out, because rota has it; returns the bytes of its records."""
        with self._transaction():
            box = self._row(profile, epoch)
            if box is None or box.upto is None or box.number != number:
                return 0
            gone = "FROM record WHERE box = ? AND seq <= ?"
            (size,) = self._db.execute(f"SELECT sum(length(data)) {gone}", (box.id, box.upto)).fetchone()
            self._db.execute(f"DELETE {gone}", (box.id, box.upto))
            self._db.execute("UPDATE box SET number = number + 1, upto = NULL WHERE id = ?", (box.id,))
        return int(size)

    def split(self, profile: str, epoch: int, most: int) -> None:
        """Gives the batch up, because rota takes none so large: the next one has `most` bytes."""
        with self._transaction():
            query = "UPDATE box SET upto = NULL, most = ? WHERE profile = ? AND epoch = ?"
            self._db.execute(query, (most, profile, epoch))

    # ---- what rota does not take

    def refuse(self, profile: str, epoch: int, positions: Iterable[int], reason: str) -> tuple[SetAside, int]:
        """Sets these records of the batch aside, else all of them; also returns their bytes."""
        with self._told():
            box = self._row(profile, epoch)
            rows = [] if box is None or box.upto is None else list(self._rows(box))
        if box is None or not rows:
            return SetAside(0), 0
        named = {position for position in positions if position < len(rows)}
        chosen = [rows[position] for position in sorted(named or range(len(rows)))]
        note = aside.Note(profile, epoch, box.number, reason)
        path = self._set_aside(note, chosen[0][0], [(note, [data for _, data in chosen])])
        with self._transaction(sync=True):
            self._db.executemany("DELETE FROM record WHERE seq = ?", [(seq,) for seq, _ in chosen])
            self._db.execute("UPDATE box SET upto = NULL WHERE id = ?", (box.id,))
        return SetAside(len(chosen), path), sum(len(data) for _, data in chosen)

    def supersede(self, profile: str, epoch: int) -> tuple[SetAside, int]:
        """Sets all records of the assignment aside; also returns their bytes."""
        with self._transaction(sync=True):
            # Known on the disk before the file is made: what is put in and lost afterwards must not make it shorter.
            query = "UPDATE box SET superseded = 1 WHERE profile = ? AND epoch = ?"
            self._db.execute(query, (profile, epoch))
        box = self._row(profile, epoch)
        first = self.first(profile, epoch)
        if box is None or first is None:
            return SetAside(0), 0
        path = self._set_aside(aside.Note(profile, epoch, None, "superseded"), first, self._pieces(profile, epoch, box))
        with self._transaction(sync=True):
            found = self._db.execute("SELECT count(*), sum(length(data)) FROM record WHERE box = ?", (box.id,))
            count, size = found.fetchone()
            self._db.execute("DELETE FROM record WHERE box = ?", (box.id,))
            self._db.execute("UPDATE box SET number = number + 1, upto = NULL WHERE id = ?", (box.id,))
        return SetAside(count, path), size

    def _pieces(self, profile: str, epoch: int, box: _Row) -> Iterator[tuple[aside.Note, list[bytes]]]:
        last = 0
        if box.upto is not None:
            rows = list(self._rows(box))
            last = box.upto
            yield aside.Note(profile, epoch, box.number, "superseded"), [data for _, data in rows]
        query = "SELECT seq, data FROM record WHERE box = ? AND seq > ? ORDER BY seq LIMIT ?"
        while rows := self._db.execute(query, (box.id, last, MAX_RECORDS)).fetchall():
            last = rows[-1][0]
            yield aside.Note(profile, epoch, None, "superseded"), [data for _, data in rows]

    def _set_aside(self, note: aside.Note, first: int, pieces: Iterable[tuple[aside.Note, list[bytes]]]) -> Path | None:
        with self._told():
            if aside.size_beside(self.path) >= self._most_aside:
                return None
            try:
                # Named by its first record: after a kill before these are deleted, it is written again, not doubled.
                path = aside.write(aside.path_beside(self.path, note, first), pieces)
                self._remove_unfinished(note, path)
            except OSError as error:
                raise SpoolError(f"records cannot be set aside beside the spool {self.path}: {error}") from None
        return path

    def _remove_unfinished(self, note: aside.Note, but: Path) -> None:
        """Removes files that were written just before a kill: their records are still here, and get into others."""
        for first, path in aside.firsts_beside(self.path, note).items():
            if path != but and self._db.execute("SELECT 1 FROM record WHERE seq = ?", (first,)).fetchone():
                path.unlink()

    # ---- the claim

    def claim(self) -> Claim | None:
        """What its slot was last given and may still be bound to."""
        with self._told():
            row = self._db.execute("SELECT body FROM claim").fetchone()
        try:
            return Claim.model_validate_json(row[0]) if row else None
        except ValidationError:
            return None  # it only helps to come back

    def hold(self, claim: Claim | None) -> None:
        """Keeps the claim, or none; it has reached the disk itself when this returns."""
        with self._transaction(sync=True):
            self._write_claim(claim)

    def _write_claim(self, claim: Claim | None) -> None:
        if claim is None:
            self._db.execute("DELETE FROM claim")
        else:
            self._db.execute("INSERT OR REPLACE INTO claim VALUES (1, ?)", (claim.model_dump_json(),))

    # ---- the file

    def sync(self) -> None:
        """Has everything so far reach the disk itself."""
        with self._told():
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _row(self, profile: str, epoch: int) -> _Row | None:
        query = "SELECT id, number, upto, most FROM box WHERE profile = ? AND epoch = ?"
        row = self._db.execute(query, (profile, epoch)).fetchone()
        return _Row(*row) if row else None

    def _rows(self, box: _Row) -> Generator[tuple[int, bytes]]:
        """The records of the batch that is on its way, else the first that wait."""
        query = "SELECT seq, data FROM record WHERE box = ? AND seq <= ? ORDER BY seq LIMIT ?"
        last = 2**63 - 1 if box.upto is None else box.upto
        with contextlib.closing(self._db.execute(query, (box.id, last, MAX_RECORDS))) as rows:
            yield from rows

    def _check_room(self, size: int) -> None:
        """Whether so many bytes more leave the room without which nothing could be taken out any more."""
        if self._reserve.take():
            return
        with self._told():
            (pages,), (each,) = (
                self._db.execute(f"PRAGMA {what}").fetchone() for what in ("freelist_count", "page_size")
            )
        if pages * each < 2 * size + _LEFT_FREE:
            raise self._full()

    def _find_room(self) -> None:
        """Makes room on a full disk for what is tried next: the reserve, or the log, which is written anew then."""
        if not self._reserve.give_up():
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    @contextlib.contextmanager
    def _transaction(self, *, sync: bool = False, must: bool = True) -> Iterator[None]:
        """All or nothing. A kill takes nothing of it back afterwards, and with `sync` neither does a power cut.

        What `must` be possible on a full disk, too, is possible the next time when it has failed for that.
        """
        with self._told():
            self._db.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:  # a full disk may have ended it already
                    self._db.execute("ROLLBACK")
                if must and _is_full(error):
                    self._find_room()
                raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _error(self, error: sqlite3.Error) -> SpoolError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return SpoolHeldError(f"the spool {self.path} is in use: another process runs in this slot, or another bot")
        if _is_full(error):
            return self._full()
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return SpoolError(
                f"the spool {self.path} is broken ({error}): move it and its -wal away to begin with an empty one; "
                "`sqlite3 FILE .recover` may get its records back"
            )
        return SpoolError(f"the spool {self.path} cannot be used: {error}")

    def _full(self) -> SpoolError:
        return SpoolError(f"the spool {self.path} cannot grow, because the disk is full: make room")


def _is_full(error: BaseException) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def _noting(rows: Iterable[tuple[int, bytes]], numbers: list[int]) -> Iterator[bytes]:
    for seq, data in rows:
        numbers.append(seq)
        yield data
