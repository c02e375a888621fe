"""The whole database as it was at one moment, while others go on writing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from shipway.core.backups import AuditHead, TableFacts
from shipway.core.errors import StoreUnavailable
from shipway.store.backups.rows import Count, columns_of, lines_of
from shipway.store.sql import migration
from shipway.store.sql.engine import create_engine
from shipway.store.sql.faults import translated_faults


class Snapshot:
    """What a transaction sees. The tables are those that the database has, not those this release knows."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        found = sa.MetaData()
        found.reflect(connection)
        self.tables = [
            table for table in found.sorted_tables if table.name != migration.VERSION_TABLE
        ]
        """Every table, those that others refer to first."""

        self.schema = migration.revision_of(connection)
        """The schema's number; None for a database that is not ours."""

    def lines(self, table: sa.Table, count: Count) -> Iterator[bytes]:
        """The rows of a table, in key order; counted."""
        return lines_of(self._connection, table, count)

    def digests(self) -> list[str]:
        """The bundles that any version names."""
        query = sa.text("SELECT DISTINCT digest FROM versions ORDER BY digest")
        return list(self._connection.scalars(query))

    def audit_head(self) -> AuditHead:
        """The newest link of the audit chain."""
        query = sa.text("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
        row = self._connection.execute(query).first()
        return AuditHead() if row is None else AuditHead(sequence=row.sequence, hash=row.hash)

    def facts(self) -> tuple[TableFacts, ...]:
        """What the rows of every table come to; reads them all."""
        return tuple(self._facts_of(table) for table in self.tables)

    def _facts_of(self, table: sa.Table) -> TableFacts:
        count = Count(table.name, columns_of(table))
        for _ in self.lines(table, count):
            pass
        return count.facts


@contextmanager
def snapshot(engine: sa.Engine) -> Iterator[Snapshot]:
    """The database at the moment of the first read; it stays so until the block ends.

    Writers neither wait nor are waited for.

    Raises:
        StoreUnavailable: the database is away, or is not one of Shipway's.
    """
    # SQLite's transactions read one snapshot by themselves (WAL).
    level = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    options = level if engine.dialect.name == "postgresql" else {}
    with (
        translated_faults(),
        engine.connect().execution_options(**options) as connection,
        connection.begin(),
    ):
        seen = Snapshot(connection)
        if seen.schema is None:
            raise _not_ours(engine.url.render_as_string())
        migration.check_known(seen.schema)
        yield seen


def existing_engine(url: str) -> sa.Engine:
    """An engine for a database that is there; an SQLite file that is not is not made.

    Raises:
        StoreUnavailable: there is no such file, or the URL is malformed.
    """
    if not is_there(url):
        raise _not_ours(sa.make_url(url).render_as_string())
    return create_engine(url)


def is_there(url: str) -> bool:
    """Whether there may be a database at the URL: False only for an SQLite file that is not there."""
    if not url.startswith("sqlite"):
        return True
    name = sa.make_url(url).database
    return name is not None and Path(name).is_file()


def _not_ours(url: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"There is no database of Shipway at `{url}`.",
        next_step="Name its state directory with `--dir`, or set `SHIPWAY_DATABASE_URL`.",
    )
