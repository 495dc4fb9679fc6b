"""Since when a drained bot is off the roster. May run before the new version is started: nothing else changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column."""
    op.add_column(
        "drains",
        sa.Column(
            "gone_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="since when the bot is off the roster without having said that it goes",
        ),
    )


def downgrade() -> None:
    """Drops it."""
    op.drop_column("drains", "gone_at")
