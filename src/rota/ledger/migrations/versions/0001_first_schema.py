"""The first schema, and the fleet that is always there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Makes all tables and the fleet `default`."""
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text(), nullable=False, comment="`acc_…`"),
        sa.Column("name", sa.Text(), nullable=False, comment="for people"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was made",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("name", name=op.f("uq_accounts_name")),
        comment="Whoever owns profiles: one per client.",
    )
    op.create_table(
        "assignments",
        sa.Column("profile_id", sa.Text(), nullable=False, comment="which profile"),
        sa.Column("epoch", sa.BigInteger(), nullable=False, comment="under which epoch"),
        sa.Column("fleet", sa.Text(), nullable=False, comment="in which fleet"),
        sa.Column("bot", sa.Text(), nullable=False, comment="which bot"),
        sa.Column("server", sa.Text(), nullable=False, comment="on which host"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, comment="when it was granted"),
        sa.Column(
            "confirmed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the bot first said that it works",
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True, comment="when it ended"),
        sa.Column(
            "reason",
            sa.Text(),
            nullable=True,
            comment="why it ended: the event and its reason, such as `left: crash`",
        ),
        sa.PrimaryKeyConstraint("profile_id", "epoch", name=op.f("pk_assignments")),
        comment="Who worked for whom, from when to when.",
    )
    op.create_index(op.f("ix_assignments_bot_started_at"), "assignments", ["bot", "started_at"], unique=False)
    op.create_index(
        "ix_assignments_open",
        "assignments",
        ["profile_id"],
        unique=False,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "batches",
        sa.Column("profile_id", sa.Text(), nullable=False, comment="of which profile"),
        sa.Column("epoch", sa.BigInteger(), nullable=False, comment="under which epoch"),
        sa.Column("batch", sa.BigInteger(), nullable=False, comment="the bot's number of it"),
        sa.Column("bot", sa.Text(), nullable=False, comment="who pushed it"),
        sa.Column("count", sa.Integer(), nullable=False, comment="how many records it held"),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was committed",
        ),
        sa.PrimaryKeyConstraint("profile_id", "epoch", "batch", name=op.f("pk_batches")),
        comment="Which batches were taken, so that the same one again has no effect.",
    )
    op.create_table(
        "events",
        sa.Column("fleet", sa.Text(), nullable=False, comment="in which fleet"),
        sa.Column("id", sa.Text(), nullable=False, comment="id in the live stream, `<ms>-<n>`"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, comment="when"),
        sa.Column("kind", sa.Text(), nullable=False, comment="what happened; see docs/states.md"),
        sa.Column("bot", sa.Text(), nullable=True, comment="to which bot"),
        sa.Column("profile_id", sa.Text(), nullable=True, comment="to which profile"),
        sa.Column("epoch", sa.BigInteger(), nullable=True, comment="under which epoch"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why"),
        sa.PrimaryKeyConstraint("fleet", "id", name=op.f("pk_events")),
        comment="Every move of live state.",
    )
    op.create_index(op.f("ix_events_bot_at"), "events", ["bot", "at"], unique=False)
    op.create_index(op.f("ix_events_fleet_at_id"), "events", ["fleet", "at", "id"], unique=False)
    op.create_index(op.f("ix_events_profile_id_at"), "events", ["profile_id", "at"], unique=False)
    op.create_table(
        "fences",
        sa.Column("profile_id", sa.Text(), nullable=False, comment="of which profile"),
        sa.Column(
            "epoch",
            sa.BigInteger(),
            nullable=False,
            comment="highest epoch handed out; older data is refused",
        ),
        sa.PrimaryKeyConstraint("profile_id", name=op.f("pk_fences")),
        comment="The fencing token of each profile, apart from it so that locks do not meet those of clients' changes.",
    )
    op.create_table(
        "fleets",
        sa.Column("name", sa.Text(), nullable=False, comment="`default`, or another"),
        sa.Column("interval", sa.Double(), nullable=False, comment="seconds between two heartbeats"),
        sa.Column("ttl", sa.Double(), nullable=False, comment="seconds that a lease lasts"),
        sa.Column("incarnation", sa.Text(), nullable=True, comment="the live state that every wish was applied to"),
        sa.Column("recorded_to", sa.Text(), nullable=True, comment="id of the last event that `events` holds"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was made",
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_fleets")),
        comment="Bots, servers and profiles that share one queue and one policy.",
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of arrival"),
        sa.Column("fleet", sa.Text(), nullable=False, comment="whose live state is concerned"),
        sa.Column("profile_id", sa.Text(), nullable=False, comment="which profile changed"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it changed",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        comment="Profiles whose current wish may not have reached live state yet.",
    )
    op.create_index(op.f("ix_outbox_fleet_id"), "outbox", ["fleet", "id"], unique=False)
    op.create_table(
        "records",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="order of arrival"),
        sa.Column("profile_id", sa.Text(), nullable=False, comment="of which profile"),
        sa.Column("epoch", sa.BigInteger(), nullable=False, comment="under which epoch"),
        sa.Column("batch", sa.BigInteger(), nullable=False, comment="in which batch"),
        sa.Column("position", sa.Integer(), nullable=False, comment="where in the batch, from 0"),
        sa.Column("bot", sa.Text(), nullable=False, comment="who pushed it"),
        sa.Column("kind", sa.Text(), nullable=False, comment="the bot's word for what it is"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, comment="when it happened, as the bot says"),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False, comment="when it arrived"),
        sa.Column("data", postgresql.JSONB(), nullable=True, comment="the record itself"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_records")),
        comment="What bots pushed.",
    )
    op.create_index(op.f("ix_records_profile_id_id"), "records", ["profile_id", "id"], unique=False)
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text(), nullable=False, comment="what it is for"),
        sa.Column("value", sa.Text(), nullable=False, comment="the secret"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was made",
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_secrets")),
        comment="What this installation signs with.",
    )
    op.create_table(
        "sign_ins",
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the link's token"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, comment="from when on it is refused"),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True, comment="when it was used"),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sign_ins")),
        comment="One-time links for signing in.",
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False, comment="`key_…`"),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the secret"),
        sa.Column("label", sa.Text(), nullable=False, comment="for people"),
        sa.Column("role", sa.Text(), nullable=False, comment="operator or client"),
        sa.Column("account_id", sa.Text(), nullable=True, comment="whose profiles a client's key may see"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was made",
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True, comment="from when on it is refused"),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True, comment="when it was revoked"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_api_keys_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
        comment="Keys for REST, the command line and signing in.",
    )
    op.create_table(
        "enrolment_keys",
        sa.Column("id", sa.Text(), nullable=False, comment="`enk_…`"),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the secret"),
        sa.Column("fleet", sa.Text(), nullable=False, comment="where its bots come in"),
        sa.Column("label", sa.Text(), nullable=False, comment="for people"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was made",
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True, comment="from when on it is refused"),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True, comment="when it was revoked"),
        sa.ForeignKeyConstraint(["fleet"], ["fleets.name"], name=op.f("fk_enrolment_keys_fleet")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_enrolment_keys_digest")),
        comment="Keys with which bots introduce themselves at /bot/auth.",
    )
    op.create_table(
        "profiles",
        sa.Column("id", sa.Text(), nullable=False, comment="`prf_…`"),
        sa.Column("fleet", sa.Text(), nullable=False, comment="whose bots work for it"),
        sa.Column("account_id", sa.Text(), nullable=False, comment="whose it is"),
        sa.Column("name", sa.Text(), nullable=False, comment="for people"),
        sa.Column("wanted", sa.Boolean(), nullable=False, comment="the client pressed Start"),
        sa.Column("revision", sa.Integer(), nullable=False, comment="newest revision of the configuration"),
        sa.Column(
            "version",
            sa.BigInteger(),
            nullable=False,
            comment="rises with every change; live ignores older ones",
        ),
        sa.Column("priority", sa.Integer(), nullable=False, comment="-100 … 100; higher is served first"),
        sa.Column(
            "labels",
            postgresql.JSONB(),
            nullable=False,
            comment="labels that a bot must bear",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was made",
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was last changed",
        ),
        sa.Column(
            "deleted_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it was deleted; kept for history",
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_profiles_account_id")),
        sa.ForeignKeyConstraint(["fleet"], ["fleets.name"], name=op.f("fk_profiles_fleet")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_profiles")),
        comment="What clients want to have worked on.",
    )
    op.create_index(op.f("ix_profiles_account_id_id"), "profiles", ["account_id", "id"], unique=False)
    op.create_index(op.f("ix_profiles_fleet_id"), "profiles", ["fleet", "id"], unique=False)
    op.create_table(
        "servers",
        sa.Column("id", sa.Text(), nullable=False, comment="`srv_…`"),
        sa.Column("fleet", sa.Text(), nullable=False, comment="whose bots it may run"),
        sa.Column("hostname", sa.Text(), nullable=False, comment="exact, or a pattern with `*`"),
        sa.Column("expected_bots", sa.Integer(), nullable=False, comment="how many bots each such host should run"),
        sa.Column(
            "labels",
            postgresql.JSONB(),
            nullable=False,
            comment="labels that all its bots bear",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was listed",
        ),
        sa.ForeignKeyConstraint(["fleet"], ["fleets.name"], name=op.f("fk_servers_fleet")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_servers")),
        sa.UniqueConstraint("fleet", "hostname", name=op.f("uq_servers_fleet_hostname")),
        comment="Machines that may run bots.",
    )
    op.create_table(
        "profile_revisions",
        sa.Column("profile_id", sa.Text(), nullable=False, comment="of which profile"),
        sa.Column("revision", sa.Integer(), nullable=False, comment="1, 2, 3 …"),
        sa.Column("config", postgresql.JSONB(), nullable=False, comment="what the bot gets"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when it was made",
        ),
        sa.ForeignKeyConstraint(["profile_id"], ["profiles.id"], name=op.f("fk_profile_revisions_profile_id")),
        sa.PrimaryKeyConstraint("profile_id", "revision", name=op.f("pk_profile_revisions")),
        comment="Every configuration that a profile ever had.",
    )
    op.execute("INSERT INTO fleets (name, interval, ttl) VALUES ('default', 30, 90)")


def downgrade() -> None:
    """Drops all tables."""
    op.drop_table("profile_revisions")
    op.drop_table("servers")
    op.drop_index(op.f("ix_profiles_fleet_id"), table_name="profiles")
    op.drop_index(op.f("ix_profiles_account_id_id"), table_name="profiles")
    op.drop_table("profiles")
    op.drop_table("enrolment_keys")
    op.drop_table("api_keys")
    op.drop_table("sign_ins")
    op.drop_table("secrets")
    op.drop_index(op.f("ix_records_profile_id_id"), table_name="records")
    op.drop_table("records")
    op.drop_index(op.f("ix_outbox_fleet_id"), table_name="outbox")
    op.drop_table("outbox")
    op.drop_table("fleets")
    op.drop_table("fences")
    op.drop_index(op.f("ix_events_profile_id_at"), table_name="events")
    op.drop_index(op.f("ix_events_fleet_at_id"), table_name="events")
    op.drop_index(op.f("ix_events_bot_at"), table_name="events")
    op.drop_table("events")
    op.drop_table("batches")
    op.drop_index("ix_assignments_open", table_name="assignments", postgresql_where=sa.text("ended_at IS NULL"))
    op.drop_index(op.f("ix_assignments_bot_started_at"), table_name="assignments")
    op.drop_table("assignments")
    op.drop_table("accounts")
