"""Monitors: their runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shipway.store.sql.tables import Instant

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "monitor_runs",
        sa.Column("id", sa.String(63), nullable=False),
        sa.Column("environment", sa.String(63), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("monitor", sa.String(63), nullable=False),
        sa.Column("due_at", Instant, nullable=False),
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("report", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_monitor_runs"),
        sa.UniqueConstraint(
            "environment",
            "endpoint",
            "monitor",
            "due_at",
            name="uq_monitor_runs_environment_endpoint_monitor_due_at",
        ),
    )
    op.create_index("ix_monitor_runs_state", "monitor_runs", ["state", "due_at"])


def downgrade() -> None:
    op.drop_index("ix_monitor_runs_state", "monitor_runs")
    op.drop_table("monitor_runs")
