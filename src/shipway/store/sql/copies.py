"""Copies of an SQLite database, made before its schema is changed."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import sqlalchemy as sa

from shipway.core.errors import StateUnusable


def keep_copy(engine: sa.Engine, revision: str) -> Path | None:
    """Copies a database of that schema to `backups/schema-NUMBER.db` beside it; None on PostgreSQL.

    An older copy of the same schema is replaced. To go back: end the server, put the copy in the
    database's place, and start the release that wrote it.

    Raises:
        StateUnusable: it cannot be written.
    """
    name = engine.url.database
    if engine.dialect.name != "sqlite" or not name or name == ":memory:":
        return None
    source = Path(name).absolute()
    target = source.parent / "backups" / f"schema-{revision}.db"
    draft = target.with_suffix(".draft")
    try:
        target.parent.mkdir(exist_ok=True, mode=0o700)
        draft.unlink(missing_ok=True)
        _copy(source, draft)
        draft.replace(target)
    except (OSError, sqlite3.Error) as exc:
        with suppress(OSError):
            draft.unlink()
        raise StateUnusable(
            f"The database was not upgraded: a copy of it cannot be written to `{target}`: {exc}.",
            next_step="Free some space on its disk, or make the directory writable.",
            directory=str(target.parent),
        ) from exc
    return target


def _copy(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as database,
        closing(sqlite3.connect(target)) as copy,
    ):
        database.backup(copy)
    with target.open("rb") as stream:
        os.fsync(stream.fileno())
