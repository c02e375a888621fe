"""Brings the schema of a database up to this release.

Alembic is imported when there is something to migrate: its import costs a third of control's start.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from shipway.core.errors import SchemaTooNew
from shipway.store.sql.copies import keep_copy
from shipway.store.sql.engine import WRITES

if TYPE_CHECKING:
    from alembic.config import Config

_SCRIPTS = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version"
"""Where Alembic keeps the schema's number."""


def head() -> str:
    """The schema of this release: the number that the newest migration's file name begins with."""
    newest = max(path.stem for path in (_SCRIPTS / "versions").glob("[0-9]*.py"))
    return newest.partition("_")[0]


def is_current(engine: sa.Engine) -> bool:
    """Whether the database has exactly this release's schema."""
    with engine.connect() as connection:
        return revision_of(connection) == head()


def upgrade(engine: sa.Engine) -> None:
    """Applies what is missing, in one transaction; does nothing on an up-to-date database.

    Two processes may do so at once: the second waits and finds nothing left to do. An SQLite database
    of an older release is copied first, to `backups/schema-NUMBER.db` beside it.

    Raises:
        SchemaTooNew: a newer release wrote the database; it is left as it is.
        StateUnusable: the copy cannot be written; the database is left as it is.
    """
    if is_current(engine):
        return
    with engine.connect().execution_options(**WRITES) as connection, connection.begin():
        revision = revision_of(connection)
        if revision not in (None, head()):
            check_known(revision)
            keep_copy(engine, revision)
        upgrade_to(connection, "head")


def upgrade_to(connection: sa.Connection, revision: str) -> None:
    """Applies what is missing for that revision, in the connection's transaction.

    Raises:
        SchemaTooNew: a newer release wrote the database.
    """
    from alembic import command

    check_known(revision_of(connection))
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def revision_of(connection: sa.Connection) -> str | None:
    """The schema that a database has; None when it has none of ours."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return revision


def check_known(revision: str | None) -> None:
    """Passes when this release knows the schema, or there is none.

    Raises:
        SchemaTooNew: it is a newer release's.
    """
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_config())
    known = {script.revision for script in scripts.walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaTooNew(
            f"The database has schema `{revision}`, written by a newer Shipway; this one knows"
            f" schemas up to `{scripts.get_current_head()}`.",
            next_step="Upgrade Shipway, or use another state directory with `--dir`.",
            schema=revision,
        )


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
