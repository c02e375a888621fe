"""The use cases of monitors: what there is, what was found, and running one now."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from shipway.control.changes import Request
from shipway.control.monitor_runner import new_run_id
from shipway.core.audit import Change
from shipway.core.endpoints import EndpointState
from shipway.core.errors import ConflictError, EndpointNotFound, NotFound
from shipway.core.monitor_runs import MonitorRun, MonitorStand, Period, Trigger, period_of
from shipway.core.monitors import MonitorSpec
from shipway.store.objects.reports import ReportObjects
from shipway.store.sql.database import Database, Transaction

_INSTANT = timedelta(microseconds=1)
_LOOKED_AT = 100
"""Runs among which those that wait are looked for."""

_MOST_WAITING = 10
"""Runs of a monitor that people may let wait: each is a process of its own, one at a time."""


class Monitors:
    """The monitors of one environment. Thread-safe; methods block and may raise StoreUnavailable."""

    def __init__(
        self,
        database: Database,
        reports: ReportObjects,
        *,
        environment: str,
        poke: Callable[[], None] = lambda: None,
    ) -> None:
        """`poke` tells who carries runs out that there is one."""
        self.environment = environment
        self._poke = poke
        self._database = database
        self._reports = reports

    def of(self, endpoint: str, *, now: datetime) -> tuple[MonitorStand, ...]:
        """The monitors of an endpoint in the order of its spec; none where it keeps no predictions.

        Raises:
            EndpointNotFound: there is none of that name.
        """
        with self._database.reading() as tx:
            state = self._state(tx, endpoint)
            return tuple(self._stand(tx, state, one, now) for one in state.spec.monitored)

    def run_now(
        self,
        endpoint: str,
        monitor: str,
        request: Request,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> MonitorRun:
        """Puts down a run that judges the window up to now, or other times. While the same waits or runs, gives that.

        Raises:
            EndpointNotFound, NotFound: there is no such endpoint or monitor.
            InvalidRequest: see `period_of`.
            ConflictError: too many others wait.
        """
        with self._database.transaction() as tx:
            spec = _named(self._state(tx, endpoint), monitor)
            period = period_of(spec, since=since, until=until, now=request.now)
            newest = self._newest(tx, endpoint, monitor, limit=_LOOKED_AT)
            waiting = [
                one for one in newest if one.trigger is Trigger.PERSON and one.ended_at is None
            ]
            for run in waiting:
                if run.period == period:
                    return run
            if len(waiting) >= _MOST_WAITING:
                raise _too_many(endpoint, monitor)
            run = self._new(endpoint, spec, request, period)
            while not tx.monitor_runs.add(run):  # another is due at the same instant
                run = msgspec.structs.replace(run, due_at=run.due_at + _INSTANT)
            tx.audit.append(_change(run, request))
        self._poke()
        return run

    def runs(self, endpoint: str, monitor: str, *, limit: int) -> tuple[MonitorRun, ...]:
        """The runs of a monitor without their reports, the one that was due last first.

        Those of a monitor that is no longer declared are still there.

        Raises:
            EndpointNotFound: there is no such endpoint.
        """
        with self._database.reading() as tx:
            self._state(tx, endpoint)
            return tuple(self._newest(tx, endpoint, monitor, limit=limit))

    def run(self, endpoint: str, run: str) -> MonitorRun:
        """One run, with its report.

        Raises:
            EndpointNotFound, NotFound: the endpoint has no such run.
        """
        with self._database.reading() as tx:
            self._state(tx, endpoint)
            found = tx.monitor_runs.get(run)
        if found is None or (found.environment, found.endpoint) != (self.environment, endpoint):
            raise NotFound(
                f"Endpoint `{endpoint}` has no monitor run `{run}`.",
                next_step=f"`shipway monitors list {endpoint}` shows the newest.",
            )
        return found

    def artifact(self, endpoint: str, run: str, name: str) -> bytes:
        """A file that was made of a run's report.

        Raises:
            EndpointNotFound, NotFound: there is no such run, or no such file of it.
        """
        found = self.run(endpoint, run)
        content = self._reports.read(f"{found.place}/{name}") if name in found.artifacts else None
        if content is None:
            raise NotFound(
                f"Monitor run `{run}` has no `{name}`: it is made of what was found, and of runs that"
                " somebody asked for.",
                next_step=f"Run it now: `shipway monitors run {endpoint} {found.monitor.label}`.",
            )
        return content

    def _stand(
        self, tx: Transaction, state: EndpointState, monitor: MonitorSpec, now: datetime
    ) -> MonitorStand:
        endpoint = state.spec.name
        return MonitorStand(
            monitor=monitor,
            next_at=monitor.schedule(endpoint).following(now),
            last=tx.monitor_runs.last_ended(self.environment, endpoint, monitor.label),
        )

    def _newest(
        self, tx: Transaction, endpoint: str, monitor: str, *, limit: int
    ) -> list[MonitorRun]:
        return tx.monitor_runs.newest(self.environment, endpoint, monitor, limit=limit)

    def _new(
        self, endpoint: str, monitor: MonitorSpec, request: Request, period: Period | None
    ) -> MonitorRun:
        return MonitorRun(
            id=new_run_id(),
            environment=self.environment,
            endpoint=endpoint,
            monitor=monitor,
            due_at=request.now,
            trigger=Trigger.PERSON,
            by=request.actor,
            period=period,
        )

    def _state(self, tx: Transaction, endpoint: str) -> EndpointState:
        state = tx.endpoints.get(self.environment, endpoint)
        if state is None:
            raise EndpointNotFound.named(
                endpoint, (), next_step="`shipway get` lists the endpoints."
            )
        return state


def _named(state: EndpointState, monitor: str) -> MonitorSpec:
    labels = {one.label: one for one in state.spec.monitored}
    if monitor in labels:
        return labels[monitor]
    if state.spec.capture is None:
        raise NotFound(
            f"Endpoint `{state.spec.name}` keeps no predictions, and so has no monitors.",
            next_step="Add `capture: {}` to its spec.",
        )
    raise NotFound.named(
        monitor, labels, next_step=f"`shipway monitors list {state.spec.name}` lists them."
    )


def _too_many(endpoint: str, monitor: str) -> ConflictError:
    return ConflictError(
        f"{_MOST_WAITING} runs of monitor `{monitor}` of `{endpoint}` wait already.",
        next_step=f"Ask again once they are done: see `shipway monitors history {endpoint} {monitor}`.",
    )


def _change(run: MonitorRun, request: Request) -> Change:
    return Change(
        at=request.now,
        actor=request.actor,
        action="monitor.run",
        subject=run.endpoint,
        details={
            "environment": run.environment,
            "monitor": run.monitor.label,
            "run": run.id,
            "spec": msgspec.to_builtins(run.monitor),
            **({"period": msgspec.to_builtins(run.period)} if run.period else {}),
        },
    )
