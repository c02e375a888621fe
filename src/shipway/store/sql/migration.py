"""Brings the schema of a database up to this release.

Alembic is imported when there is something to migrate: its import costs a third of control's start.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from shipway.core.errors import SchemaTooNew
from shipway.store.sql.engine import WRITES

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

_SCRIPTS = Path(__file__).parent / "migrations"
_VERSION_TABLE = "alembic_version"


def head() -> str:
    """The schema of this release: the number that the newest migration's file name begins with."""
    newest = max(path.stem for path in (_SCRIPTS / "versions").glob("[0-9]*.py"))
    return newest.partition("_")[0]


def is_current(engine: sa.Engine) -> bool:
    """Whether the database has exactly this release's schema."""
    with engine.connect() as connection:
        return _current(connection) == head()


def upgrade(engine: sa.Engine) -> None:
    """Applies what is missing, in one transaction; does nothing on an up-to-date database.

    Two processes may do so at once: the second waits and finds nothing left to do.

    Raises:
        SchemaTooNew: a newer release wrote the database; it is left as it is.
    """
    if is_current(engine):
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    with engine.connect().execution_options(**WRITES) as connection, connection.begin():
        _check_known(_current(connection), ScriptDirectory.from_config(config))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _current(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {_VERSION_TABLE}"))
    return revision


def _check_known(revision: str | None, scripts: ScriptDirectory) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaTooNew(
            f"The database has schema `{revision}`, written by a newer Shipway; this one knows"
            f" schemas up to `{scripts.get_current_head()}`.",
            next_step="Upgrade Shipway, or use another state directory with `--dir`.",
            schema=revision,
        )
