"""The prediction log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shipway.store.sql.tables import Instant

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "segments",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("gateway", sa.String(255), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("frames", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_segments"),
    )
    op.create_index("ix_segments_at", "segments", ["at"])
    op.create_table(
        "prediction_files",
        sa.Column("path", sa.String(512), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("environment", sa.String(63), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("since", Instant, nullable=False),
        sa.Column("until", Instant, nullable=False),
        sa.Column("shape", sa.String(32), nullable=False),
        sa.Column("keep_days", sa.Integer, nullable=False),
        sa.Column("retired_at", Instant, nullable=True),
        sa.PrimaryKeyConstraint("path", name="pk_prediction_files"),
    )
    op.create_index("ix_prediction_files_retired_at", "prediction_files", ["retired_at"])
    op.create_index(
        "ix_prediction_files_endpoint", "prediction_files", ["environment", "endpoint", "day"]
    )
    op.create_table(
        "prediction_shapes",
        sa.Column("hash", sa.String(32), nullable=False),
        sa.Column("shape", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_prediction_shapes"),
    )


def downgrade() -> None:
    op.drop_table("prediction_shapes")
    op.drop_table("prediction_files")
    op.drop_table("segments")
