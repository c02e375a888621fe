"""Metric windows as rows, and how far the counts of each source are in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from shipway.core.resolutions import RESOLUTIONS, Stretch
from shipway.core.tallies import Tally, add, added
from shipway.core.telemetry import Name
from shipway.store.sql.tables import metric_sources, metric_windows
from shipway.wire.tallies import decoded, encoded

Windows = list[tuple[Name, datetime, dict[str, float]]]
"""What was counted, by endpoint and version and by the beginning of the window."""


class MetricRows:
    """The metric history of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def counted(self, environment: str, source: str) -> dict[Name, dict[str, float]]:
        """What is in the windows of a source's counts."""
        rows = self._connection.execute(
            sa.select(metric_sources.c.endpoint, metric_sources.c.version, metric_sources.c.counts)
            .where(metric_sources.c.environment == environment)
            .where(metric_sources.c.source == source)
        )
        return {(row.endpoint, row.version): decoded(row.counts) for row in rows}

    def last_written(self, environment: str) -> datetime | None:
        """The beginning of the last of the finest windows; None before the first."""
        t = metric_windows.c
        query = sa.select(t.at).where(t.environment == environment)
        query = query.where(t.step_s == RESOLUTIONS[0].step_s).order_by(t.at.desc()).limit(1)
        return self._connection.scalar(query)

    def put_counted(
        self, environment: str, source: str, counts: Mapping[Name, Tally], *, at: datetime
    ) -> None:
        """Replaces what is in the windows of those names."""
        key = {"environment": environment, "source": source}
        rows = [
            {"endpoint": name[0], "version": name[1], "at": at, "counts": encoded(tally)}
            for name, tally in counts.items()
        ]
        self._put(metric_sources, key, rows)

    def add(self, environment: str, counts: Mapping[Name, Tally], *, at: datetime) -> None:
        """Adds to the window of each resolution that the moment is in."""
        for one in RESOLUTIONS:
            start = one.start_of(at)
            key = {"environment": environment, "step_s": one.step_s, "at": start}
            present = self._window(key)
            rows = [
                {
                    "endpoint": name[0],
                    "version": name[1],
                    "counts": encoded(added((present.get(name, {}), tally))),
                }
                for name, tally in counts.items()
            ]
            self._put(metric_windows, key, rows)

    def windows(
        self, environment: str, stretch: Stretch, *, endpoint: str | None, version: str
    ) -> Windows:
        """What was counted in a stretch: of one endpoint or all, of one version or all of them."""
        t, query = metric_windows.c, _in_stretch(environment, stretch)
        if endpoint is not None:
            query = query.where(t.endpoint == endpoint)
        if version:
            query = query.where(t.version == version)
        rows = self._connection.execute(query)
        return [((row.endpoint, row.version), row.at, decoded(row.counts)) for row in rows]

    def totals(self, environment: str, stretches: Iterable[Stretch]) -> dict[str, dict[str, float]]:
        """What was counted in stretches, by endpoint."""
        found: dict[str, dict[str, float]] = {}
        for stretch in stretches:
            for row in self._connection.execute(_in_stretch(environment, stretch)):
                add(found.setdefault(row.endpoint, {}), decoded(row.counts))
        return found

    def prune(self, environment: str, now: datetime) -> int:
        """Drops the windows that are older than they are kept, and sources as silent; how many rows."""
        t, dropped = metric_windows.c, 0
        for one in RESOLUTIONS:
            old = t.at < now - timedelta(seconds=one.keep_s + one.step_s)
            query = sa.delete(metric_windows).where(t.environment == environment, old)
            dropped += self._connection.execute(query.where(t.step_s == one.step_s)).rowcount
        s, longest = metric_sources.c, RESOLUTIONS[-1].keep_s
        silent = s.at < now - timedelta(seconds=longest)
        query = sa.delete(metric_sources).where(s.environment == environment, silent)
        return dropped + self._connection.execute(query).rowcount

    def _window(self, key: Mapping[str, object]) -> dict[Name, dict[str, float]]:
        rows = self._connection.execute(sa.select(metric_windows).filter_by(**key))
        return {(row.endpoint, row.version): decoded(row.counts) for row in rows}

    def _put(
        self, table: sa.Table, key: Mapping[str, object], rows: Iterable[Mapping[str, object]]
    ) -> None:
        """Inserts the rows, in place of those that are there."""
        whole = [{**key, **row} for row in rows]
        if not whole:
            return
        is_sqlite = self._connection.dialect.name == "sqlite"
        statement = (sqlite if is_sqlite else postgresql).insert(table)
        changing = {
            column.name: statement.excluded[column.name]
            for column in table.columns
            if not column.primary_key
        }
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=list(table.primary_key.columns), set_=changing
            ),
            whole,
        )


def _in_stretch(environment: str, stretch: Stretch) -> sa.Select[tuple[str, str, datetime, bytes]]:
    t = metric_windows.c
    return (
        sa.select(t.endpoint, t.version, t.at, t.counts)
        .where(t.environment == environment)
        .where(t.step_s == stretch.step_s)
        .where(t.at >= stretch.since, t.at < stretch.until)
    )
