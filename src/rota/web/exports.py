"""Records as a file, however many: read in short transactions, written piece by piece in a thread, never held whole.

One piece is in memory at a time, and the next is read when the caller has taken the last. `api/records.py` calls it.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol, TypeVar

from rota.errors import UnavailableError
from rota.ledger import checks, records
from rota.ledger import sieve as sieves
from rota.ledger.connection import Transaction
from rota.ledger.search import Position, Record, Scope
from rota.ledger.sieve import Sieve
from rota.web.permits import Permit
from rota.web.readers import Readers
from rota.web.rows import COLUMNS, line, moment

ROWS = 2_000
"""Of one reading: more would keep the worker's other callers waiting."""
MOST_AT_ONCE = 8
"""Exports of one worker at once."""
GROUP_ROWS, GROUP_BYTES = 50_000, 2 * 1_048_576
"""Of a row group of Parquet, whichever is reached first: what is in memory at a time."""
PAGE_BYTES = 65_536
"""Of a page of Parquet: what is compressed at a time."""
TRIES, PAUSE = 30, 1.0
"""How often, and after how many seconds, an export that has begun asks again while the ledger is away."""

Answer = TypeVar("Answer")


class Format(Protocol):
    """One kind of file. Called in a thread, one call at a time."""

    media_type: str
    suffix: str

    def begin(self) -> bytes:
        """What the file begins with."""

    def add(self, found: Sequence[Record]) -> bytes:
        """What these records add to it; may be nothing yet."""

    def end(self) -> bytes:
        """What it ends with."""


class NdJson:
    """A line of JSON for each record."""

    media_type, suffix = "application/x-ndjson", "ndjson"

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def add(self, found: Sequence[Record]) -> bytes:
        """A line each."""
        return "".join(f"{line(record)}\n" for record in found).encode()

    def end(self) -> bytes:
        """Nothing."""
        return b""


class Csv:
    """RFC 4180 with a header; `data` is JSON. No cell can be a formula: see docs/api.md."""

    media_type, suffix = "text/csv; charset=utf-8; header=present", "csv"

    def begin(self) -> bytes:
        """The header."""
        return f"{','.join(COLUMNS)}\r\n".encode()

    def add(self, found: Sequence[Record]) -> bytes:
        """A line each: JSON has no line ends inside."""
        text = io.StringIO()
        csv.writer(text).writerows(
            (
                one.id,
                one.profile,
                one.epoch,
                one.batch,
                one.position,
                one.bot,
                one.kind,
                moment(one.at),
                moment(one.received_at),
                one.text,
            )
            for one in found
        )
        return text.getvalue().encode()

    def end(self) -> bytes:
        """Nothing."""
        return b""


class Parquet:
    """Columns in bounded row groups, compressed with zstd; `data` is JSON text."""

    media_type, suffix = "application/vnd.apache.parquet", "parquet"

    def __init__(self) -> None:
        """Loads pyarrow.

        Raises:
            InvalidRequestError: it is not installed.
        """
        try:
            import pyarrow as pa  # noqa: PLC0415 - large, and few ask for it
            import pyarrow.parquet as pq  # noqa: PLC0415
        except ImportError:
            missing = (
                'Parquet needs pyarrow on the server: `pip install "rota[server,parquet]"`; or ask for ndjson or csv'
            )
            raise checks.refuse("format", missing) from None
        self._arrow, self._sink = pa, _Sink()
        whole, text, when = pa.int64(), pa.string(), pa.timestamp("us", tz="UTC")
        types = (whole, text, whole, whole, pa.int32(), text, text, when, when, text)
        self._schema = pa.schema(
            [pa.field(name, kind, nullable=False) for name, kind in zip(COLUMNS, types, strict=True)]
        )
        # The default pool keeps what it has had for later; a web worker seldom writes Parquet again soon.
        pa.set_memory_pool(pa.system_memory_pool())
        self._writer = pq.ParquetWriter(
            self._sink,
            self._schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=["profile", "epoch", "batch", "bot", "kind"],
            data_page_size=PAGE_BYTES,
        )
        self._waiting: list[Any] = []

    def begin(self) -> bytes:
        """Parquet's first bytes."""
        return self._sink.take()

    def add(self, found: Sequence[Record]) -> bytes:
        """A row group as soon as enough has come together; it waits as columns, which are a fifth of the records."""
        rows = (
            (r.id, r.profile, r.epoch, r.batch, r.position, r.bot, r.kind, r.at, r.received_at, r.text) for r in found
        )
        columns = zip(zip(*rows, strict=True), self._schema, strict=True)
        arrays = [self._arrow.array(column, field.type) for column, field in columns]
        self._waiting.append(self._arrow.RecordBatch.from_arrays(arrays, schema=self._schema))
        is_enough = sum(batch.num_rows for batch in self._waiting) >= GROUP_ROWS
        if is_enough or sum(batch.nbytes for batch in self._waiting) >= GROUP_BYTES:
            self._write()
        return self._sink.take()

    def end(self) -> bytes:
        """What is left, and the table of contents."""
        if self._waiting:
            self._write()
        self._writer.close()
        return self._sink.take()

    def _write(self) -> None:
        self._writer.write_table(self._arrow.Table.from_batches(self._waiting))
        self._waiting = []


