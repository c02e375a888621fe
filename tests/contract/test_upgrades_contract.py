"""From an older schema to this release's: with the data, with a copy, or not at all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from shipway.core.audit import Change, first_broken_link, next_event
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.errors import StateUnusable
from shipway.core.versions import VersionRef
from shipway.store.backups.places import place_of
from shipway.store.backups.restoring import Target, checked_backup, restore_backup
from shipway.store.backups.snapshot import existing_engine
from shipway.store.backups.writing import Source, write_backup
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql import migration
from shipway.store.sql.database import Database, sqlite_url
from shipway.store.sql.engine import WRITES, create_engine
from shipway.testing.bundles import write_bundle

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


def nobody(step: str, done: int, total: int) -> None:
    del step, done, total


def make_first_schema(place: Any, bundle: Path) -> EndpointState:
    """A database as the first release made it, with a row in every table; gives its endpoint."""
    manifest = write_bundle(bundle)
    place.artifacts().put_bundle(bundle, manifest)
    spec = EndpointSpec(name="churn", model="churn:1", environment="staging")
    state = EndpointState(spec=spec, generation=3, phase=Phase.LIVE, active=VersionRef("churn", 1))
    event = next_event(
        Change(at=NOW, actor="ada", action="version.register", subject="churn:1"), None
    )
    audited = msgspec.structs.asdict(event) | {"details": "{}"}
    del audited["origin"]  # a column of a later release
    at = NOW.replace(tzinfo=None) if place.database_url.startswith("sqlite") else NOW
    rows = {
        "models": {"name": "churn", "last_number": 1, "created_at": at, "created_by": "ada"},
        "versions": {
            "model": "churn", "number": 1, "digest": manifest.digest,
            "manifest": msgspec.json.encode(manifest).decode(), "manifest_sha256": "0" * 64,
            "size_bytes": 9, "created_at": at, "created_by": "ada",
        },
        "aliases": {"model": "churn", "alias": "champion", "number": 1},
        "endpoints": {
            "name": "churn", "environment": "staging", "generation": 3,
            "state": msgspec.json.encode(state).decode(),
        },
        "audit": audited | {"at": at},
    }  # fmt: skip
    engine = create_engine(place.database_url)
    with engine.connect().execution_options(**WRITES) as connection, connection.begin():
        migration.upgrade_to(connection, "0001")
        for name, row in rows.items():
            names = ", ".join(row)
            values = ", ".join(f":{column}" for column in row)
            connection.execute(sa.text(f"INSERT INTO {name} ({names}) VALUES ({values})"), row)
    engine.dispose()
    return state


def require_upgraded(database: Database, state: EndpointState) -> None:
    with database._engine.connect() as connection:
        assert migration.revision_of(connection) == migration.head()
    with database.reading() as tx:
        assert tx.endpoints.get("staging", "churn") == state
        assert tx.aliases.all_of("churn") == {"champion": 1}
        model = tx.models.get("churn")
        assert model is not None
        assert [version.number for version in model.versions] == [1]
        chain = list(tx.audit.chain())
        assert len(chain) == 1
        assert first_broken_link(chain) is None


def test_database_of_the_first_release_opens_with_all_that_was_in_it(
    place: Any, tmp_path: Path
) -> None:
    state = make_first_schema(place, tmp_path / "bundle")
    database = place.database()
    require_upgraded(database, state)
    database.close()


@pytest.mark.parametrize("place", ["sqlite+directory"], indirect=True)
def test_sqlite_database_is_copied_as_it_was_before_it_is_upgraded(
    place: Any, tmp_path: Path
) -> None:
    make_first_schema(place, tmp_path / "bundle")
    backups = tmp_path / "state" / "backups"
    place.database().close()
    assert [path.name for path in backups.iterdir()] == ["schema-0001.db"]
    with closing(sqlite3.connect(backups / "schema-0001.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
        assert copy.execute("SELECT name, generation FROM endpoints").fetchall() == [("churn", 3)]
    # Put back in the database's place it opens again, and is copied again.
    for name in ("shipway.db", "shipway.db-wal", "shipway.db-shm"):
        (tmp_path / "state" / name).unlink(missing_ok=True)
    (backups / "schema-0001.db").rename(tmp_path / "state" / "shipway.db")
    place.database().close()
    assert (backups / "schema-0001.db").is_file()


def test_new_database_and_one_of_this_release_are_not_copied(tmp_path: Path) -> None:
    for _ in range(2):
        Database.open(sqlite_url(tmp_path)).close()
    assert not (tmp_path / "backups").exists()


@pytest.mark.parametrize("place", ["sqlite+directory"], indirect=True)
def test_database_that_cannot_be_copied_is_not_upgraded(place: Any, tmp_path: Path) -> None:
    make_first_schema(place, tmp_path / "bundle")
    (tmp_path / "state" / "backups").write_text("in the way")
    with pytest.raises(StateUnusable, match="was not upgraded"):
        place.database()
    engine = create_engine(place.database_url)
    with engine.connect() as connection:
        assert migration.revision_of(connection) == "0001"
    engine.dispose()


def test_backup_of_an_older_schema_is_restored_and_upgraded(place: Any, tmp_path: Path) -> None:
    state = make_first_schema(place, tmp_path / "bundle")
    backup = place_of(str(tmp_path / "old.tar"), now=NOW, environment={})
    engine = existing_engine(place.database_url)
    source = Source(engine, place.artifacts(), tmp_path)
    made = write_backup(source, backup, with_keys=True, now=NOW, on_progress=nobody)
    engine.dispose()
    assert made.manifest.schema == "0001"
    target = Target(
        sqlite_url(tmp_path / "new"),
        ArtifactStore(str(tmp_path / "new" / "artifacts")),
        tmp_path / "new",
    )
    manifest = checked_backup(backup, on_progress=nobody)
    restore_backup(backup, target, manifest, on_progress=nobody)
    with closing(sqlite3.connect(tmp_path / "new" / "shipway.db")) as restored:
        found = restored.execute("SELECT version_num FROM alembic_version").fetchone()
    assert found == (migration.head(),)
    database = Database.open(target.database_url)
    require_upgraded(database, state)
    database.close()
