"""What the scan of a bundle found, and who signed it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shipway.store.sql.tables import Instant

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "scans",
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("report", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_scans"),
    )
    op.create_table(
        "signatures",
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("key_id", sa.String(80), nullable=False),
        sa.Column("envelope", sa.Text, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("digest", "key_id", name="pk_signatures"),
    )


def downgrade() -> None:
    op.drop_table("signatures")
    op.drop_table("scans")
