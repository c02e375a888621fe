"""Monitors from the caller's side: what there is, what was found, and a run that is waited for. No I/O."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Literal
from urllib.parse import quote

from shipway.client.exchange import Answer, Call, Flow, Pause, one, reading
from shipway.client.times import text_of
from shipway.core.errors import DeadlineExceeded
from shipway.core.monitor_runs import MonitorRun, MonitorStand

RUN_TIMEOUT_S = 900.0
Form = Literal["html", "svg", "png"]
"""What a report is shown as: a page, or its first findings drawn."""

_FILES = {"html": "report.html", "svg": "plot.svg", "png": "plot.png"}
_POLL_S = 0.5


def stands(endpoint: str) -> Call[tuple[MonitorStand, ...]]:
    """The endpoint's monitors."""
    path = _path(endpoint, "monitors")
    return Call(method="GET", path=path, read=reading(tuple[MonitorStand, ...]))


def start(
    endpoint: str, monitor: str, *, since: datetime | None = None, until: datetime | None = None
) -> Call[MonitorRun]:
    """Puts down a run over the window up to now, or over other times."""
    times = {"since": since, "until": until}
    return Call(
        method="POST",
        path=_path(endpoint, "monitors", monitor, "run"),
        query={name: text_of(at) for name, at in times.items() if at is not None},
        read=reading(MonitorRun),
    )


def runs(endpoint: str, monitor: str, *, limit: int) -> Call[tuple[MonitorRun, ...]]:
    """The runs of a monitor without their reports, the one that was due last first."""
    return Call(
        method="GET",
        path=_path(endpoint, "monitors", monitor, "runs"),
        query={"limit": str(limit)},
        read=reading(tuple[MonitorRun, ...]),
    )


def run(endpoint: str, run: str) -> Call[MonitorRun]:
    """One run, with its report."""
    path = _path(endpoint, "monitor-runs", run)
    return Call(method="GET", path=path, read=reading(MonitorRun))


def report(endpoint: str, run: str, form: Form) -> Call[bytes]:
    """What was made of a run's report."""
    return Call(method="GET", path=_path(endpoint, "monitor-runs", run, _FILES[form]), read=_bytes)


def ran(
    endpoint: str,
    monitor: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    timeout_s: float,
) -> Flow[MonitorRun]:
    """A run over the window up to now, or over other times, once it has ended.

    Raises:
        EndpointNotFound, NotFound: there is no such endpoint or monitor.
        InvalidRequest: nothing can have been kept of these times.
        ConflictError: too many runs wait.
        DeadlineExceeded: `timeout_s` passed first; the run goes on.
    """
    deadline = time.monotonic() + timeout_s
    found = yield from one(start(endpoint, monitor, since=since, until=until))
    while found.ended_at is None:
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(
                f"The run of monitor `{monitor}` was {found.state.value} after {timeout_s:g} s.",
                next_step=f"It goes on: see `shipway monitors show {endpoint} {found.id}`.",
            )
        yield Pause(_POLL_S)
        found = yield from one(run(endpoint, found.id))
    return found


def _path(endpoint: str, *parts: str) -> str:
    return "/".join(("/api/v1/endpoints", *(quote(part, safe="") for part in (endpoint, *parts))))


def _bytes(answer: Answer) -> bytes:
    return answer.body
