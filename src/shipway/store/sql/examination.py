"""A database as a doctor looks at it: read, never changed, not even upgraded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import sqlalchemy as sa

from shipway.core.audit import AuditEvent
from shipway.core.backups import first_loose_link
from shipway.core.endpoints import EndpointState
from shipway.core.health import ChainFacts, DatabaseFacts
from shipway.store.sql import migration
from shipway.store.sql.audit import AuditRows
from shipway.store.sql.endpoints import EndpointRows
from shipway.store.sql.faults import translated_faults
from shipway.store.sql.tables import versions

QUICK_EVENTS = 1000
"""So many of the newest audit events are checked when not all are."""


class Examination:
    """What there is to know of a database. Every method blocks, and raises StoreUnavailable."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def facts(self, *, deep: bool) -> DatabaseFacts:
        """Its schema, and what its own checks find; `deep` checks indexes too."""
        with translated_faults(), self._engine.connect() as connection:
            return DatabaseFacts(
                place=self._engine.url.render_as_string(),
                schema=migration.revision_of(connection),
                known_schema=migration.head(),
                faults=tuple(_faults(connection, deep=deep)),
            )

    def ahead_s(self, *, now: datetime) -> float | None:
        """By how much its server's clock is ahead; None for a database without a server."""
        if self._engine.dialect.name == "sqlite":
            return None
        with translated_faults(), self._engine.connect() as connection:
            theirs: datetime = connection.scalar(sa.text("SELECT clock_timestamp()"))
            return (theirs.astimezone(UTC) - now).total_seconds()

    def endpoints(self) -> list[EndpointState]:
        """The endpoints as they should be."""
        with translated_faults(), self._engine.connect() as connection:
            return EndpointRows(connection).list()

    def bundles(self) -> dict[str, tuple[str, ...]]:
        """The versions that need each bundle."""
        found: dict[str, tuple[str, ...]] = {}
        query = sa.select(versions.c.digest, versions.c.model, versions.c.number)
        with translated_faults(), self._engine.connect() as connection:
            for row in connection.execute(query.order_by(versions.c.model, versions.c.number)):
                found[row.digest] = (*found.get(row.digest, ()), f"{row.model}:{row.number}")
        return found

    def newest_event_at(self) -> datetime | None:
        """When the newest audit event was written; None when there is none."""
        with translated_faults(), self._engine.connect() as connection:
            newest = AuditRows(connection).newest(limit=1)
        return newest[0].at if newest else None

    def chain(self, *, deep: bool) -> ChainFacts:
        """Whether the newest audit events hold together, or with `deep` all."""
        with translated_faults(), self._engine.connect() as connection:
            rows = AuditRows(connection)
            counted = _Counted(rows.chain() if deep else reversed(rows.newest(limit=QUICK_EVENTS)))
            broken = first_loose_link(counted)
        return ChainFacts(checked=counted.count, fault="" if broken is None else broken.reason)


class _Counted:
    def __init__(self, events: Iterator[AuditEvent]) -> None:
        self._events = events
        self.count = 0

    def __iter__(self) -> Iterator[AuditEvent]:
        for event in self._events:
            self.count += 1
            yield event


def _faults(connection: sa.Connection, *, deep: bool) -> Iterator[str]:
    """What SQLite finds; PostgreSQL keeps its constraints, and has checksums of its own."""
    if connection.dialect.name != "sqlite":
        return
    check = "integrity_check" if deep else "quick_check"
    for found in connection.scalars(sa.text(f"PRAGMA {check}(3)")):
        if found != "ok":
            yield str(found).splitlines()[0]
    for row in connection.execute(sa.text("PRAGMA foreign_key_check")):
        yield f"a row of table `{row[0]}` refers to one of `{row[2]}` that is not there"
