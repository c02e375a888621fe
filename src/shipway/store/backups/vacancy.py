"""Whether there is room for a restore: it never mixes with what is there."""

from __future__ import annotations

from hashlib import file_digest
from pathlib import Path

import sqlalchemy as sa

from shipway.core.backups import BackupManifest
from shipway.core.errors import TargetTaken
from shipway.store.backups.snapshot import is_there
from shipway.store.sql.engine import create_engine
from shipway.store.sql.faults import translated_faults

_LEFT_BY_A_KILLED_RESTORE = {
    *("artifacts", "audit", "keys", "tls", "run", "staging"),
    *("shipway.db", "shipway.db-wal", "shipway.db-shm"),
}
"""What may be in the directory: bundles are found by their digests, and the database is looked into."""


def require_vacant(manifest: BackupManifest, database_url: str, state_dir: Path) -> None:
    """Passes when a backup can be restored there, also after a restore that was killed.

    Nothing is made. Bundles that are in the artifact store already do not matter.

    Raises:
        TargetTaken: database or directory hold something.
        StoreUnavailable: the database cannot be reached.
    """
    if is_there(database_url):
        _require_no_tables(database_url)
    if database_url.startswith("sqlite"):
        _require_no_state(state_dir)
    for file in manifest.files:
        path = state_dir / file.path
        if path.exists() and _digest_of(path) != file.sha256:
            raise TargetTaken(
                f"`{path}` is there already, and is another than the backup's.",
                next_step="Name another directory with `--dir`.",
                target=str(path),
            )


def _require_no_tables(database_url: str) -> None:
    engine = create_engine(database_url)
    try:
        with translated_faults():
            tables = sa.inspect(engine).get_table_names()
    finally:
        engine.dispose()
    if tables:
        raise TargetTaken(
            f"The database `{engine.url.render_as_string()}` is not empty: it has a table"
            f" `{tables[0]}`.",
            next_step="Restore into an empty database with `--database-url`, or into another"
            " directory with `--dir`.",
            target=engine.url.render_as_string(),
        )


def _require_no_state(state_dir: Path) -> None:
    names = {path.name for path in state_dir.iterdir()} if state_dir.is_dir() else set()
    foreign = sorted(names - _LEFT_BY_A_KILLED_RESTORE)
    if foreign:
        raise TargetTaken(
            f"The directory `{state_dir}` is not empty: it holds `{foreign[0]}`.",
            next_step="Name an empty or new directory with `--dir`.",
            target=str(state_dir),
        )


def _digest_of(path: Path) -> str:
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()
