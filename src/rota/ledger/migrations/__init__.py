"""Brings a database to the schema of `rota.ledger.tables`, by Alembic. Called by `rota serve` before anything else."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from rota.errors import StoreError
from rota.ledger.connection import engine

MIGRATION_LOCK = 7_682_002
"""Key of the advisory lock under which migrations run, one process at a time."""
MIGRATION_TIMEOUT = 600.0
"""Seconds that one statement of a migration may take."""


def upgrade(url: str) -> None:
    """Brings the database to the newest schema; safe when several processes do it at once.

    Raises:
        StoreError: the database was migrated by a newer rota, or does not let its user make tables.
    """
    try:
        asyncio.run(_run(url, _upgrade))
    except DBAPIError as error:
        reason = str(error.orig).rpartition(">: ")[2].partition("\n")[0]
        msg = f"cannot migrate the database: {reason}; the user in ROTA_DATABASE_URL must own it and may make tables"
        raise StoreError(msg) from None


def current(url: str) -> str | None:
    """The revision that the database is at; None for an empty one."""
    return asyncio.run(_run(url, _revision))


def config() -> Config:
    """Alembic's configuration; the scripts are part of the package, there is no ini file."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    return made


async def _run(url: str, work: object) -> str | None:
    one = engine(url, timeout=MIGRATION_TIMEOUT, pooled=False)
    try:
        async with one.begin() as connection:
            result: str | None = await connection.run_sync(work)  # type: ignore[arg-type]
            return result
    finally:
        await one.dispose()


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    made = config()
    known = {script.revision for script in ScriptDirectory.from_config(made).walk_revisions()}
    at = _revision(connection)
    if at is not None and at not in known:
        raise StoreError(f"the database was migrated by a newer rota (schema {at}): update rota to use it")
    made.attributes["connection"] = connection
    command.upgrade(made, "head")
