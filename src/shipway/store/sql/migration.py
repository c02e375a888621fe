"""Brings the schema of a database up to this release."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from shipway.core.errors import SchemaTooNew
from shipway.store.sql.engine import WRITES

_SCRIPTS = Path(__file__).parent / "migrations"


def upgrade(engine: sa.Engine) -> None:
    """Applies what is missing, in one transaction; does nothing on an up-to-date database.

    Two processes may do so at once: the second waits and finds nothing left to do.

    Raises:
        SchemaTooNew: a newer release wrote the database; it is left as it is.
    """
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    with engine.connect().execution_options(**WRITES) as connection, connection.begin():
        _check_known(_current(connection), ScriptDirectory.from_config(config))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _current(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _check_known(revision: str | None, scripts: ScriptDirectory) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaTooNew(
            f"The database has schema `{revision}`, written by a newer Shipway; this one knows"
            f" schemas up to `{scripts.get_current_head()}`.",
            next_step="Upgrade Shipway, or use another state directory with `--dir`.",
            schema=revision,
        )
