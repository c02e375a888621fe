"""API keys, and the roles granted to people, groups and certificates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shipway.store.sql.tables import Instant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("grants", sa.Text, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("expires_at", Instant, nullable=True),
        sa.Column("revoked_at", Instant, nullable=True),
        sa.Column("replaced_by", sa.String(12), nullable=False),
        sa.Column("last_used_at", Instant, nullable=True),
        sa.Column("is_local", sa.Boolean, nullable=False),
        sa.Column("limits", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
    )
    op.create_index("ix_keys_name", "keys", ["name"])
    op.create_table(
        "projects",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("limits", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_projects"),
    )
    op.create_table(
        "bindings",
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("grants", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_bindings"),
    )


def downgrade() -> None:
    op.drop_table("bindings")
    op.drop_table("projects")
    op.drop_table("keys")
