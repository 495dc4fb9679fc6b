"""A budget of heartbeats for each fleet. May run before the new version is started: nothing else changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the column; fleets that are there get the budget of a new one."""
    op.add_column(
        "fleets",
        sa.Column(
            "beats_per_second",
            sa.Double(),
            server_default="50000",
            nullable=False,
            comment="heartbeats of all its bots for which there is room; above it intervals are stretched",
        ),
    )


def downgrade() -> None:
    """Drops it."""
    op.drop_column("fleets", "beats_per_second")
