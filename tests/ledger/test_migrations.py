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


def test_the_migrations_make_the_schema_that_the_tables_describe(database_url: str) -> None:
    upgrade(database_url)

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
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

    def down(connection: Connection) -> int:
        made = config()
        made.attributes["connection"] = connection
        command.downgrade(made, "base")
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        return int(connection.execute(text(query)).scalar_one())

    assert asyncio.run(_run(database_url, down)) == 0


def test_every_table_and_column_is_described_in_the_documentation() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")
    for table in metadata.sorted_tables:
        assert f"## {table.name}\n\n{table.comment}" in documented, table.name
        for column in table.columns:
            assert column.comment, f"{table.name}.{column.name} has no comment"
            assert f"| `{column.name}` |" in documented, f"{table.name}.{column.name}"
            assert column.comment.replace("|", "\\|") in documented, f"{table.name}.{column.name}"
