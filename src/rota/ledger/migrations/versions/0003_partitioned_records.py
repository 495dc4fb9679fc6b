"""Records in one partition a day, limits on how long they are kept, and fences that let old batches be forgotten.

Runs while nothing pushes. What was pushed before becomes the first partition by being attached, not copied: one index
is built and the table is read three times.
"""

from __future__ import annotations

from itertools import pairwise

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DAYS_AHEAD = 7


def upgrade() -> None:
    """Makes the partitioned table around the rows that are there."""
    _add_limits()
    connection = op.get_bind()
    op.execute("LOCK TABLE records IN ACCESS EXCLUSIVE MODE")
    # A worker's clock that was ahead must not push the end of the first partition into the future.
    op.execute("UPDATE records SET received_at = now() WHERE received_at > now()")
    first_id = connection.execute(sa.text("SELECT nextval('records_id_seq')")).scalar_one()
    op.execute("ALTER TABLE records ALTER COLUMN id DROP IDENTITY")
    op.execute("ALTER TABLE records RENAME TO records_first")
    op.execute("ALTER INDEX ix_records_profile_id_id RENAME TO records_first_profile_id_id_idx")
    op.execute("ALTER TABLE records_first DROP CONSTRAINT pk_records")
    op.execute("ALTER TABLE records_first ADD CONSTRAINT records_first_pkey PRIMARY KEY (received_at, id)")
    op.execute(f"CREATE SEQUENCE records_id_seq START WITH {int(first_id)}")
    op.create_table(
        "records",
        *_columns(),
        sa.PrimaryKeyConstraint("received_at", "id", name=op.f("pk_records")),
        comment="What bots pushed, in one partition a day.",
        postgresql_partition_by="RANGE (received_at)",
    )
    op.create_index(op.f("ix_records_profile_id_id"), "records", ["profile_id", "id"])
    op.execute("ALTER SEQUENCE records_id_seq OWNED BY records.id")
    op.execute("ALTER TABLE records_first ALTER COLUMN id SET DEFAULT nextval('records_id_seq')")
    op.execute("ALTER TABLE records_first ALTER COLUMN at SET DEFAULT now()")
    op.execute("ALTER TABLE records_first ALTER COLUMN received_at SET DEFAULT now()")
    days = [
        str(row[0])
        for row in connection.execute(
            sa.text("SELECT (now() AT TIME ZONE 'UTC')::date + n FROM generate_series(1, :ahead + 1) AS n"),
            {"ahead": DAYS_AHEAD},
        )
    ]
    # With the constraint there, attaching need not read the table once more.
    op.execute(f"ALTER TABLE records_first ADD CONSTRAINT past CHECK (received_at < '{days[0]} 00:00+00')")
    op.execute(
        f"ALTER TABLE records ATTACH PARTITION records_first FOR VALUES FROM (MINVALUE) TO ('{days[0]} 00:00+00')"
    )
    op.execute("ALTER TABLE records_first DROP CONSTRAINT past")
    for day, end in pairwise(days):
        op.execute(
            f"CREATE TABLE records_{day.replace('-', '')} PARTITION OF records "
            f"FOR VALUES FROM ('{day} 00:00+00') TO ('{end} 00:00+00')"
        )


def downgrade() -> None:
    """Copies all rows into one table again."""
    op.execute("ALTER TABLE records RENAME TO records_partitioned")
    op.execute("ALTER INDEX pk_records RENAME TO pk_records_partitioned")
    op.execute("ALTER INDEX ix_records_profile_id_id RENAME TO ix_records_partitioned")
    op.execute("ALTER SEQUENCE records_id_seq RENAME TO records_partitioned_id_seq")
    op.create_table(
        "records",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="order of arrival"),
        *(column for column in _columns() if column.name != "id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_records")),
        comment="What bots pushed.",
    )
    names = ", ".join(column.name for column in _columns())
    op.execute(f"INSERT INTO records ({names}) SELECT {names} FROM records_partitioned")  # noqa: S608 - our own names
    op.execute("SELECT setval('records_id_seq', nextval('records_partitioned_id_seq'))")
    op.execute("ALTER TABLE records ALTER COLUMN at DROP DEFAULT, ALTER COLUMN received_at DROP DEFAULT")
    op.create_index(op.f("ix_records_profile_id_id"), "records", ["profile_id", "id"])
    op.execute("DROP TABLE records_partitioned")
    for table in ("fleets", "accounts"):
        op.drop_column(table, "keep_records")
        op.drop_column(table, "keep_days")
    for column in ("forgotten_records", "taken_to", "taken_from"):
        op.drop_column("fences", column)


def _add_limits() -> None:
    for table, whose in (("fleets", "its profiles"), ("accounts", "its profiles, before what their fleet says")):
        op.add_column(
            table, sa.Column("keep_days", sa.Integer(), nullable=True, comment=f"days that records of {whose} are kept")
        )
        op.add_column(
            table,
            sa.Column(
                "keep_records", sa.BigInteger(), nullable=True, comment=f"newest records of each of {whose} are kept"
            ),
        )
    op.add_column(
        "fences",
        sa.Column("taken_from", sa.BigInteger(), nullable=True, comment="batches of this epoch from this number on …"),
    )
    op.add_column(
        "fences",
        sa.Column(
            "taken_to",
            sa.BigInteger(),
            nullable=True,
            comment="… to this one were taken, and are in `batches` no more",
        ),
    )
    op.add_column(
        "fences",
        sa.Column(
            "forgotten_records",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="how many records the batches held that are in `batches` no more",
        ),
    )


def _columns() -> list[sa.Column[object]]:
    return [
        sa.Column(
            "id",
            sa.BigInteger(),
            server_default=sa.text("nextval('records_id_seq')"),
            nullable=False,
            comment="order of arrival; for one profile that of the commits",
        ),
        sa.Column("profile_id", sa.Text(), nullable=False, comment="of which profile"),
        sa.Column("epoch", sa.BigInteger(), nullable=False, comment="under which epoch"),
        sa.Column("batch", sa.BigInteger(), nullable=False, comment="in which batch"),
        sa.Column("position", sa.Integer(), nullable=False, comment="where in the batch, from 0"),
        sa.Column("bot", sa.Text(), nullable=False, comment="who pushed it"),
        sa.Column("kind", sa.Text(), nullable=False, comment="the bot's word for what it is"),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it happened, as the bot says",
        ),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was committed, by the database's clock",
        ),
        sa.Column("data", postgresql.JSONB(), nullable=True, comment="the record itself"),
    ]
