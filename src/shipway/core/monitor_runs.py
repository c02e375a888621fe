"""One run of a monitor: where it stands, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from shipway.core.errors import InvalidRequest
from shipway.core.monitors import LONGEST, MonitorSpec
from shipway.core.signals import Signal

LEASE = timedelta(minutes=20)
"""A run belongs to the process that took it for so long; who is killed loses it then."""

MOST_ATTEMPTS = 3
OLDEST = timedelta(days=3650)
"""Predictions are kept for no longer."""

FAILED = "monitor-failed"
"""The rule of signals that a monitor cannot do its work."""


class RunState(StrEnum):
    """Where a run stands."""

    WAITING = "waiting"
    """It is due, and no process has taken it."""

    RUNNING = "running"
    DONE = "done"
    """It has a verdict."""

    ERROR = "error"
    """It could not come to a verdict; `message` says why."""


class Trigger(StrEnum):
    """Why a run came about."""

    SCHEDULE = "schedule"
    PERSON = "person"


class MonitorVerdict(StrEnum):
    """What a run says."""

    STEADY = "steady"
    """Nothing that it looks at is wrong."""

    FIRING = "firing"
    """Something is wrong: large enough to matter, and too unlikely to be chance."""

    INCONCLUSIVE = "inconclusive"
    """There is too little data to say."""


class Bars(msgspec.Struct, frozen=True, kw_only=True):
    """How values are distributed on both sides, as shares of each side's values: one bar for each label.

    Labels are categories, or ranges of numbers in their order.
    """

    labels: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]


class Point(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The statistic of one part of the window; `value` is None of a part with too few rows.

    `limit` is what it would have to reach there to matter: more than over the whole window, as fewer rows leave
    more to chance.
    """

    at: datetime
    until: datetime
    value: float | None = None
    limit: float | None = None
    rows: int = 0