class _Sink(io.RawIOBase):
    """A file that only grows, and whose written bytes are taken away."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._size += len(part)
        return len(part)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


FORMATS: dict[str, Callable[[], Format]] = {"ndjson": NdJson, "csv": Csv, "parquet": Parquet}


class Exports:
    """One worker's exports under way."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._open = 0
        # One thread for all: what is written at the same time would share the interpreter anyway, and bots with it.
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="export")

    def close(self) -> None:
        """Lets the thread go; exports under way fail."""
        self._writing.shutdown(wait=False, cancel_futures=True)

    async def begin(
        self,
        scope: Scope,
        sieve: Sieve,
        form: Format,
        after: tuple[str, int] = ("", 0),
        *,
        permit: Permit | None = None,
    ) -> AsyncIterator[bytes]:
        """The file of what is there now, profile by profile, in the order of arrival.

        What is being committed at this moment may be in it. Retention may take from it what has not had its turn.

        `after` is the profile and the id of the record behind which to go on. What is yielded later may raise
        UnavailableError, or what ends the permit: then the file ends in the middle, and whoever gets it must see that.

        Raises:
            InvalidRequestError: the path of the sieve is none.
            UnavailableError: too many are under way, or the ledger is away.
        """
        if self._open >= MOST_AT_ONCE:
            raise UnavailableError("Too many exports at the moment: try again.", retry_after=10)
        pieces = self._counted(
            _Export(self._readers, self._writing, scope, sieve, form).pieces(after), permit or Permit()
        )
        # Read before anything is answered, so that a bad path still gets an answer of its own.
        first = await anext(pieces)
        return _joined(first, pieces)

    async def _counted(self, pieces: AsyncGenerator[bytes], permit: Permit) -> AsyncGenerator[bytes]:
        self._open += 1
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    await permit.check()
                    yield piece
        finally:
            self._open -= 1


class _Export:
    """One export."""

    def __init__(self, readers: Readers, writing: ThreadPoolExecutor, scope: Scope, sieve: Sieve, form: Format) -> None:
        self._readers = readers
        self._writing = writing
        self._scope = scope
        self._sieve = sieve
        self._form = form
        self._has_begun = False
        self._ceiling = 0

    async def pieces(self, after: tuple[str, int]) -> AsyncGenerator[bytes]:
        """The file; at least one piece, and none that is empty but the first."""
        await self._asked(partial(sieves.check, sieve=self._sieve))
        self._ceiling = await self._asked(records.highest_id)
        begun = await self._written(self._form.begin)
        async with aclosing(self._pages(*after)) as pages:
            async for page in pages:
                piece = begun + await self._written(partial(self._form.add, page))
                begun = b""
                if piece:
                    yield piece
        yield begun + await self._written(self._form.end)

    async def _written(self, write: Callable[[], bytes]) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._writing, write)

    async def _pages(self, first: str, last: int) -> AsyncGenerator[list[Record]]:
        owners = await self._asked(lambda tx: records.owners(tx, self._scope, first))
        while owners:
            for owner in owners:
                async with aclosing(self._pages_of(owner, last if owner == first else 0)) as pages:
                    async for page in pages:
                        yield page
            owners = await self._asked(partial(records.owners, scope=self._scope, first=owners[-1], with_first=False))

    async def _pages_of(self, owner: str, last: int) -> AsyncGenerator[list[Record]]:
        head = (await self._asked(lambda tx: records.heads(tx, [owner]))).get(owner)
        position = Position(last, ceiling=min(head.id, self._ceiling) if head else 0)
        more = position.id < position.ceiling
        while more:
            page = await self._asked(partial(records.page, scope=owner, sieve=self._sieve, limit=ROWS, after=position))
            self._has_begun = True
            if page.items:
                yield page.items
            position, more = page.position, page.more

    async def _asked(self, ask: Callable[[Transaction], Awaitable[Answer]]) -> Answer:
        """Asked in a transaction of its own; an export that has begun waits for a ledger that is away for a moment."""
        tries = 0
        while True:
            try:
                async with self._readers.begin() as tx:
                    return await ask(tx)
            except UnavailableError:
                tries += 1
                if not self._has_begun or tries == TRIES:
                    raise
                await asyncio.sleep(PAUSE)


async def _joined(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece
