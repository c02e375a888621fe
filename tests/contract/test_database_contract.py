"""The database's laws, the same on SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Engine

from shipway.core.audit import Change, first_broken_link
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.errors import ConflictError, SchemaTooNew, StoreUnavailable
from shipway.core.versions import VersionRef
from shipway.store.sql import engine as engines
from shipway.store.sql import migration
from shipway.store.sql.database import Database
from shipway.store.sql.tables import metadata

NOW = datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


def engine_of(database: Database) -> Engine:
    return database._engine


def change(subject: str = "churn:1", **details: Any) -> Change:
    return Change(at=NOW, actor="ada", action="test.change", subject=subject, details=details)


def state(name: str, generation: int = 1, **fields: Any) -> EndpointState:
    spec = EndpointSpec(name=name, model="churn:1", environment="staging")
    return EndpointState(spec=spec, generation=generation, phase=Phase.STARTING, **fields)


def test_endpoint_is_read_back_as_it_was_put(database: Database) -> None:
    first = state("b", target=VersionRef("churn", 1), previous_until=NOW, message="ä")
    with database.transaction() as tx:
        tx.endpoints.put(first, expected_generation=None)
        tx.endpoints.put(state("a"), expected_generation=None)
    with database.reading() as tx:
        assert tx.endpoints.get("staging", "b") == first
        assert [found.spec.name for found in tx.endpoints.list()] == ["a", "b"]
        assert tx.endpoints.get("staging", "c") is None


def test_endpoint_that_moved_meanwhile_is_not_overwritten(database: Database) -> None:
    with database.transaction() as tx:
        tx.endpoints.put(state("a", 1), expected_generation=None)
        tx.endpoints.put(state("a", 2), expected_generation=1)
    for expected in (None, 1, 3):
        with pytest.raises(ConflictError), database.transaction() as tx:
            tx.endpoints.put(state("a", 9), expected_generation=expected)
    with database.transaction() as tx:
        tx.endpoints.delete("staging", "a")
        tx.endpoints.delete("staging", "a")
    with pytest.raises(ConflictError), database.transaction() as tx:
        tx.endpoints.put(state("a", 3), expected_generation=2)


def test_transaction_that_raises_changes_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction() as tx:  # noqa: PT012
        tx.endpoints.put(state("a"), expected_generation=None)
        tx.audit.append(change())
        raise RuntimeError("undo")
    with database.reading() as tx:
        assert tx.endpoints.list() == []
        assert tx.audit.newest(limit=10) == []


def test_audit_chain_holds_whatever_its_details_and_time_zone(database: Database) -> None:
    abroad = msgspec.structs.replace(change(), at=NOW.astimezone(timezone(timedelta(hours=5))))
    with database.transaction() as tx:
        tx.audit.append(abroad)
        tx.audit.append(change(z=1.0, a=[None, "ü", 1e300], spec=EndpointSpec(name="a", model="m")))
    with database.reading() as tx:
        assert first_broken_link(tx.audit.chain()) is None
        newest, oldest = tx.audit.newest(limit=10)
    assert (oldest.at, oldest.sequence, newest.sequence) == (NOW, 1, 2)


def test_audit_subject_finds_a_model_with_its_versions_and_aliases_only(database: Database) -> None:
    with database.transaction() as tx:
        for subject in ("a_b", "a_b:1", "a_b@x", "axb:1", "a_bc", "a_b:10"):
            tx.audit.append(change(subject))
    with database.reading() as tx:
        found = [event.subject for event in tx.audit.newest(limit=10, subject="a_b")]
        assert found == ["a_b:10", "a_b@x", "a_b:1", "a_b"]
        assert len(tx.audit.newest(limit=2)) == 2


def test_writers_at_once_keep_one_unbroken_chain(database: Database) -> None:
    def write(number: int) -> None:
        with database.transaction() as tx:
            tx.audit.append(change(n=number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    with database.reading() as tx:
        chain = list(tx.audit.chain())
    assert len(chain) == 40
    assert first_broken_link(chain) is None


def test_reader_waits_for_no_writer(database: Database) -> None:
    with database.transaction() as writing:
        writing.endpoints.put(state("a"), expected_generation=None)
        with database.reading() as reading:
            assert reading.endpoints.list() == []


def test_writer_that_waits_too_long_is_told_that_the_database_is_locked(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "LOCK_WAIT_S", 1)
    one, two = place.database(), place.database()
    with one.transaction():  # noqa: SIM117
        with pytest.raises(StoreUnavailable, match="lock"), two.transaction():
            pass
    one.close()
    two.close()


def test_newer_schema_is_refused_and_left_alone(place: Any, database: Database) -> None:
    with engine_of(database).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match="`9999`, written by a newer Shipway"):
        place.database()
    with engine_of(database).begin() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "9999"


def test_head_by_file_name_is_the_head_that_alembic_finds() -> None:
    scripts = ScriptDirectory(str(Path(migration.__file__).parent / "migrations"))
    assert migration.head() == scripts.get_current_head()


def test_opening_again_changes_nothing(place: Any, database: Database) -> None:
    with database.transaction() as tx:
        tx.audit.append(change())
    again = place.database()
    with again.reading() as tx:
        assert len(tx.audit.newest(limit=10)) == 1
    again.close()


def test_migrations_make_exactly_the_tables_that_the_code_declares(database: Database) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with engine_of(database).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("place", ["postgresql+s3"], indirect=True)
def test_connection_that_the_server_ended_is_replaced(database: Database) -> None:
    with database.transaction() as tx:
        tx.audit.append(change())
    end_connections(database)
    with database.reading() as tx:
        assert len(tx.audit.newest(limit=10)) == 1


@pytest.mark.parametrize("place", ["postgresql+s3"], indirect=True)
def test_connection_lost_in_a_transaction_is_store_unavailable(database: Database) -> None:
    with pytest.raises(StoreUnavailable), database.transaction() as tx:  # noqa: PT012
        tx.audit.append(change())
        end_connections(database)
        tx.audit.append(change())
    with database.reading() as tx:
        assert tx.audit.newest(limit=10) == []


def end_connections(database: Database) -> None:
    other = sa.create_engine(engine_of(database).url)
    with other.connect() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    other.dispose()
