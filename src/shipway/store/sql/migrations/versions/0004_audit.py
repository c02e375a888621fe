"""Where changes came from; signed heads of the audit chain, and cuts where it was archived."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shipway.store.sql.tables import Instant

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "audit", sa.Column("origin", sa.String(255), nullable=False, server_default=sa.text("''"))
    )
    op.create_table(
        "audit_heads",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("public_key", sa.String(64), nullable=False),
        sa.Column("vouches_for", sa.String(64), nullable=False),
        sa.Column("signature", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit_heads"),
    )
    op.create_index("ix_audit_heads_sequence", "audit_heads", ["sequence"])
    op.create_table(
        "audit_cuts",
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("first", sa.Integer, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("public_key", sa.String(64), nullable=False),
        sa.Column("archive", sa.String(255), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("heads_from", sa.Integer, nullable=False),
        sa.Column("signature", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_audit_cuts"),
    )


def downgrade() -> None:
    op.drop_table("audit_cuts")
    op.drop_table("audit_heads")
    op.drop_column("audit", "origin")
