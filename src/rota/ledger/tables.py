"""The one description of the ledger's schema; the migrations must lead to just this, and a test proves it.

`docs/ledger.md` is written from the comments here.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _moment(name: str, comment: str, *, nullable: bool = False, now: bool = False) -> Column[object]:
    default = func.now() if now else None
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=default, comment=comment)


def _limits(whose: str) -> tuple[Column[object], Column[object]]:
    """How long records are kept; NULL keeps them for ever."""
    days: Column[object] = Column("keep_days", Integer, comment=f"days that records of {whose} are kept")
    number: Column[object] = Column("keep_records", BigInteger, comment=f"newest records of each of {whose} are kept")
    return days, number


accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True, comment="`acc_…`"),
    Column("name", Text, nullable=False, unique=True, comment="for people"),
    _moment("created_at", "when it was made", now=True),
    *_limits("its profiles, before what their fleet says"),
    comment="Whoever owns profiles: one per client.",
)

fleets = Table(
    "fleets",
    metadata,
    Column("name", Text, primary_key=True, comment="`default`, or another"),
    Column("interval", Double, nullable=False, comment="seconds between two heartbeats"),
    Column("ttl", Double, nullable=False, comment="seconds that a lease lasts"),
    Column("incarnation", Text, comment="the live state that every wish was applied to"),
    Column("recorded_to", Text, comment="id of the last event that `events` holds"),
    _moment("created_at", "when it was made", now=True),
    *_limits("its profiles"),
    Column(
        "beats_per_second",
        Double,
        nullable=False,
        server_default="50000",
        comment="heartbeats of all its bots for which there is room; above it intervals are stretched",
    ),
    comment="Bots, servers and profiles that share one queue and one policy.",
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True, comment="`key_…`"),
    Column("digest", LargeBinary, nullable=False, unique=True, comment="SHA-256 of the secret"),
    Column("label", Text, nullable=False, comment="for people"),
    Column("role", Text, nullable=False, comment="operator or client"),
    Column("account_id", ForeignKey("accounts.id"), comment="whose profiles a client's key may see"),
    _moment("created_at", "when it was made", now=True),
    _moment("expires_at", "from when on it is refused", nullable=True),
    _moment("revoked_at", "when it was revoked", nullable=True),
    comment="Keys for REST, the command line and signing in.",
)

enrolment_keys = Table(
    "enrolment_keys",
    metadata,
    Column("id", Text, primary_key=True, comment="`enk_…`"),
    Column("digest", LargeBinary, nullable=False, unique=True, comment="SHA-256 of the secret"),
    Column("fleet", ForeignKey("fleets.name"), nullable=False, comment="where its bots come in"),
    Column("label", Text, nullable=False, comment="for people"),
    _moment("created_at", "when it was made", now=True),
    _moment("expires_at", "from when on it is refused", nullable=True),
    _moment("revoked_at", "when it was revoked", nullable=True),
    comment="Keys with which bots introduce themselves at /bot/auth.",
)

servers = Table(
    "servers",
    metadata,
    Column("id", Text, primary_key=True, comment="`srv_…`"),
    Column("fleet", ForeignKey("fleets.name"), nullable=False, comment="whose bots it may run"),
    Column("hostname", Text, nullable=False, comment="exact, or a pattern with `*`"),
    Column("expected_bots", Integer, nullable=False, comment="how many bots each such host should run"),
    Column("labels", JSONB, nullable=False, comment="labels that all its bots bear"),
    _moment("created_at", "when it was listed", now=True),
    UniqueConstraint("fleet", "hostname"),
    comment="Machines that may run bots.",
)

profiles = Table(
    "profiles",
    metadata,
    Column("id", Text, primary_key=True, comment="`prf_…`"),
    Column("fleet", ForeignKey("fleets.name"), nullable=False, comment="whose bots work for it"),
    Column("account_id", ForeignKey("accounts.id"), nullable=False, comment="whose it is"),
    Column("name", Text, nullable=False, comment="for people"),
    Column("wanted", Boolean, nullable=False, comment="the client pressed Start"),
    Column("revision", Integer, nullable=False, comment="newest revision of the configuration"),
    Column("version", BigInteger, nullable=False, comment="rises with every change; live ignores older ones"),
    Column("priority", Integer, nullable=False, comment="-100 … 100; higher is served first"),
    Column("labels", JSONB, nullable=False, comment="labels that a bot must bear"),
    _moment("created_at", "when it was made", now=True),
    _moment("updated_at", "when it was last changed", now=True),
    _moment("deleted_at", "when it was deleted; kept for history", nullable=True),
    Index(None, "fleet", "id"),
    Index(None, "account_id", "id"),
    comment="What clients want to have worked on.",
)

profile_revisions = Table(
    "profile_revisions",
    metadata,
    Column("profile_id", ForeignKey("profiles.id"), primary_key=True, comment="of which profile"),
    Column("revision", Integer, primary_key=True, comment="1, 2, 3 …"),
    Column("config", JSONB, nullable=False, comment="what the bot gets"),
    _moment("created_at", "when it was made", now=True),
    comment="Every configuration that a profile ever had.",
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="order of arrival"),
    Column("fleet", Text, nullable=False, comment="whose live state is concerned"),
    Column("profile_id", Text, nullable=False, comment="which profile changed"),
    _moment("created_at", "when it changed", now=True),
    Index(None, "fleet", "id"),
    comment="Profiles whose current wish may not have reached live state yet.",
)

fences = Table(
    "fences",
    metadata,
    Column("profile_id", Text, primary_key=True, comment="of which profile"),
    Column("epoch", BigInteger, nullable=False, comment="highest epoch handed out; older data is refused"),
    Column("taken_from", BigInteger, comment="batches of this epoch from this number on …"),
    Column("taken_to", BigInteger, comment="… to this one were taken, and are in `batches` no more"),
    Column(
        "forgotten_records",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="how many records the batches held that are in `batches` no more",
    ),
    comment="The fencing token of each profile, apart from it so that locks do not meet those of clients' changes.",
)

assignments = Table(
    "assignments",
    metadata,
    Column("profile_id", Text, primary_key=True, comment="which profile"),
    Column("epoch", BigInteger, primary_key=True, comment="under which epoch"),
    Column("fleet", Text, nullable=False, comment="in which fleet"),
    Column("bot", Text, nullable=False, comment="which bot"),
    Column("server", Text, nullable=False, comment="on which host"),
    _moment("started_at", "when it was granted"),
    _moment("confirmed_at", "when the bot first said that it works", nullable=True),
    _moment("ended_at", "when it ended", nullable=True),
    Column("reason", Text, comment="why it ended: the event and its reason, such as `left: crash`"),
    Index(None, "bot", "started_at"),
    Index("ix_assignments_open", "profile_id", postgresql_where=text("ended_at IS NULL")),
    comment="Who worked for whom, from when to when.",
)

events = Table(
    "events",
    metadata,
    Column("fleet", Text, primary_key=True, comment="in which fleet"),
    Column("id", Text, primary_key=True, comment="id in the live stream, `<ms>-<n>`"),
    _moment("at", "when"),
    Column("kind", Text, nullable=False, comment="what happened; see docs/states.md"),
    Column("bot", Text, comment="to which bot"),
    Column("profile_id", Text, comment="to which profile"),
    Column("epoch", BigInteger, comment="under which epoch"),
    Column("reason", Text, comment="why"),
    Index(None, "fleet", "at", "id"),
    Index(None, "profile_id", "at"),
    Index(None, "bot", "at"),
    comment="Every move of live state.",
)

batches = Table(
    "batches",
    metadata,
    Column("profile_id", Text, primary_key=True, comment="of which profile"),
    Column("epoch", BigInteger, primary_key=True, comment="under which epoch"),
    Column("batch", BigInteger, primary_key=True, comment="the bot's number of it"),
    Column("bot", Text, nullable=False, comment="who pushed it"),
    Column("count", Integer, nullable=False, comment="how many records it held"),
    _moment("received_at", "when it was committed", now=True),
    comment="Which batches were taken, so that the same one again has no effect.",
)

records = Table(
    "records",
    metadata,
    Column(
        "id",
        BigInteger,
        # From the sequence `records_id_seq`: before PostgreSQL 17 partitions have no identity columns.
        autoincrement=True,
        comment="order of arrival; for one profile that of the commits",
    ),
    Column("profile_id", Text, nullable=False, comment="of which profile"),
    Column("epoch", BigInteger, nullable=False, comment="under which epoch"),
    Column("batch", BigInteger, nullable=False, comment="in which batch"),
    Column("position", Integer, nullable=False, comment="where in the batch, from 0"),
    Column("bot", Text, nullable=False, comment="who pushed it"),
    Column("kind", Text, nullable=False, comment="the bot's word for what it is"),
    _moment("at", "when it happened, as the bot says", now=True),
    _moment("received_at", "when it was committed, by the database's clock", now=True),
    Column("data", JSONB, comment="the record itself"),
    PrimaryKeyConstraint("received_at", "id"),
    Index(None, "profile_id", "id"),
    comment="What bots pushed, in one partition a day.",
    postgresql_partition_by="RANGE (received_at)",
)

drains = Table(
    "drains",
    metadata,
    Column("fleet", ForeignKey("fleets.name"), primary_key=True, comment="in which fleet"),
    Column("subject", Text, primary_key=True, comment="a hostname, or a bot's id"),
    _moment("deadline", "from when on what has not ended is killed", nullable=True),
    _moment("created_at", "when it was ordered", now=True),
    _moment("gone_at", "since when the bot is off the roster without having said that it goes", nullable=True),
    comment="Servers and bots that are to finish what they have and take nothing new.",
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="order of arrival"),
    Column("fleet", ForeignKey("fleets.name"), nullable=False, comment="in which fleet"),
    Column("kind", Text, nullable=False, comment="what is wrong: `mass_silence` and so on"),
    Column("subject", Text, nullable=False, comment="what it concerns: a bot, a server, the fleet"),
    Column("message", Text, nullable=False, comment="a sentence for people"),
    Column("detail", JSONB, nullable=False, comment="the figures behind the sentence"),
    _moment("raised_at", "when it was first seen", now=True),
    _moment("seen_at", "when it was last seen to be so", now=True),
    _moment("closed_at", "when it was over", nullable=True),
    Index(None, "fleet", "id"),
    Index("uq_incidents_open", "fleet", "kind", "subject", unique=True, postgresql_where=text("closed_at IS NULL")),
    comment="What an operator has to know of, from when it was seen until it was over.",
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True, comment="what it is for"),
    Column("value", Text, nullable=False, comment="the secret"),
    _moment("created_at", "when it was made", now=True),
    comment="What this installation signs with.",
)

sign_ins = Table(
    "sign_ins",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of the link's token"),
    _moment("expires_at", "from when on it is refused"),
    _moment("used_at", "when it was used", nullable=True),
    comment="One-time links for signing in.",
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True, comment="`whk_…`"),
    Column("fleet", ForeignKey("fleets.name"), comment="whose profiles' records it is for; or"),
    Column("account_id", ForeignKey("accounts.id"), comment="the client whose profiles' records it is for"),
    Column("label", Text, nullable=False, comment="for people"),
    Column("url", Text, nullable=False, comment="where records are sent"),
    Column("kinds", ARRAY(Text), nullable=False, comment="records of these kinds alone; none: of all"),
    Column("state", Text, nullable=False, comment="enabled, paused, gone (it answered 410) or deleted"),
    Column("from_id", BigInteger, nullable=False, comment="records after this one are sent"),
    _moment("from_at", "no such record was received a day before; NULL: from the first one on", nullable=True),
    Column("horizon", BigInteger, comment="transactions before this one may not have seen the webhook"),
    Column("swept_to", Text, comment="profiles up to this one were looked at for records; NULL: all were"),
    Column("failures", Integer, nullable=False, comment="failed attempts in a row"),
    _moment("failing_since", "when the first of them was", nullable=True),
    _moment("not_before", "nothing is sent before this", nullable=True),
    Column("last_status", Integer, comment="status of the newest answer that was noted"),
    Column("last_error", Text, comment="why the newest attempt failed; NULL where it did not"),
    _moment("last_attempt_at", "when an attempt was last noted", nullable=True),
    _moment("last_success_at", "when a success was last noted", nullable=True),
    Column("lost", BigInteger, nullable=False, comment="records that were removed before they could be sent"),
    _moment("lost_at", "when the last of them were found missing", nullable=True),
    _moment("created_at", "when it was registered", now=True),
    Index(None, "account_id", "id"),
    Index(None, "fleet", "id"),
    comment="Where records are sent, as they come.",
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="order of making"),
    Column("webhook_id", ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False, comment="of which webhook"),
    Column("value", Text, nullable=False, comment="`whsec_…`"),
    _moment("created_at", "when it was made", now=True),
    _moment("expires_at", "until when messages are signed with it too; NULL: the newest", nullable=True),
    Index(None, "webhook_id", "id"),
    comment="What webhooks' messages are signed with.",
)

webhook_touches = Table(
    "webhook_touches",
    metadata,
    Column("profile_id", Text, primary_key=True, comment="which profile"),
    comment="Profiles with new records that no webhook was told of yet; written with the records.",
)

webhook_positions = Table(
    "webhook_positions",
    metadata,
    Column("webhook_id", ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True, comment="of which webhook"),
    Column("profile_id", Text, primary_key=True, comment="in which profile's records"),
    Column("last_id", BigInteger, nullable=False, comment="records up to this one are in a delivery, or past"),
    _moment("last_at", "when that one was received", nullable=True),
    _moment("due_at", "when to look for more; infinity while a delivery is under way; NULL: no more", nullable=True),
    Column("lost", BigInteger, nullable=False, server_default="0", comment="removed unsent; the next message tells"),
    Index("ix_webhook_positions_due", "webhook_id", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_webhook_positions_profile_id", "profile_id"),
    comment="How far each webhook has come in each profile's records.",
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Text, primary_key=True, comment="`msg_…`, the message's webhook-id; rises with time"),
    Column("webhook_id", ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False, comment="to which webhook"),
    Column("profile_id", Text, nullable=False, comment="of which profile"),
    Column("from_id", BigInteger, nullable=False, comment="its first record"),
    Column("to_id", BigInteger, nullable=False, comment="its last record"),
    _moment("from_at", "when its earliest record was received"),
    _moment("to_at", "when its latest record was received"),
    Column("kinds", ARRAY(Text), nullable=False, comment="records of these kinds alone; none: of all"),
    Column("count", Integer, nullable=False, comment="how many records it holds"),
    Column("lost", BigInteger, nullable=False, comment="how many were removed unsent just before them"),
    _moment("created_at", "when its records were chosen", now=True),
    _moment("since", "when this series of tries began"),
    Column("tries", Integer, nullable=False, comment="tries of this series"),
    Column("attempts", Integer, nullable=False, comment="all tries; tells a claim from a later one"),
    _moment("due_at", "when it is tried next; while it is, when that must be over; NULL: dead", nullable=True),
    _moment("dead_at", "when it was given up", nullable=True),
    Column("replayed", Boolean, nullable=False, comment="it was dead once: the profile's next one does not wait"),
    Column("last_status", Integer, comment="status of the newest answer"),
    Column("last_error", Text, comment="why the newest try failed"),
    _moment("last_attempt_at", "when it was last tried", nullable=True),
    Index(
        "uq_webhook_deliveries_under_way",
        "webhook_id",
        "profile_id",
        unique=True,
        postgresql_where=text("dead_at IS NULL AND NOT replayed"),
    ),
    Index("ix_webhook_deliveries_due", "webhook_id", "due_at", postgresql_where=text("dead_at IS NULL")),
    Index("ix_webhook_deliveries_dead", "webhook_id", "id", postgresql_where=text("dead_at IS NOT NULL")),
    comment="Batches of records that are being sent to a webhook, and dead letters: those that were given up.",
)
