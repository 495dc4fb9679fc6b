"""The migrations lead to just the schema that `tables.py` describes."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from rota.errors import StoreError
from rota.ledger.connection import engine
from rota.ledger.migrations import config, current, upgrade
from rota.ledger.tables import metadata


async def _run(url: str, work: object) -> object:
    one = engine(url, timeout=20, pooled=False)
    async with one.begin() as connection:
        result: object = await connection.run_sync(work)  # type: ignore[arg-type]
    await one.dispose()
    return result


def migrate(url: str, revision: str) -> None:
    """Up or down to one revision."""

    def move(connection: Connection) -> None:
        made = config()
        made.attributes["connection"] = connection
        at = MigrationContext.configure(connection).get_current_revision()
        (command.downgrade if at is not None and at > revision else command.upgrade)(made, revision)

    asyncio.run(_run(url, move))


def test_the_migrations_make_the_schema_that_the_tables_describe(database_url: str) -> None:
    upgrade(database_url)

    def differences(connection: Connection) -> list[object]:
        query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'records'::regclass"
        partitions = set(connection.execute(text(query)).scalars())
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, *_: name not in partitions,
            },
        )
        return list(compare_metadata(context, metadata))

    assert asyncio.run(_run(database_url, differences)) == []


def test_upgrading_again_changes_nothing(database_url: str) -> None:
    upgrade(database_url)
    at = current(database_url)
    upgrade(database_url)
    assert current(database_url) == at is not None


def test_several_processes_may_migrate_at_once(database_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(upgrade, [database_url] * 4))
    assert current(database_url) is not None


def test_a_database_of_a_newer_rota_is_refused(database_url: str) -> None:
    upgrade(database_url)

    def make_newer(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    asyncio.run(_run(database_url, make_newer))
    with pytest.raises(StoreError, match="newer rota"):
        upgrade(database_url)


def test_a_downgrade_leaves_nothing_behind(database_url: str) -> None:
    upgrade(database_url)

    migrate(database_url, "0002")
    migrate(database_url, "0003")

    def down(connection: Connection) -> int:
        made = config()
        made.attributes["connection"] = connection
        command.downgrade(made, "base")
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        return int(connection.execute(text(query)).scalar_one())

    assert asyncio.run(_run(database_url, down)) == 0


def test_what_was_pushed_before_is_the_first_partition(database_url: str) -> None:
    """An installation with data is upgraded: rows, ids and positions stay, and new ones come after them."""
    migrate(database_url, "0002")

    def fill(connection: Connection) -> None:
        connection.execute(
            text(
                "INSERT INTO records (profile_id, epoch, batch, position, bot, kind, at, received_at, data) "
                "SELECT 'prf_a', 1, n, 0, 's1/1', 'check', now(), now() + (n - 3) * interval '9 days', '{}' "
                "FROM generate_series(1, 5) AS n"
            )
        )

    def add_and_read(connection: Connection) -> list[tuple[int, int, bool]]:
        connection.execute(
            text(
                "INSERT INTO records (profile_id, epoch, batch, position, bot, kind, data) "
                "VALUES ('prf_a', 1, 6, 0, 's1/1', 'check', '{}')"
            )
        )
        rows = connection.execute(
            text("SELECT id, batch, received_at <= now(), tableoid::regclass::text FROM records ORDER BY id")
        ).all()
        assert {row[3] for row in rows} == {"records_first"}
        return [(row[0], row[1], row[2]) for row in rows]

    asyncio.run(_run(database_url, fill))
    upgrade(database_url)
    read = asyncio.run(_run(database_url, add_and_read))
    assert isinstance(read, list)
    assert [row[1:] for row in read] == [(number, True) for number in range(1, 7)]
    assert [row[0] for row in read[:5]] == [1, 2, 3, 4, 5]
    assert read[5][0] > 5
    migrate(database_url, "0002")
    kept = asyncio.run(_run(database_url, lambda connection: connection.execute(text("SELECT id FROM records")).all()))
    assert sorted(kept) == [(row[0],) for row in read]  # type: ignore[call-overload]


def test_every_table_and_column_is_described_in_the_documentation() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")
    for table in metadata.sorted_tables:
        assert f"## {table.name}\n\n{table.comment}" in documented, table.name
        for column in table.columns:
            assert column.comment, f"{table.name}.{column.name} has no comment"
            assert f"| `{column.name}` |" in documented, f"{table.name}.{column.name}"
            assert column.comment.replace("|", "\\|") in documented, f"{table.name}.{column.name}"
