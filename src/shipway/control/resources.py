"""What ran and what it used, from the metric history: the ground that costs are counted on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from shipway.control.costs import HourUse
from shipway.control.gauges import LOOK_EVERY_S, SERVER
from shipway.core.access import project_of
from shipway.core.bundles import Format
from shipway.core.costs import GB, Resources, Usage
from shipway.core.endpoints import EndpointSpec
from shipway.core.measures import SAMPLES, requests_of, value_of
from shipway.core.registry import VersionRecord
from shipway.core.repeats import compared_inputs
from shipway.core.resolutions import MINUTES, Stretch, stretches
from shipway.core.tallies import Tally, added
from shipway.core.telemetry import Name
from shipway.core.thrift import Observed
from shipway.core.versions import VersionRef, parse_version
from shipway.store.sql.database import Database, Transaction

_FLOAT_FORMATS = frozenset({Format.TORCHSCRIPT, Format.TORCH_EXPORT, Format.ONNX})
"""Formats of models whose weights are float32 unless somebody changed that."""


class HistoryUse:
    """The use of one environment's endpoints. Thread-safe; blocks, and raises StoreUnavailable.

    A tenant is the project that an endpoint belongs to.
    """

    def __init__(
        self, database: Database, *, environment: str, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._environment = environment
        self._clock = clock

    def used(self, since: datetime, until: datetime) -> HourUse | None:
        """What ran between the two; None where the history has nothing."""
        with self._database.reading() as tx:
            tallies = self._tallies(tx, since, until)
            specs = self._specs(tx)
        if not tallies:
            return None
        usages = (_usage(name, tally, specs) for name, tally in tallies.items() if name[1])
        return HourUse(
            usages=tuple(one for one in usages if one.requests or one.own != Resources()),
            shared=_shared(tallies.get(SERVER, {})),
        )

    def observed(self, since: datetime, until: datetime) -> Sequence[Observed]:
        """What advice is given on, of the versions that serve now."""
        with self._database.reading() as tx:
            tallies = self._tallies(tx, since, until)
            specs = self._specs(tx)
            busy = self._busiest(tx, until)
            active = self._active(tx)
            records = {name: _record(tx, name[1]) for name in tallies if name in active}
        return [
            _observed(name, tallies[name], specs[name[0]], record, busy=busy.get(name, 0.0))
            for name, record in records.items()
            if record is not None
        ]

    def _tallies(
        self, tx: Transaction, since: datetime, until: datetime
    ) -> Mapping[Name, dict[str, float]]:
        parts: dict[Name, list[Tally]] = {}
        for stretch in stretches(since, until, self._clock()):
            for name, _, tally in self._windows(tx, stretch):
                parts.setdefault(name, []).append(tally)
        return {name: added(found) for name, found in parts.items()}

    def _windows(
        self, tx: Transaction, stretch: Stretch
    ) -> Iterator[tuple[Name, datetime, dict[str, float]]]:
        yield from tx.metrics.windows(self._environment, stretch, endpoint=None, version="")

    def _specs(self, tx: Transaction) -> dict[str, EndpointSpec]:
        states = (state.spec for state in tx.endpoints.list())
        return {spec.name: spec for spec in states if spec.environment == self._environment}

    def _active(self, tx: Transaction) -> set[Name]:
        states = tx.endpoints.list()
        mine = (state for state in states if state.spec.environment == self._environment)
        return {(state.spec.name, str(state.active)) for state in mine}

    def _busiest(self, tx: Transaction, until: datetime) -> dict[Name, float]:
        """The highest mean number of requests inside in any minute of the last two days."""
        since = until - timedelta(seconds=MINUTES.keep_s)
        stretch = Stretch(
            step_s=MINUTES.step_s, since=MINUTES.start_of(since), until=MINUTES.start_of(until)
        )
        busiest: dict[Name, float] = {}
        for name, _, tally in self._windows(tx, stretch):
            inside = value_of("in_flight", tally, MINUTES.step_s) or 0.0
            busiest[name] = max(busiest.get(name, 0.0), inside)
        return busiest


def _usage(name: Name, tally: Tally, specs: Mapping[str, EndpointSpec]) -> Usage:
    endpoint, version = name
    spec = specs.get(endpoint)
    return Usage(
        endpoint=endpoint,
        version=version,
        use_case="" if spec is None else spec.use_case,
        tenants={project_of(endpoint): int(requests_of(tally))},
        own=Resources(
            cpu_s=tally.get("cpu_ms", 0.0) / 1000,
            memory_gb_s=_gb_s(tally.get("memory_kib", 0.0)),
        ),
    )


def _shared(tally: Tally) -> Resources:
    """What gateways and control used, and the GPUs, which nobody tells by endpoint."""
    return Resources(
        cpu_s=(tally.get("control_cpu_ms", 0.0) + tally.get("gateway_cpu_ms", 0.0)) / 1000,
        memory_gb_s=_gb_s(
            tally.get("control_memory_kib", 0.0) + tally.get("gateway_memory_kib", 0.0)
        ),
        gpu_s=tally.get("gpus", 0.0) * LOOK_EVERY_S,
    )


def _gb_s(summed_kib: float) -> float:
    """Kibibytes summed over looks as seconds of 10**9 bytes: each look stands for the time to the next."""
    return summed_kib * 1024 / GB * LOOK_EVERY_S


def _observed(
    name: Name, tally: Tally, spec: EndpointSpec, record: VersionRecord, *, busy: float
) -> Observed:
    seconds = tally.get(SAMPLES, 0.0) * LOOK_EVERY_S
    replicas = value_of("replicas_ready", tally, seconds) or 0.0
    memory_mb = value_of("memory_mb", tally, seconds) or 0.0
    infer_ms = value_of("infer_ms", tally, seconds)
    queue_ms = value_of("queue_ms", tally, seconds)
    return Observed(
        endpoint=name[0],
        version=name[1],
        hours=seconds / 3600,
        requests=int(requests_of(tally)),
        replicas=replicas,
        least_replicas=1 if spec.scaling is None else max(1, spec.scaling.min_replicas),
        busy=busy,
        cpu_s=tally.get("cpu_ms", 0.0) / 1000,
        memory_gb=memory_mb * 2**20 / GB / replicas if replicas else 0.0,
        infer_s=None if infer_ms is None else infer_ms / 1000,
        queue_s=None if queue_ms is None else queue_ms / 1000,
        batch_rows=value_of("batch_rows", tally, seconds),
        max_batch_rows=spec.limits.max_batch_rows,
        batchable=record.manifest.content.signature.batchable,
        size_mb=record.size_bytes / 1e6,
        is_float32=record.manifest.content.format in _FLOAT_FORMATS,
        compared=None
        if spec.cache is not None
        else compared_inputs(spec.capture, record.manifest.content.signature),
    )


def _record(tx: Transaction, version: str) -> VersionRecord | None:
    query = parse_version(version)
    return None if query.number is None else tx.versions.get(VersionRef(query.model, query.number))
