"""Exports on the command line: a file that is whole or not there, a progress bar, and lost connections taken up again.

Lines can be taken up behind the last whole one. Parquet has its table of contents at its end, and begins anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rota.cli.access import Access, LostError
from rota.errors import RotaError, UnavailableError

FORMATS = ("ndjson", "csv", "parquet")
TRIES = 10
"""In a row that bring nothing, until it gives up."""
LONGEST_PAUSE = 5.0


def export_to(rota: Access, path: str, output: Path | None, form: str, wanted: dict[str, Any]) -> Moved:
    """Writes the file, or to standard output; `path` is that of the records.

    Raises:
        RotaError: refused, or interrupted; there is no file then.
    """
    with _progress(rota, path, form, wanted) as moved:
        if output is None:
            _write(rota, path, sys.stdout.buffer, form, wanted, moved)
            sys.stdout.buffer.flush()
            return moved
        try:
            with _beside(output) as file:
                _write(rota, path, file, form, wanted, moved)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(output)
        except OSError as error:
            raise RotaError(f"cannot write {output}: {error}") from None
        return moved


@contextlib.contextmanager
def _beside(output: Path) -> Iterator[BinaryIO]:
    """An empty file beside the output, for one process at a time; it is gone at the end, unless it was renamed.

    Raises:
        RotaError: another process writes it.
    """
    part = output.with_name(f"{output.name}.part")
    busy = RotaError(f"cannot write {output}: another export writes it; wait for it, or choose another file")
    with open(part, "ab") as file:  # noqa: PTH123 - its name is needed
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        # Renamed or removed by another between the two calls: it must not be touched any more.
        if not (part.exists() and os.path.samestat(part.stat(), os.fstat(file.fileno()))):
            raise busy
        try:
            file.truncate(0)
            yield file
        finally:
            if part.exists() and os.path.samestat(part.stat(), os.fstat(file.fileno())):
                part.unlink()


class Moved:
    """How far it is: bytes always, records where they can be counted."""

    def __init__(self, bar: Progress, task: Any, records: int | None) -> None:
        self._bar = bar
        self._task = task
        self.bytes = 0
        self.records = records

    def by(self, size: int, lines: int | None) -> None:
        """So much further."""
        self.bytes += size
        if self.records is not None and lines is not None:
            self.records += lines
        self._bar.update(self._task, advance=lines or 0, size=f"{self.bytes / 1e6:,.1f} MB")


@contextlib.contextmanager
def _progress(rota: Access, path: str, form: str, wanted: dict[str, Any]) -> Iterator[Moved]:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    total = None
    if console.is_terminal:
        # Counted for some seconds at most: a bar is not worth more. Of Parquet nothing shows how many it holds yet.
        told = rota.get(f"{path}/count", **wanted)
        total = told["count"] if told["next"] is None and form != "parquet" else None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[size]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        what = f"{total:,} records" if total is not None else form
        yield Moved(bar, bar.add_task(what, total=total, size=""), None if form == "parquet" else 0)


def _write(rota: Access, path: str, file: BinaryIO, form: str, wanted: dict[str, Any], moved: Moved) -> None:
    """Copies the answer to the file; a lost connection is taken up behind the last whole line."""
    lines = None if form == "parquet" else _Lines(form, of_account=path.startswith("/accounts/"))
    fruitless = 0
    while True:
        before = moved.bytes
        try:
            behind = lines.behind() if lines else {}
            with rota.stream(f"{path}/export", format=form, **wanted, **behind) as pieces:
                for piece in pieces:
                    whole = lines.whole(piece) if lines else piece
                    file.write(whole)
                    moved.by(len(whole), lines.passed() if lines else None)
        except (LostError, UnavailableError) as error:
            fruitless = 0 if moved.bytes > before else fruitless + 1
            if fruitless == TRIES or (lines is None and moved.bytes):
                raise _interrupted(form, moved, error) from None
            if lines:
                lines.drop()
            time.sleep(min(LONGEST_PAUSE, 0.5 * 2**fruitless))
        else:
            return


def _interrupted(form: str, moved: Moved, error: RotaError) -> RotaError:
    advice = "run it again" + (
        "; ndjson and csv survive a lost connection, or narrow it with --from and --to" if form == "parquet" else ""
    )
    return RotaError(f"the export was interrupted after {moved.bytes / 1e6:,.1f} MB ({error}): {advice}")


class _Lines:
    """Passes whole lines on, and knows the last one."""

    def __init__(self, form: str, *, of_account: bool) -> None:
        self._form = form
        self._of_account = of_account
        self._rest = b""
        self._last = b""
        self._header = b""
        self._passed = 0

    def whole(self, piece: bytes) -> bytes:
        """What is whole by now. JSON has no line ends inside, and so neither form has."""
        text, end, rest = (self._rest + piece).rpartition(b"\n")
        self._rest = rest
        found = text + end
        if not found:
            return b""
        if self._form == "csv":
            found = self._without_second_header(found)
        self._passed += found.count(b"\n")
        self._last = found.rstrip(b"\r\n").rpartition(b"\n")[2] or self._last
        return found

    def passed(self) -> int:
        """How many records came since this was asked last."""
        passed, self._passed = self._passed, 0
        return passed

    def drop(self) -> None:
        """Forgets half a line."""
        self._rest = b""

    def behind(self) -> dict[str, Any]:
        """The query with which to go on."""
        if not self._last or self._last == self._header:
            return {}
        if self._form == "csv":
            record_id, profile = self._last.split(b",", 2)[:2]
            found = {"after_id": int(record_id), "after_profile": profile.decode()}
        else:
            told = json.loads(self._last)
            found = {"after_id": told["id"], "after_profile": told["profile"]}
        return found if self._of_account else {"after_id": found["after_id"]}

    def _without_second_header(self, found: bytes) -> bytes:
        first, _, others = found.partition(b"\n")
        header = first.rstrip(b"\r")
        if not self._header:
            self._header, self._passed = header, -1
            return found
        return others if header == self._header else found
