"""The tables. Every change here needs a migration."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Dialect


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware UTC time; SQLite, which knows no time zones, keeps it as naive UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The time as the database keeps it."""
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The time as the code knows it."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# `last_number` lives here, so that the number of a deleted version is never given out again.
models = sa.Table(
    "models",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("last_number", sa.Integer, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
)

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("model", sa.String(63), sa.ForeignKey("models.name"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(80), nullable=False, index=True),
    sa.Column("manifest", sa.Text, nullable=False),
    sa.Column("manifest_sha256", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.UniqueConstraint("model", "digest"),
)

aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("model", sa.String(63), primary_key=True),
    sa.Column("alias", sa.String(63), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"]),
)

endpoints = sa.Table(
    "endpoints",
    metadata,
    sa.Column("environment", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
)

# The rollouts that have ended; one under way is part of its endpoint's state.
rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("id", sa.String(63), primary_key=True),
    sa.Column("environment", sa.String(63), nullable=False),
    sa.Column("endpoint", sa.String(63), nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Index("ix_rollouts_endpoint", "environment", "endpoint", "started_at"),
)

outcome_sums = sa.Table(
    "outcome_sums",
    metadata,
    sa.Column("rollout", sa.String(63), primary_key=True),
    sa.Column("metric", sa.String(63), primary_key=True),
    sa.Column("version", sa.String(80), primary_key=True),
    sa.Column("n", sa.BigInteger, nullable=False),
    sa.Column("total", sa.Float(53), nullable=False),
    sa.Column("squares", sa.Float(53), nullable=False),
)

# Outcomes that carried an id, so that one posted twice counts once.
outcome_ids = sa.Table(
    "outcome_ids",
    metadata,
    sa.Column("rollout", sa.String(63), primary_key=True),
    sa.Column("id", sa.String(255), primary_key=True),
)

# A monitor's runs; `run` is all of one but its report. A slot of a schedule is run once: it has one row.
monitor_runs = sa.Table(
    "monitor_runs",
    metadata,
    sa.Column("id", sa.String(63), primary_key=True),
    sa.Column("environment", sa.String(63), nullable=False),
    sa.Column("endpoint", sa.String(63), nullable=False),
    sa.Column("monitor", sa.String(63), nullable=False),
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("trigger", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("run", sa.Text, nullable=False),
    sa.Column("report", sa.Text, nullable=True),
    sa.UniqueConstraint("environment", "endpoint", "monitor", "due_at"),
    sa.Index("ix_monitor_runs_state", "state", "due_at"),
)

evaluations = sa.Table(
    "evaluations",
    metadata,
    sa.Column("id", sa.String(63), primary_key=True),
    sa.Column("model", sa.String(63), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("result", sa.Text, nullable=False),
    sa.Index("ix_evaluations_digest", "digest", "at"),
)

environments = sa.Table(
    "environments",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("policy", sa.Text, nullable=False),
)

# What a person said about these bytes of a model in that environment; the newest word of each counts.
reviews = sa.Table(
    "reviews",
    metadata,
    sa.Column("environment", sa.String(63), primary_key=True),
    sa.Column("digest", sa.String(80), primary_key=True),
    sa.Column("model", sa.String(63), primary_key=True),
    sa.Column("reviewer", sa.String(200), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
)

# Which bytes were let into which environment; `policy_generation` is 0 where there was no policy.
promotions = sa.Table(
    "promotions",
    metadata,
    sa.Column("environment", sa.String(63), primary_key=True),
    sa.Column("digest", sa.String(80), primary_key=True),
    sa.Column("model", sa.String(63), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("policy_generation", sa.Integer, nullable=False),
)

# What the scan of these bytes found, the last time that they were registered.
scans = sa.Table(
    "scans",
    metadata,
    sa.Column("digest", sa.String(80), primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("report", sa.Text, nullable=False),
)

# Who signed these bytes: the envelope as it was handed in. What it is worth, a policy's signers say.
signatures = sa.Table(
    "signatures",
    metadata,
    sa.Column("digest", sa.String(80), primary_key=True),
    sa.Column("key_id", sa.String(80), primary_key=True),
    sa.Column("envelope", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.String(63), nullable=False),
    sa.Column("subject", sa.String(255), nullable=False, index=True),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("previous_hash", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    sa.Column("origin", sa.String(255), nullable=False, server_default=sa.text("''")),
)

audit_heads = sa.Table(
    "audit_heads",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.Integer, nullable=False, index=True),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("public_key", sa.String(64), nullable=False),
    sa.Column("vouches_for", sa.String(64), nullable=False),
    sa.Column("signature", sa.String(128), nullable=False),
)

# Where the chain begins after its older part was archived; the newest counts.
audit_cuts = sa.Table(
    "audit_cuts",
    metadata,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("first", sa.Integer, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("public_key", sa.String(64), nullable=False),
    sa.Column("archive", sa.String(255), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("heads_from", sa.Integer, nullable=False),
    sa.Column("signature", sa.String(128), nullable=False),
)

# Of an API key everything but its secret; `digest` is its SHA-256.
keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String(12), primary_key=True),
    sa.Column("name", sa.String(63), nullable=False, index=True),
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
)

# What a tenant may use; one without a row has no limits of its own.
projects = sa.Table(
    "projects",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("limits", sa.Text, nullable=False),
)

# What people (`user:`), groups (`group:`) and certificates (`cert:`) may do.
bindings = sa.Table(
    "bindings",
    metadata,
    sa.Column("subject", sa.String(255), primary_key=True),
    sa.Column("grants", sa.Text, nullable=False),
)

# An hour that was charged has a row at least, of nobody where nothing ran.
charges = sa.Table(
    "charges",
    metadata,
    sa.Column("environment", sa.String(63), primary_key=True),
    sa.Column("hour", Instant, primary_key=True),
    sa.Column("endpoint", sa.String(63), primary_key=True),
    sa.Column("version", sa.String(80), primary_key=True),
    sa.Column("tenant", sa.String(63), primary_key=True),
    sa.Column("use_case", sa.String(63), nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("own", sa.Float(53), nullable=False),
    sa.Column("shared", sa.Float(53), nullable=False),
    sa.Column("currency", sa.String(8), nullable=False),
)

# The segments that were taken in: posted twice, one counts once.
segments = sa.Table(
    "segments",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("gateway", sa.String(255), nullable=False),
    sa.Column("at", Instant, nullable=False, index=True),
    sa.Column("frames", sa.Integer, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
)

# The files of the prediction log. One that was merged or let go is retired first, deleted later.
prediction_files = sa.Table(
    "prediction_files",
    metadata,
    sa.Column("path", sa.String(512), primary_key=True),
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
    sa.Column("retired_at", Instant, nullable=True, index=True),
    sa.Index("ix_prediction_files_endpoint", "environment", "endpoint", "day"),
)

# What was counted of a version in a window of `step_s` that begins at `at`: see `core.resolutions`.
metric_windows = sa.Table(
    "metric_windows",
    metadata,
    sa.Column("environment", sa.String(63), primary_key=True),
    sa.Column("endpoint", sa.String(63), primary_key=True),
    sa.Column("step_s", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Instant, primary_key=True),
    sa.Column("version", sa.String(80), primary_key=True),
    sa.Column("counts", sa.LargeBinary, nullable=False),
    sa.Index("ix_metric_windows_at", "environment", "step_s", "at"),
    sqlite_with_rowid=False,
)

# What sources had counted since they began, as far as it is in the windows.
metric_sources = sa.Table(
    "metric_sources",
    metadata,
    sa.Column("environment", sa.String(63), primary_key=True),
    sa.Column("source", sa.String(63), primary_key=True),
    sa.Column("endpoint", sa.String(63), primary_key=True),
    sa.Column("version", sa.String(80), primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("counts", sa.LargeBinary, nullable=False),
)

# One row for each alert; the last one of an environment, endpoint, rule and subject counts.
alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("environment", sa.String(63), nullable=False),
    sa.Column("endpoint", sa.String(63), nullable=False),
    sa.Column("rule", sa.String(127), nullable=False),
    sa.Column("subject", sa.String(255), nullable=False),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("phase_at", Instant, nullable=False),
    sa.Column("alert", sa.Text, nullable=False),
    sa.Index("ix_alerts_phase", "environment", "phase", "phase_at"),
)

# What happened to an alert, numbered from 1, and what was done about it (`do.rollback`).
alert_events = sa.Table(
    "alert_events",
    metadata,
    sa.Column("alert", sa.String(16), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("environment", sa.String(63), nullable=False),
    sa.Column("endpoint", sa.String(63), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("event", sa.String(63), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Index("ix_alert_events_event", "environment", "endpoint", "event", "at"),
)

silences = sa.Table(
    "silences",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("environment", sa.String(63), nullable=False),
    sa.Column("endpoint", sa.String(63), nullable=False),
    sa.Column("rule", sa.String(127), nullable=False),
    sa.Column("subject", sa.String(255), nullable=False),
    sa.Column("until", Instant, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False),
)

# Where messages go. What opens a channel is sealed in it, or a reference.
channels = sa.Table(
    "channels",
    metadata,
    sa.Column("environment", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("channel", sa.Text, nullable=False),
)

# Messages on their way: `waiting`, `sent` or `dead`. Who has a lease on one is sending it.
notifications = sa.Table(
    "notifications",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("environment", sa.String(63), nullable=False),
    sa.Column("channel", sa.String(63), nullable=False),
    sa.Column("endpoint", sa.String(63), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("leased_until", Instant, nullable=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("fault", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("ended_at", Instant, nullable=True),
    sa.Column("message", sa.Text, nullable=False),
    sa.Index("ix_notifications_due", "environment", "state", "due_at"),
)

# What the files of `prediction_files` hold, by the hash that they name.
prediction_shapes = sa.Table(
    "prediction_shapes",
    metadata,
    sa.Column("hash", sa.String(32), primary_key=True),
    sa.Column("shape", sa.Text, nullable=False),
)
