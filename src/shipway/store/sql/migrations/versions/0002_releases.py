"""Rollouts, outcomes, evaluations, environments; endpoints are named within their environment."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shipway.store.sql.tables import Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Not altered in place: SQLite cannot change a primary key.
    op.create_table(
        "endpoints_named",
        sa.Column("environment", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("environment", "name", name="pk_endpoints_named"),
    )
    op.execute(
        "INSERT INTO endpoints_named (environment, name, generation, state)"
        " SELECT environment, name, generation, state FROM endpoints"
    )
    op.drop_table("endpoints")
    op.rename_table("endpoints_named", "endpoints")
    _create_rollouts()
    _create_outcomes()
    _create_evaluations()
    _create_environments()


def _create_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(63), nullable=False),
        sa.Column("environment", sa.String(63), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("started_at", Instant, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
    )
    op.create_index("ix_rollouts_endpoint", "rollouts", ["environment", "endpoint", "started_at"])


def _create_outcomes() -> None:
    op.create_table(
        "outcome_sums",
        sa.Column("rollout", sa.String(63), nullable=False),
        sa.Column("metric", sa.String(63), nullable=False),
        sa.Column("version", sa.String(80), nullable=False),
        sa.Column("n", sa.BigInteger, nullable=False),
        sa.Column("total", sa.Float(53), nullable=False),
        sa.Column("squares", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "metric", "version", name="pk_outcome_sums"),
    )
    op.create_table(
        "outcome_ids",
        sa.Column("rollout", sa.String(63), nullable=False),
        sa.Column("id", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "id", name="pk_outcome_ids"),
    )


def _create_evaluations() -> None:
    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(63), nullable=False),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
    )
    op.create_index("ix_evaluations_digest", "evaluations", ["digest", "at"])


def _create_environments() -> None:
    op.create_table(
        "environments",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_environments"),
    )
    op.create_table(
        "reviews",
        sa.Column("environment", sa.String(63), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("reviewer", sa.String(200), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("environment", "digest", "model", "reviewer", name="pk_reviews"),
    )
    op.create_table(
        "promotions",
        sa.Column("environment", sa.String(63), nullable=False),
        sa.Column("digest", sa.String(80), nullable=False),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("policy_generation", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("environment", "digest", "model", name="pk_promotions"),
    )


def downgrade() -> None:
    for table in (
        "promotions",
        "reviews",
        "environments",
        "evaluations",
        "outcome_ids",
        "outcome_sums",
        "rollouts",
    ):
        op.drop_table(table)
    op.rename_table("endpoints", "endpoints_named")
    op.create_table(
        "endpoints",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("environment", sa.String(63), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_endpoints"),
    )
    op.execute(
        "INSERT INTO endpoints (name, environment, generation, state)"
        " SELECT name, environment, generation, state FROM endpoints_named"
    )
    op.drop_table("endpoints_named")