class MonitorFinding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One claim: what of an input or output (`feature`, empty for all rows) is wrong, and since when.

    `what` is the sort of change (`drift`, `missing`, ...), `words` a whole sentence. `statistic` names the number of
    `series`, and `threshold` is where it begins to matter. `since` is the start of the first part of the window
    from which on it held to the end, None where the parts are too small to tell.
    """

    feature: str
    what: str
    verdict: MonitorVerdict
    words: str
    numbers: dict[str, float] = {}
    statistic: str = ""
    threshold: float | None = None
    since: datetime | None = None
    series: tuple[Point, ...] = ()
    bars: Bars | None = None


class MonitorReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run found, the largest effects first.

    `reference` says in words what the window was compared with, `checked` how many claims were tested: those that
    hold are all among the `findings`, as are the nearest of the others. `notes` are what a reader must know beside.
    """

    verdict: MonitorVerdict
    summary: str
    start: datetime
    end: datetime
    reference: str
    rows: int
    reference_rows: int
    checked: int
    findings: tuple[MonitorFinding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def firing(self) -> tuple[MonitorFinding, ...]:
        """Those that hold."""
        return tuple(one for one in self.findings if one.verdict is MonitorVerdict.FIRING)

    @property
    def since(self) -> datetime | None:
        """Since when the earliest of them holds."""
        return min((one.since for one in self.firing if one.since is not None), default=None)


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """From when, and up to when."""

    since: datetime
    until: datetime


class MonitorRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run. It judges the window that ends at `due_at`, whenever it is started, or the `period` that somebody named.

    `attempts` is how often it was started, `leased_until` until when it belongs to `holder`. `artifacts` are the files
    that were made of it. `report` is None until it is done, and in lists.
    """

    id: str
    environment: str
    endpoint: str
    monitor: MonitorSpec
    due_at: datetime
    state: RunState = RunState.WAITING
    trigger: Trigger = Trigger.SCHEDULE
    by: str = ""
    attempts: int = 0
    holder: str = ""
    leased_until: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    verdict: MonitorVerdict | None = None
    summary: str = ""
    message: str = ""
    artifacts: tuple[str, ...] = ()
    report: MonitorReport | None = None
    period: Period | None = None

    @property
    def window(self) -> Period:
        """The times that it judges."""
        due = self.due_at
        return self.period or Period(since=due - self.monitor.length, until=due)

    @property
    def place(self) -> str:
        """Where its artifacts are kept, as a prefix in the artifact store."""
        return f"monitors/{self.environment}/{self.endpoint}/{self.id}"

    def is_free(self, now: datetime) -> bool:
        """Whether a process may take it.

        A lease that ends later than any that could be given now was given by a clock that was wrong.
        """
        if self.state is RunState.WAITING:
            return True
        if self.state is not RunState.RUNNING or self.leased_until is None:
            return False
        return not now < self.leased_until <= now + LEASE


def period_of(
    monitor: MonitorSpec, *, since: datetime | None, until: datetime | None, now: datetime
) -> Period | None:
    """The times that somebody wants judged; None where they name none.

    Without `until` they go up to now, without `since` they are as long as the monitor's window.

    Raises:
        InvalidRequest: nothing can have been kept of them, or they are longer than a year.
    """
    if since is None and until is None:
        return None
    end = until or now
    if not now - OLDEST <= end <= now:
        raise InvalidRequest(
            f"`until` is {end.isoformat()}, and nothing is kept of that.",
            next_step="Name a time that has passed, at most ten years ago.",
            path="until",
        )
    start = since or end - monitor.length
    if not timedelta() < end - start <= LONGEST:
        raise InvalidRequest(
            f"From {start.isoformat()} up to {end.isoformat()} is no time, or more than a year.",
            next_step="Name a `since` that is before `until`, at most 366 days.",
            path="since",
        )
    return Period(since=start, until=end)


def taken(run: MonitorRun, *, holder: str, now: datetime) -> MonitorRun:
    """The run in the hands of a process; an error when it was taken too often before."""
    if run.attempts >= MOST_ATTEMPTS:
        message = (
            f"It was started {run.attempts} times, and the process ended each time before it was done."
            " Look for it in control's log, and give the machine more memory."
        )
        return failed(run, message=message, now=now)
    return msgspec.structs.replace(
        run,
        state=RunState.RUNNING,
        attempts=run.attempts + 1,
        holder=holder,
        leased_until=now + LEASE,
        started_at=now,
    )


def released(run: MonitorRun) -> MonitorRun:
    """The run as if its process had not taken it: that one ends before it is done, and on purpose."""
    return msgspec.structs.replace(
        run,
        state=RunState.WAITING,
        attempts=run.attempts - 1,
        holder="",
        leased_until=None,
        started_at=None,
    )


def done(
    run: MonitorRun, report: MonitorReport, *, artifacts: Sequence[str], now: datetime
) -> MonitorRun:
    """The run with its verdict."""
    return msgspec.structs.replace(
        run,
        state=RunState.DONE,
        leased_until=None,
        ended_at=now,
        verdict=report.verdict,
        summary=report.summary,
        artifacts=tuple(artifacts),
        report=report,
    )


def failed(run: MonitorRun, *, message: str, now: datetime) -> MonitorRun:
    """The run that came to no verdict; `message` says why, and what to do."""
    return msgspec.structs.replace(
        run, state=RunState.ERROR, leased_until=None, ended_at=now, message=message
    )


class MonitorStand(msgspec.Struct, frozen=True, kw_only=True):
    """A monitor of an endpoint: what it does, when it runs next, and its last run over the newest window that ended."""

    monitor: MonitorSpec
    next_at: datetime | None
    last: MonitorRun | None = None


def signals_of(run: MonitorRun) -> tuple[Signal, ...]:
    """What an ended run says to the alerts.

    There is one alert per monitor, not per feature: a broken upstream moves many features at once. Without a
    verdict, an alert that is there stays, and none is raised. A run over a period that somebody named says nothing: what
    was then is no news, and whoever asked reads it.
    """
    if run.period is not None:
        return ()
    label = run.monitor.label
    work = _signal(
        run,
        rule=FAILED,
        is_firing=run.state is RunState.ERROR,
        summary=run.message or f"Monitor `{label}` works.",
    )
    work = msgspec.structs.replace(work, subject=label)
    if run.report is None or run.verdict in (None, MonitorVerdict.INCONCLUSIVE):
        return (work,)
    found = _signal(
        run,
        rule=run.monitor.rule,
        is_firing=run.verdict is MonitorVerdict.FIRING,
        summary=run.summary,
    )
    found = msgspec.structs.replace(
        found,
        severity=run.monitor.severity,
        since=run.report.since or run.report.start,
        numbers=run.report.firing[0].numbers if run.report.firing else {},
    )
    return found, work


def _signal(run: MonitorRun, *, rule: str, is_firing: bool, summary: str) -> Signal:
    return Signal(
        environment=run.environment,
        endpoint=run.endpoint,
        rule=rule,
        at=run.ended_at or run.due_at,
        is_firing=is_firing,
        summary=summary,
        since=run.due_at,
        report=f"/endpoints/{run.endpoint}/monitor-runs/{run.id}",
        next_step=f"shipway monitors show {run.endpoint} {run.id}" if is_firing else "",
    )
