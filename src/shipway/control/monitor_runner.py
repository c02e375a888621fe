"""Carries out the runs that are due: one at a time, each in a process of its own, each once over all controls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from shipway.control.monitor_orders import Orders
from shipway.core.endpoints import EndpointState
from shipway.core.errors import ShipwayError
from shipway.core.monitor_runs import (
    MonitorRun,
    RunState,
    done,
    failed,
    released,
    signals_of,
    taken,
)
from shipway.core.monitors import MonitorKind, MonitorSpec
from shipway.core.partitions import Contents
from shipway.core.signals import Signal
from shipway.monitoring.order import Answer
from shipway.monitoring.process import RunProcess
from shipway.store.objects.reports import ReportObjects
from shipway.store.sql.database import Database, Transaction

TICK_S = 5.0
KEEP = timedelta(days=90)
KEEP_RUNS = 1000
"""Of a monitor, so many of the newest runs are kept, none for longer than `KEEP`."""

_SWEEP_EVERY = timedelta(days=1)
Observe = Callable[[Sequence[Signal], datetime], None]

_log = logging.getLogger(__name__)


class MonitorRunner:
    """The runs of one environment. Methods block and may raise StoreUnavailable; one thread at a time.

    `observe` is told what each ended run says. `scratch` is a directory for what runs write.
    """

    def __init__(  # noqa: PLR0913 - what it works with, and what it works on
        self,
        database: Database,
        orders: Orders,
        reports: ReportObjects,
        *,
        environment: str,
        process: RunProcess,
        observe: Observe,
        clock: Callable[[], datetime],
        scratch: Path,
    ) -> None:
        self._database = database
        self._orders = orders
        self._reports = reports
        self._environment = environment
        self._process = process
        self._observe = observe
        self._clock = clock
        self._scratch = scratch
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._holder = uuid4().hex
        self._looked_at: datetime | None = None
        self._swept_at: datetime | None = None
        self._next: dict[tuple[str | None, ...], datetime] = {}

    async def run(self) -> None:
        """Plans and carries out runs until it is cancelled; then the process that runs is ended."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self._news.wait()
                self._news.clear()
                await asyncio.to_thread(self._tick_safely)
        finally:
            self._process.close()

    def poke(self) -> None:
        """Lets it look for runs now. Thread-safe."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._news.set)

    def _tick_safely(self) -> None:
        try:
            self.tick()
        except ShipwayError as exc:
            _log.warning("Monitors cannot run now: %s", exc)
        except Exception:  # noqa: BLE001 - the loop's outermost frame
            _log.exception("Monitors cannot run now")

    def tick(self) -> None:
        """Plans what is due, carries out all that waits or becomes due meanwhile, and once a day lets old runs go."""
        self.plan(self._clock())
        while self.work():
            self.plan(self._clock())
        now = self._clock()
        if self._swept_at is None or not now - _SWEEP_EVERY < self._swept_at <= now:
            self._swept_at = now
            self.sweep(now)

    def plan(self, now: datetime) -> None:
        """Puts down a run for each monitor that is due; one that is down already stays the only one."""
        if self._looked_at is not None and now < self._looked_at:
            self._next.clear()  # the clock was set back
        self._looked_at = now
        seen: dict[tuple[str | None, ...], datetime] = {}
        with self._database.reading() as tx:
            states = [
                state
                for state in tx.endpoints.list()
                if state.spec.environment == self._environment
            ]
            due = [
                run
                for state in states
                if state.active is not None
                for monitor in state.spec.monitored
                if (run := self._due(tx, state, monitor, now, seen)) is not None
            ]
        if due:
            with self._database.transaction() as tx:
                for run in due:
                    tx.monitor_runs.add(run)
        self._next |= seen  # not before its run is kept: a slot that is not looked at again is lost

    def _due(
        self,
        tx: Transaction,
        state: EndpointState,
        monitor: MonitorSpec,
        now: datetime,
        seen: dict[tuple[str | None, ...], datetime],
    ) -> MonitorRun | None:
        """The run of a monitor that is due, if any. When it has to be looked at next is added to `seen`."""
        endpoint = state.spec.name
        key = (endpoint, monitor.label, monitor.every, monitor.cron)
        if (following := self._next.get(key)) is not None and now < following:
            return None
        schedule = monitor.schedule(endpoint)
        last = tx.monitor_runs.last_slot(self._environment, endpoint, monitor.label, until=now)
        slot = schedule.due(last, now)
        if (following := schedule.following(now)) is not None:
            seen[key] = following
        if slot is None or not self._has_material(tx, endpoint, monitor):
            return None
        return MonitorRun(
            id=new_run_id(),
            environment=self._environment,
            endpoint=endpoint,
            monitor=monitor,
            due_at=slot,
        )

    def _has_material(self, tx: Transaction, endpoint: str, monitor: MonitorSpec) -> bool:
        """Whether there is anything to look at: errors need feedback."""
        if monitor.kind is not MonitorKind.PERFORMANCE:
            return True
        files = tx.partitions.of(self._environment, endpoint)
        return any(one.contents is Contents.FEEDBACK for one in files)

    def work(self) -> bool:
        """Carries out the run that waits for longest; False when none does, or this process ends."""
        now = self._clock()
        with self._database.transaction() as tx:
            free = tx.monitor_runs.free(self._environment, now)
            if not free:
                return False
            run = taken(free[0], holder=self._holder, now=now)
            state = tx.endpoints.get(self._environment, run.endpoint)
            if state is None:
                tx.monitor_runs.delete([run.id])
                return True
            if run.state is RunState.RUNNING:
                tx.monitor_runs.put(run, holder=free[0].holder)
        if run.state is RunState.RUNNING:
            return self._carried_out(run, state)
        self._end(run, holder=free[0].holder)
        return True

    def _carried_out(self, run: MonitorRun, state: EndpointState) -> bool:
        ended = self._result(run, state)
        if ended.state is RunState.WAITING:
            with self._database.transaction() as tx:
                tx.monitor_runs.put(ended, holder=self._holder)
            return False
        with self._database.reading() as tx:
            held = tx.monitor_runs.get(run.id)
        if held is not None and held.holder == self._holder:
            self._end(ended, holder=self._holder)
        return True

    def _end(self, run: MonitorRun, *, holder: str) -> None:
        """Tells what the run says, then keeps it: whoever is killed between does it again, and tells the same."""
        self._observe(signals_of(run), self._clock())
        with self._database.transaction() as tx:
            tx.monitor_runs.put(run, holder=holder)

    def _result(self, run: MonitorRun, state: EndpointState) -> MonitorRun:
        """The run after it was carried out."""
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            with (
                TemporaryDirectory(prefix="monitor-", dir=self._scratch) as directory,
                self._orders.opened(run, state, Path(directory)) as order,
            ):
                answer = self._process.run(order)
                if answer is None:
                    return released(run)
                self._keep(run, answer, Path(directory))
        except ShipwayError as error:
            return failed(run, message=str(error), now=self._clock())
        except OSError as error:
            message = f"`{self._scratch}` cannot be used: {error.strerror}. Free some of its disk."
            return failed(run, message=message, now=self._clock())
        if answer.report is None:
            return failed(run, message=answer.message, now=self._clock())
        return done(run, answer.report, artifacts=answer.artifacts, now=self._clock())

    def _keep(self, run: MonitorRun, answer: Answer, directory: Path) -> None:
        for name in answer.artifacts:
            self._reports.put(f"{run.place}/{name}", (directory / name).read_bytes())

    def sweep(self, now: datetime) -> int:
        """Lets old and surplus runs go, with what was made of them; gives how many."""
        with self._database.reading() as tx:
            gone = tx.monitor_runs.outdated(self._environment, before=now - KEEP, keep=KEEP_RUNS)
        for run in gone:
            for name in run.artifacts:
                self._reports.delete(f"{run.place}/{name}")
        with self._database.transaction() as tx:
            tx.monitor_runs.delete([run.id for run in gone])
        return len(gone)

    def close(self) -> None:
        """Ends the process that runs; its run waits for the next control."""
        self._process.close()


def new_run_id() -> str:
    """An id that was never given out before."""
    return uuid4().hex
