"""Being away, being wrong, and who leads."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from rota.embedded import EmbeddedPostgres
from rota.errors import StoreError, UnavailableError
from rota.ledger.connection import Leadership, Ledger


async def test_a_database_that_is_away_is_unavailable(tmp_path: object) -> None:
    ledger = Ledger(f"postgresql://rota@/rota?host={tmp_path}", timeout=1)
    with pytest.raises(UnavailableError):
        async with ledger.begin() as tx:
            await tx.execute(text("SELECT 1"))
    with pytest.raises(StoreError, match="cannot reach PostgreSQL"):
        await ledger.check()
    await ledger.aclose()


@pytest.mark.parametrize("url", ["mysql://x/y", "not an address", "redis://x"])
def test_what_is_no_postgresql_address_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="ROTA_DATABASE_URL"):
        Ledger(url)


async def test_a_missing_database_is_named(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(StoreError, match="does not exist"):
        await Ledger(postgres.url_of("nowhere")).check()


async def test_a_good_database_passes_the_check(ledger: Ledger) -> None:
    await ledger.check()


async def test_a_connection_that_the_server_cut_is_unavailable_once_and_then_replaced(ledger: Ledger) -> None:
    async def cut() -> None:
        async with ledger.begin() as tx:
            await tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(UnavailableError):
        await cut()
    async with ledger.begin() as tx:
        assert (await tx.execute(text("SELECT 1"))).scalar_one() == 1


async def test_a_statement_that_takes_too_long_is_given_up(migrated_database_url: str) -> None:
    ledger = Ledger(migrated_database_url, timeout=0.3)
    with pytest.raises(UnavailableError):
        async with ledger.begin() as tx:
            await tx.execute(text("SELECT pg_sleep(5)"))
    await ledger.aclose()


async def test_a_database_that_hangs_is_logged_with_how_long_it_was_waited_for() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await reader.read()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        ledger = Ledger(f"postgresql://rota@127.0.0.1:{server.sockets[0].getsockname()[1]}/rota", timeout=0.3)
        with capture_logs() as lines, pytest.raises(UnavailableError):
            async with ledger.begin():
                pass
        await ledger.aclose()
    assert [(line["event"], line["error"]) for line in lines] == [("ledger away", "no answer within 0.3 s")]


async def test_one_steward_leads_and_another_takes_over_when_its_connection_ends(ledger: Ledger) -> None:
    first, second = Leadership(ledger), Leadership(ledger)
    assert await first.try_acquire()
    assert await first.held()
    assert not await second.try_acquire()
    assert not await second.held()
    async with ledger.begin() as tx:
        await tx.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"))
    assert not await first.held()
    async with asyncio.timeout(10):
        while not await second.try_acquire():  # noqa: ASYNC110 - each try asks the database
            await asyncio.sleep(0)
    await second.release()
    assert not await second.held()
