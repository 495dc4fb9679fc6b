"""Incidents, and drains that outlast live state. May run before the new version is started: nothing else changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes both tables."""
    op.create_table(
        "drains",
        sa.Column("fleet", sa.Text(), nullable=False, comment="in which fleet"),
        sa.Column("subject", sa.Text(), nullable=False, comment="a hostname, or a bot's id"),
        sa.Column(
            "deadline",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="from when on what has not ended is killed",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was ordered",
        ),
        sa.ForeignKeyConstraint(["fleet"], ["fleets.name"], name=op.f("fk_drains_fleet")),
        sa.PrimaryKeyConstraint("fleet", "subject", name=op.f("pk_drains")),
        comment="Servers and bots that are to finish what they have and take nothing new.",
    )
    op.create_table(
        "incidents",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of arrival"),
        sa.Column("fleet", sa.Text(), nullable=False, comment="in which fleet"),
        sa.Column("kind", sa.Text(), nullable=False, comment="what is wrong: `mass_silence` and so on"),
        sa.Column("subject", sa.Text(), nullable=False, comment="what it concerns: a bot, a server, the fleet"),
        sa.Column("message", sa.Text(), nullable=False, comment="a sentence for people"),
        sa.Column("detail", postgresql.JSONB(), nullable=False, comment="the figures behind the sentence"),
        sa.Column(
            "raised_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was first seen",
        ),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was last seen to be so",
        ),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True, comment="when it was over"),
        sa.ForeignKeyConstraint(["fleet"], ["fleets.name"], name=op.f("fk_incidents_fleet")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
        comment="What an operator has to know of, from when it was seen until it was over.",
    )
    op.create_index(op.f("ix_incidents_fleet_id"), "incidents", ["fleet", "id"])
    op.create_index(
        "uq_incidents_open",
        "incidents",
        ["fleet", "kind", "subject"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL"),
    )


def downgrade() -> None:
    """Drops both tables."""
    op.drop_table("incidents")
    op.drop_table("drains")
