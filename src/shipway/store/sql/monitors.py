"""Runs of monitors as rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa

from shipway.core.monitor_runs import MonitorReport, MonitorRun, RunState, Trigger
from shipway.store.sql.tables import monitor_runs as table

_UNENDED = (RunState.WAITING.value, RunState.RUNNING.value)
_HAS_PERIOD = '"period":{'
"""In the JSON of a run that somebody asked for over other times than its window."""

_AT_ONCE = 500
"""Ids in one query: databases bound its parameters."""


class MonitorRunRows:
    """The runs of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, run: MonitorRun) -> bool:
        """Keeps a new run; False, and nothing, when its monitor has one that is due at the same time."""
        mine = _of(run.environment, run.endpoint, run.monitor.label) & (
            table.c.due_at == run.due_at
        )
        if self._connection.scalar(sa.select(table.c.id).where(mine)) is not None:
            return False
        key = {
            "id": run.id,
            "environment": run.environment,
            "endpoint": run.endpoint,
            "monitor": run.monitor.label,
            "due_at": run.due_at,
            "trigger": run.trigger.value,
        }
        self._connection.execute(sa.insert(table).values(**key, **_row(run)))
        return True

    def put(self, run: MonitorRun, *, holder: str) -> bool:
        """Writes a run over the one that `holder` has; False, and nothing, when it has it no more.

        A run that nobody has taken is held by the empty name.
        """
        before = self.get(run.id)
        if before is None or before.holder != holder or before.ended_at is not None:
            return False
        self._connection.execute(sa.update(table).where(table.c.id == run.id).values(_row(run)))
        return True

    def free(self, environment: str, now: datetime) -> list[MonitorRun]:
        """Runs that a process may take, those that are due for longest first, and such over other times last.

        Somebody may ask for many of these, and a schedule catches up only its newest slot.
        """
        query = sa.select(table.c.run).where(
            table.c.state.in_(_UNENDED), table.c.environment == environment
        )
        runs = map(_run, self._connection.scalars(query.order_by(table.c.due_at, table.c.id)))
        free = [run for run in runs if run.is_free(now)]
        return sorted(free, key=lambda run: run.period is not None)

    def get(self, run: str) -> MonitorRun | None:
        """One run, with its report."""
        query = sa.select(table.c.run, table.c.report).where(table.c.id == run)
        row = self._connection.execute(query).one_or_none()
        if row is None:
            return None
        report = None if row.report is None else _report(row.report)
        return msgspec.structs.replace(_run(row.run), report=report)

    def newest(
        self, environment: str, endpoint: str, monitor: str, *, limit: int
    ) -> list[MonitorRun]:
        """The runs of a monitor without their reports, the one that was due last first."""
        query = sa.select(table.c.run).where(_of(environment, endpoint, monitor))
        newest = query.order_by(table.c.due_at.desc(), table.c.id).limit(limit)
        return [_run(text) for text in self._connection.scalars(newest)]

    def last_ended(self, environment: str, endpoint: str, monitor: str) -> MonitorRun | None:
        """The run of its own window that was due last of those that have ended, without its report."""
        mine = _of(environment, endpoint, monitor) & table.c.state.not_in(_UNENDED)
        query = sa.select(table.c.run).where(mine & ~table.c.run.contains(_HAS_PERIOD))
        last = query.order_by(table.c.due_at.desc(), table.c.id).limit(1)
        return next(map(_run, self._connection.scalars(last)), None)

    def last_slot(
        self, environment: str, endpoint: str, monitor: str, *, until: datetime
    ) -> datetime | None:
        """The newest slot of its schedule, up to a time, for which a monitor has a run."""
        query = sa.select(sa.func.max(table.c.due_at)).where(
            _of(environment, endpoint, monitor),
            table.c.trigger == Trigger.SCHEDULE.value,
            table.c.due_at <= until,
        )
        last = self._connection.scalar(query)
        assert last is None or isinstance(last, datetime)
        return last

    def outdated(self, environment: str, *, before: datetime, keep: int) -> list[MonitorRun]:
        """Ended runs that were due before that time, and those beyond a monitor's newest `keep`."""
        rank = sa.func.row_number().over(
            partition_by=(table.c.endpoint, table.c.monitor), order_by=table.c.due_at.desc()
        )
        ranked = (
            sa.select(table.c.run, table.c.due_at, table.c.state, rank.label("place"))
            .where(table.c.environment == environment)
            .subquery()
        )
        query = sa.select(ranked.c.run).where(
            ranked.c.state.not_in(_UNENDED),
            (ranked.c.due_at < before) | (ranked.c.place > keep),
        )
        return [_run(text) for text in self._connection.scalars(query)]

    def delete(self, runs: Sequence[str]) -> None:
        """Forgets runs by their ids; nothing for those that are gone."""
        for at in range(0, len(runs), _AT_ONCE):
            part = table.c.id.in_(runs[at : at + _AT_ONCE])
            self._connection.execute(sa.delete(table).where(part))


def _of(environment: str, endpoint: str, monitor: str) -> sa.ColumnElement[bool]:
    return (
        (table.c.environment == environment)
        & (table.c.endpoint == endpoint)
        & (table.c.monitor == monitor)
    )


def _row(run: MonitorRun) -> dict[str, str | None]:
    bare = msgspec.structs.replace(run, report=None)
    report = None if run.report is None else msgspec.json.encode(run.report).decode()
    return {
        "state": run.state.value,
        "run": msgspec.json.encode(bare).decode(),
        "report": report,
    }


def _run(text: str) -> MonitorRun:
    return msgspec.json.decode(text, type=MonitorRun)


def _report(text: str) -> MonitorReport:
    return msgspec.json.decode(text, type=MonitorReport)
