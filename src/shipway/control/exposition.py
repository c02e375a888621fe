"""`GET /metrics` of control: what it declared, what it sees run, what it watches finds, and what itself takes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain

from shipway.control.gauges import Gauges
from shipway.control.views import Seen
from shipway.core.endpoints import Phase
from shipway.core.monitor_runs import MonitorRun, MonitorVerdict, RunState
from shipway.core.observed import Desired
from shipway.core.release import VERSION
from shipway.core.replicas import Replica, ReplicaState
from shipway.core.rollouts import Rollout
from shipway.core.signals import Severity
from shipway.store.sql.database import Database
from shipway.wire.exposition import Family, Labels, simple
from shipway.wire.processes import use_of

_ENDPOINT = ("endpoint",)
_VERSION = ("endpoint", "version")
_ROLLOUT = ("endpoint", "candidate")
_MONITOR = ("endpoint", "monitor", "kind")


def _gauge(name: str, help_text: str, labels: tuple[str, ...] = ()) -> Family:
    return Family(name=name, kind="gauge", help=help_text, labels=labels)


def _counter(name: str, help_text: str, labels: tuple[str, ...] = ()) -> Family:
    return Family(name=name, kind="counter", help=help_text, labels=labels)


BUILD = _gauge(
    "shipway_control_build_info",
    "1, with the release of control and its environment.",
    ("version", "environment"),
)
PHASE = _gauge(
    "shipway_endpoint_phase",
    "1 for the phase that an endpoint is in, 0 for the others.",
    ("endpoint", "phase"),
)
ASLEEP = _gauge(
    "shipway_endpoint_asleep", "Whether an endpoint sleeps until the next request.", _ENDPOINT
)
READY = _gauge(
    "shipway_version_ready",
    "Replicas of a version that answer; of a model in the gateways, the gateways that have it.",
    _VERSION,
)
REPLICAS = _gauge("shipway_replicas", "Replicas by their state.", (*_VERSION, "state"))
REPLICA_MEMORY = _gauge(
    "shipway_replica_resident_memory_bytes",
    "Memory of a replica's process, what it shares counted in part.",
    (*_VERSION, "replica"),
)
REPLICA_CPU = _counter(
    "shipway_replica_cpu_seconds_total",
    "Processor time of a replica's process.",
    (*_VERSION, "replica"),
)
EXITS = _counter(
    "shipway_replica_exits_total",
    "Replicas that ended without being asked to, since control started.",
    _VERSION,
)
ROLLOUT = _gauge(
    "shipway_rollout_weight_ratio",
    "The candidate's share (0 to 1) of requests in a rollout under way.",
    (*_ROLLOUT, "phase"),
)
ROLLOUT_START = _gauge(
    "shipway_rollout_started_seconds", "When a rollout under way began, in Unix time.", _ROLLOUT
)
ROLLOUT_STEP = _gauge(
    "shipway_rollout_step_started_seconds",
    "When the present step of a rollout began, in Unix time.",
    _ROLLOUT,
)
FIRING = _gauge(
    "shipway_alerts_firing",
    "Alerts that fire, acknowledged and silenced ones too; those of the server itself have no endpoint.",
    ("endpoint", "severity"),
)
MONITOR_RUN = _gauge(
    "shipway_monitor_last_run_timestamp_seconds",
    "When the last run of a monitor ended, in Unix time.",
    _MONITOR,
)
MONITOR_STATE = _gauge(
    "shipway_monitor_state",
    "1 for what the last run of a monitor came to, 0 for the rest: `steady`, `firing` (it found something),"
    " `inconclusive` (too little data), or `error` (it could not do its work).",
    (*_MONITOR, "state"),
)
GATEWAYS = _gauge("shipway_gateways_live", "Gateways that reported to control in the last 5 s.")
AUDIT = _counter(
    "shipway_audit_events_total", "Events on the audit record, archived ones included."
)
GPU = _gauge("shipway_gpu_use_ratio", "Use (0 to 1) of the GPUs of control's machine, in the mean.")
CPU = _counter("shipway_control_cpu_seconds_total", "Processor time of control.")
MEMORY = _gauge("shipway_control_resident_memory_bytes", "Resident memory of control.")
UNSENT = _counter(
    "shipway_control_telemetry_dropped_total",
    "Traces and log records of control that were not sent to the OpenTelemetry collector.",
)

FAMILIES = (
    *(BUILD, PHASE, ASLEEP, READY, REPLICAS, REPLICA_MEMORY, REPLICA_CPU, EXITS),
    *(ROLLOUT, ROLLOUT_START, ROLLOUT_STEP, FIRING, MONITOR_RUN, MONITOR_STATE),
    *(GATEWAYS, AUDIT, GPU, CPU, MEMORY, UNSENT),
)
"""Every metric, in the order of the page."""

_Samples = Iterator[tuple[Labels, float]]


class Exposition:
    """Makes the page. Thread-safe; blocks."""

    def __init__(
        self,
        database: Database,
        gauges: Gauges,
        *,
        environment: str,
        seen: Callable[[], Seen],
        unsent: Callable[[], int],
    ) -> None:
        """`unsent` gives how many traces and log records of this process a collector was not told of."""
        self._database = database
        self._gauges = gauges
        self._environment = environment
        self._seen = seen
        self._unsent = unsent

    def page(self) -> bytes:
        """The whole page.

        Raises:
            StoreUnavailable: the database is away.
        """
        lines = chain(
            self._of_control(), _of_endpoints(self._seen()), self._of_watching(), self._of_counts()
        )
        return "".join(f"{line}\n" for line in lines).encode()

    def _of_control(self) -> Iterator[str]:
        with self._database.reading() as tx:
            newest = tx.audit.newest(limit=1)
        yield from simple(BUILD, [({"version": VERSION, "environment": self._environment}, 1.0)])
        yield from simple(GATEWAYS, [({}, float(len(self._seen().gateways)))])
        yield from simple(AUDIT, [({}, float(newest[0].sequence if newest else 0))])
        use = use_of(os.getpid())
        if use is not None:
            yield from simple(CPU, [({}, use.cpu_s)])
            yield from simple(MEMORY, [({}, float(use.memory_bytes))])
        yield from simple(UNSENT, [({}, float(self._unsent()))])
        gpu = self._gauges.gpu_use()
        if gpu is not None:
            yield from simple(GPU, [({}, gpu)])

    def _of_watching(self) -> Iterator[str]:
        """What monitors and alerts say. An endpoint without any alert says 0: a series that ends says nothing."""
        with self._database.reading() as tx:
            states = tx.endpoints.list()
            found = tx.alerts.newest(self._environment, endpoint=None, is_open=True)
            firing = Counter((one.endpoint, one.severity) for one in found if one.fires)
            specs = [one.spec for one in states if one.spec.environment == self._environment]
            last = [
                tx.monitor_runs.last_ended(self._environment, spec.name, one.label)
                for spec in specs
                for one in spec.monitored
            ]
        names = sorted({"", *(spec.name for spec in specs), *(name for name, _ in firing)})
        yield from simple(
            FIRING,
            [
                ({"endpoint": name, "severity": one.value}, float(firing[name, one]))
                for name in names
                for one in Severity
            ],
        )
        runs = [one for one in last if one is not None]
        yield from simple(MONITOR_RUN, _ends(runs))
        yield from simple(MONITOR_STATE, _outcomes(runs))

    def _of_counts(self) -> Iterator[str]:
        exits = self._gauges.exits
        yield from simple(
            EXITS,
            [({"endpoint": e, "version": v}, float(n)) for (e, v), n in sorted(exits.items())],
        )


def _of_endpoints(seen: Seen) -> Iterator[str]:
    desired = [one for _, one in sorted(seen.decided.items())]
    yield from simple(PHASE, _phases(desired))
    yield from simple(ASLEEP, [({"endpoint": _named(d)}, float(d.is_asleep)) for d in desired])
    yield from simple(READY, _ready(desired, seen))
    replicas = sorted(seen.observed.replicas, key=lambda replica: replica.id)
    yield from simple(REPLICAS, _states(replicas))
    running = [replica for replica in replicas if replica.pid is not None and replica.is_running]
    yield from simple(
        REPLICA_MEMORY, [(_replica(r), float(round(r.memory_mb * 2**20))) for r in running]
    )
    yield from simple(REPLICA_CPU, _cpu(running))
    rollouts = [one.state.under_way for one in desired if one.state.under_way is not None]
    yield from simple(
        ROLLOUT,
        [({**_rollout(r), "phase": r.phase.value}, r.weight_pct / 100) for r in rollouts],
    )
    yield from simple(ROLLOUT_START, [(_rollout(r), r.started_at.timestamp()) for r in rollouts])
    yield from simple(ROLLOUT_STEP, [(_rollout(r), r.since.timestamp()) for r in rollouts])


def _ends(runs: list[MonitorRun]) -> _Samples:
    for run in runs:
        if run.ended_at is not None:
            yield _monitor(run), run.ended_at.timestamp()


def _outcomes(runs: list[MonitorRun]) -> _Samples:
    for run in runs:
        came_to = RunState.ERROR.value if run.verdict is None else run.verdict.value
        for state in (*(one.value for one in MonitorVerdict), RunState.ERROR.value):
            yield {**_monitor(run), "state": state}, float(state == came_to)


def _monitor(run: MonitorRun) -> Labels:
    return {
        "endpoint": run.endpoint,
        "monitor": run.monitor.label,
        "kind": run.monitor.kind.value,
    }


def _named(one: Desired) -> str:
    return one.state.spec.name


def _phases(desired: list[Desired]) -> _Samples:
    for one in desired:
        for phase in Phase:
            is_in = one.state.phase is phase
            yield {"endpoint": _named(one), "phase": phase.value}, float(is_in)


def _ready(desired: list[Desired], seen: Seen) -> _Samples:
    for one in desired:
        for version in sorted(one.facts, key=str):
            labels = {"endpoint": _named(one), "version": str(version)}
            yield labels, float(seen.observed.ready(one, version))


def _states(replicas: list[Replica]) -> _Samples:
    counts = Counter((r.endpoint, str(r.version), r.state) for r in replicas)
    for endpoint, version in sorted({(e, v) for e, v, _ in counts}):
        for state in ReplicaState:
            labels = {"endpoint": endpoint, "version": version, "state": state.value}
            yield labels, float(counts[endpoint, version, state])


def _cpu(running: list[Replica]) -> _Samples:
    for replica in running:
        use = use_of(replica.pid or 0)
        if use is not None:
            yield _replica(replica), use.cpu_s


def _replica(replica: Replica) -> Labels:
    return {
        "endpoint": replica.endpoint,
        "version": str(replica.version),
        "replica": replica.id,
    }


def _rollout(rollout: Rollout) -> Labels:
    return {"endpoint": rollout.endpoint, "candidate": str(rollout.candidate)}
