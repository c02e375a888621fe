"""What each tenant's requests to each version cost, by hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shipway.store.sql.tables import Instant

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "charges",
        sa.Column("environment", sa.String(63), nullable=False),
        sa.Column("hour", Instant, nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("version", sa.String(80), nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("use_case", sa.String(63), nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("own", sa.Float(53), nullable=False),
        sa.Column("shared", sa.Float(53), nullable=False),
        sa.Column("currency", sa.String(8), nullable=False),
        sa.PrimaryKeyConstraint(
            "environment", "hour", "endpoint", "version", "tenant", name="pk_charges"
        ),
    )


def downgrade() -> None:
    op.drop_table("charges")
