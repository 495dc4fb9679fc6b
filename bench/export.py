"""What an export of a million records costs the web worker that sends it: memory, and how fast it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
from sqlalchemy import text

from bench.processes import worker
from bench.row import Row, at_most
from bench.run import Run
from bench.stores import Stores, stores
from rota.ledger import accounts, keys, profiles
from rota.ledger.connection import Ledger

RECORDS = 1_000_000
MOST_MB = 50
FORMATS = ("ndjson", "csv", "parquet")
_FILL = """
INSERT INTO records (profile_id, epoch, batch, position, bot, kind, data)
SELECT :profile, 1, n / 100, n % 100, 'farm-1/1', 'price',
       jsonb_build_object('url', 'https://example.com/product/' || n, 'price', n % 1000, 'ok', n % 7 > 0,
                          'title', 'Product number ' || n || ' in blue', 'tags', jsonb_build_array('a', 'b', n % 10))
FROM generate_series(1, :number) AS n
"""


def measure(run: Run) -> Iterator[Row]:
    """Each format, as many times as rounds; the first file of Parquet includes loading pyarrow.

    Pages of program files are there once for all workers, and the kernel drops them where it needs the room.
    """
    with stores() as both:
        run.report(f"{RECORDS:,} records")
        profile, key = asyncio.run(_filled(both))
        with worker("rota.web", "--fd", ready="/healthz", environment=both.environment) as (port, pid):
            address = f"http://127.0.0.1:{port}/api/v1/profiles/{profile}/records/export"
            for form in FORMATS:
                yield from _measured(run, address, key, pid, form)


def _measured(run: Run, address: str, key: str, pid: int, form: str) -> Iterator[Row]:
    size = 0
    for number in range(1, run.options.rounds + 1):
        run.report(f"{form}, export {number}")
        before, files = _memory(pid, "VmRSS"), _memory(pid, "RssFile")
        _forget_peak(pid)
        began, size = time.perf_counter(), 0
        with httpx2.stream(
            "GET", address, params={"format": form}, headers={"authorization": f"Bearer {key}"}, timeout=60
        ) as answer:
            answer.raise_for_status()
            for piece in answer.iter_raw():
                size += len(piece)
        took = time.perf_counter() - began
        grown = _memory(pid, "VmHWM") - before
        yield Row(f"{form}, export {number}: memory", grown, "MB", at_most(MOST_MB))
        code = _memory(pid, "RssFile") - files
        yield Row(f"{form}, export {number}: of it pages of program files", code, "MB")
        yield Row(f"{form}, export {number}: records a second", RECORDS / took, "1/s")
    yield Row(f"{form}: size", size / 1e6, "MB")


async def _filled(both: Stores) -> tuple[str, str]:
    """A profile with all records, and an operator's key."""
    ledger = Ledger(both.database_url, timeout=600)
    async with ledger.begin() as tx:
        owner = await accounts.default(tx)
        profile = await profiles.create(tx, account=owner.id, name="acme", config={})
        _, key = await keys.create_api_key(tx, role="operator")
        await tx.execute(text(_FILL), {"profile": profile.id, "number": RECORDS})
    async with ledger.begin() as tx:
        await tx.execute(text("ANALYZE records"))
    await ledger.aclose()
    return profile.id, key


def _memory(pid: int, name: str) -> float:
    """A process's resident memory in MB.

    Now (`VmRSS`), of it from files (`RssFile`), or at most since `_forget_peak` (`VmHWM`).
    """
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
