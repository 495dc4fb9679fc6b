"""Webhooks, and how far each has come. May run before the new version is started: nothing else changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "webhook_touches",
        sa.Column("profile_id", sa.Text(), nullable=False, comment="which profile"),
        sa.PrimaryKeyConstraint("profile_id", name=op.f("pk_webhook_touches")),
        comment="Profiles with new records that no webhook was told of yet; written with the records.",
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Text(), nullable=False, comment="`whk_…`"),
        sa.Column("fleet", sa.Text(), nullable=True, comment="whose profiles' records it is for; or"),
        sa.Column("account_id", sa.Text(), nullable=True, comment="the client whose profiles' records it is for"),
        sa.Column("label", sa.Text(), nullable=False, comment="for people"),
        sa.Column("url", sa.Text(), nullable=False, comment="where records are sent"),
        sa.Column(
            "kinds", postgresql.ARRAY(sa.Text()), nullable=False, comment="records of these kinds alone; none: of all"
        ),
        sa.Column("state", sa.Text(), nullable=False, comment="enabled, paused, gone (it answered 410) or deleted"),
        sa.Column("from_id", sa.BigInteger(), nullable=False, comment="records after this one are sent"),
        sa.Column(
            "from_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="no such record was received a day before; NULL: from the first one on",
        ),
        sa.Column(
            "horizon",
            sa.BigInteger(),
            nullable=True,
            comment="transactions before this one may not have seen the webhook",
        ),
        sa.Column(
            "swept_to",
            sa.Text(),
            nullable=True,
            comment="profiles up to this one were looked at for records; NULL: all were",
        ),
        sa.Column("failures", sa.Integer(), nullable=False, comment="failed attempts in a row"),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True, comment="when the first of them was"),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True, comment="nothing is sent before this"),
        sa.Column("last_status", sa.Integer(), nullable=True, comment="status of the newest answer that was noted"),
        sa.Column(
            "last_error", sa.Text(), nullable=True, comment="why the newest attempt failed; NULL where it did not"
        ),
        sa.Column(
            "last_attempt_at", sa.DateTime(timezone=True), nullable=True, comment="when an attempt was last noted"
        ),
        sa.Column(
            "last_success_at", sa.DateTime(timezone=True), nullable=True, comment="when a success was last noted"
        ),
        sa.Column(
            "lost", sa.BigInteger(), nullable=False, comment="records that were removed before they could be sent"
        ),
        sa.Column(
            "lost_at", sa.DateTime(timezone=True), nullable=True, comment="when the last of them were found missing"
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was registered",
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_webhooks_account_id")),
        sa.ForeignKeyConstraint(["fleet"], ["fleets.name"], name=op.f("fk_webhooks_fleet")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
        comment="Where records are sent, as they come.",
    )
    op.create_index(op.f("ix_webhooks_account_id_id"), "webhooks", ["account_id", "id"], unique=False)
    op.create_index(op.f("ix_webhooks_fleet_id"), "webhooks", ["fleet", "id"], unique=False)
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Text(), nullable=False, comment="`msg_…`, the message's webhook-id; rises with time"),
        sa.Column("webhook_id", sa.Text(), nullable=False, comment="to which webhook"),
        sa.Column("profile_id", sa.Text(), nullable=False, comment="of which profile"),
        sa.Column("from_id", sa.BigInteger(), nullable=False, comment="its first record"),
        sa.Column("to_id", sa.BigInteger(), nullable=False, comment="its last record"),
        sa.Column(
            "from_at", sa.DateTime(timezone=True), nullable=False, comment="when its earliest record was received"
        ),
        sa.Column("to_at", sa.DateTime(timezone=True), nullable=False, comment="when its latest record was received"),
        sa.Column(
            "kinds", postgresql.ARRAY(sa.Text()), nullable=False, comment="records of these kinds alone; none: of all"
        ),
        sa.Column("count", sa.Integer(), nullable=False, comment="how many records it holds"),
        sa.Column("lost", sa.BigInteger(), nullable=False, comment="how many were removed unsent just before them"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when its records were chosen",
        ),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False, comment="when this series of tries began"),
        sa.Column("tries", sa.Integer(), nullable=False, comment="tries of this series"),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="all tries; tells a claim from a later one"),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it is tried next; while it is, when that must be over; NULL: dead",
        ),
        sa.Column("dead_at", sa.DateTime(timezone=True), nullable=True, comment="when it was given up"),
        sa.Column(
            "replayed", sa.Boolean(), nullable=False, comment="it was dead once: the profile's next one does not wait"
        ),
        sa.Column("last_status", sa.Integer(), nullable=True, comment="status of the newest answer"),
        sa.Column("last_error", sa.Text(), nullable=True, comment="why the newest try failed"),
        sa.Column("last_attempt_at", sa.DateTime(timezone=True), nullable=True, comment="when it was last tried"),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_webhook_deliveries_webhook_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
        comment="Batches of records that are being sent to a webhook, and dead letters: those that were given up.",
    )
    op.create_index(
        "ix_webhook_deliveries_dead",
        "webhook_deliveries",
        ["webhook_id", "id"],
        unique=False,
        postgresql_where=sa.text("dead_at IS NOT NULL"),
    )
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["webhook_id", "due_at"],
        unique=False,
        postgresql_where=sa.text("dead_at IS NULL"),
    )
    op.create_index(
        "uq_webhook_deliveries_under_way",
        "webhook_deliveries",
        ["webhook_id", "profile_id"],
        unique=True,
        postgresql_where=sa.text("dead_at IS NULL AND NOT replayed"),
    )
    op.create_table(
        "webhook_positions",
        sa.Column("webhook_id", sa.Text(), nullable=False, comment="of which webhook"),
        sa.Column("profile_id", sa.Text(), nullable=False, comment="in which profile's records"),
        sa.Column(
            "last_id", sa.BigInteger(), nullable=False, comment="records up to this one are in a delivery, or past"
        ),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=True, comment="when that one was received"),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when to look for more; infinity while a delivery is under way; NULL: no more",
        ),
        sa.Column(
            "lost",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="removed unsent; the next message tells",
        ),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_webhook_positions_webhook_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("webhook_id", "profile_id", name=op.f("pk_webhook_positions")),
        comment="How far each webhook has come in each profile's records.",
    )
    op.create_index(
        "ix_webhook_positions_due",
        "webhook_positions",
        ["webhook_id", "due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_webhook_positions_profile_id", "webhook_positions", ["profile_id"], unique=False)
    op.create_table(
        "webhook_secrets",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of making"),
        sa.Column("webhook_id", sa.Text(), nullable=False, comment="of which webhook"),
        sa.Column("value", sa.Text(), nullable=False, comment="`whsec_…`"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was made",
        ),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="until when messages are signed with it too; NULL: the newest",
        ),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_webhook_secrets_webhook_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_secrets")),
        comment="What webhooks' messages are signed with.",
    )
    op.create_index(op.f("ix_webhook_secrets_webhook_id_id"), "webhook_secrets", ["webhook_id", "id"], unique=False)


def downgrade() -> None:
    """Drops them."""
    op.drop_table("webhook_secrets")
    op.drop_table("webhook_positions")
    op.drop_table("webhook_deliveries")
    op.drop_table("webhooks")
    op.drop_table("webhook_touches")
