"""Metric history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shipway.store.sql.tables import Instant

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = ("environment", "endpoint", "step_s", "at", "version")
    op.create_table(
        "metric_windows",
        sa.Column("environment", sa.String(63), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("step_s", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("version", sa.String(80), nullable=False),
        sa.Column("counts", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint(*key, name="pk_metric_windows"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_metric_windows_at", "metric_windows", ["environment", "step_s", "at"])
    op.create_table(
        "metric_sources",
        sa.Column("environment", sa.String(63), nullable=False),
        sa.Column("source", sa.String(63), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("version", sa.String(80), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("counts", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint(
            "environment", "source", "endpoint", "version", name="pk_metric_sources"
        ),
    )


def downgrade() -> None:
    op.drop_table("metric_sources")
    op.drop_index("ix_metric_windows_at", "metric_windows")
    op.drop_table("metric_windows")
