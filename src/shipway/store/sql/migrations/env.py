"""Runs migrations on the connection that `migration.upgrade` opened; it owns the transaction."""

from __future__ import annotations

from alembic import context

from shipway.store.sql.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
