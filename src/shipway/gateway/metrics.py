"""`GET /metrics`: the counts of all gateways of the machine, from whichever of them is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

from shipway.core.telemetry import (
    BOUNDS_S,
    STEPS_PER_S,
    Column,
    Name,
    Outcome,
    answers,
    buckets,
)
from shipway.gateway.routes import RouteTable
from shipway.gateway.segments import used_bytes
from shipway.wire.exposition import Family, Labels, histogram, simple, summary
from shipway.wire.processes import use_of

_VERSION = ("endpoint", "version")
_ENDPOINT = ("endpoint",)

REQUESTS = Family(
    name="shipway_requests_total",
    kind="counter",
    help="Requests that have ended, by how.",
    labels=(*_VERSION, "outcome"),
)
SECONDS = Family(
    name="shipway_request_seconds",
    kind="histogram",
    help="Seconds from a request read to its answer made, of answers that are ok.",
    labels=_VERSION,
)
QUEUE_SECONDS = Family(
    name="shipway_queue_seconds",
    kind="histogram",
    help="Seconds that a request waited in its replica for its turn; models in a gateway have no queue.",
    labels=_VERSION,
)
INFERENCE_SECONDS = Family(
    name="shipway_inference_seconds",
    kind="histogram",
    help="Seconds that the model calls took which answered a request, the rest of its batch included.",
    labels=_VERSION,
)
BATCH_ROWS = Family(
    name="shipway_batch_rows",
    kind="summary",
    help="Rows of a model call. Sum by count is their mean.",
    labels=_VERSION,
)
COLD_STARTS = Family(
    name="shipway_cold_starts_total",
    kind="counter",
    help="Requests that were held until a replica had started, because none ran.",
    labels=_VERSION,
)
IN_FLIGHT = Family(
    name="shipway_in_flight",
    kind="gauge",
    help="Requests inside an endpoint now.",
    labels=_ENDPOINT,
)
QUEUE_LIMIT = Family(
    name="shipway_queue_limit",
    kind="gauge",
    help="Requests that may be inside an endpoint at once, over all gateways of the machine.",
    labels=_ENDPOINT,
)
WEIGHT = Family(
    name="shipway_weight_ratio",
    kind="gauge",
    help="A version's share (0 to 1) of its endpoint's requests, for callers who name no version.",
    labels=_VERSION,
)
CACHE_HITS = Family(
    name="shipway_cache_hits_total",
    kind="counter",
    help="Answers that the model was not run for.",
    labels=_VERSION,
)
CACHE_MISSES = Family(
    name="shipway_cache_misses_total",
    kind="counter",
    help="Answers that were not in the cache.",
    labels=_VERSION,
)
RETRIES = Family(
    name="shipway_retries_total",
    kind="counter",
    help="Second tries, on another replica.",
    labels=_VERSION,
)
FALLBACKS = Family(
    name="shipway_fallbacks_total",
    kind="counter",
    help="Requests that something else answered in place of the version.",
    labels=_VERSION,
)
CAPTURED = Family(
    name="shipway_predictions_captured_total",
    kind="counter",
    help="Predictions that were written to the prediction log.",
    labels=_VERSION,
)
LOST = Family(
    name="shipway_predictions_lost_total",
    kind="counter",
    help="Predictions that were to be captured and are lost: `queue`, they came faster than they were"
    " written; `disk`, it was full or broken; `invalid`, they cannot be encoded.",
    labels=(*_VERSION, "reason"),
)
WAITING = Family(
    name="shipway_predictions_waiting_bytes",
    kind="gauge",
    help="What waits on this machine's disk for control to take it into the prediction log: predictions and"
    " feedback, of all endpoints.",
)
REPLICAS = Family(
    name="shipway_replicas_ready",
    kind="gauge",
    help="Replicas that this gateway could ask now; 1 for a model in the gateway itself.",
    labels=_VERSION,
)
EJECTED = Family(
    name="shipway_replicas_ejected",
    kind="gauge",
    help="Replicas that this gateway leaves out of its choice now, because they do worse than others.",
    labels=_VERSION,
)
GATEWAYS = Family(
    name="shipway_gateways",
    kind="gauge",
    help="Gateways that live on this machine.",
)
LIMITS_SHARED = Family(
    name="shipway_limits_shared",
    kind="gauge",
    help="Whether this gateway counts limits together with other machines now (1), or not (0).",
)
UNSENT = Family(
    name="shipway_telemetry_dropped_total",
    kind="counter",
    help="Traces and log records that were not sent to the OpenTelemetry collector.",
)

CPU = Family(
    name="shipway_gateway_cpu_seconds_total",
    kind="counter",
    help="Processor time of a living gateway.",
    labels=("gateway",),
)
MEMORY = Family(
    name="shipway_gateway_resident_memory_bytes",
    kind="gauge",
    help="Resident memory of a living gateway.",
    labels=("gateway",),
)

FAMILIES = (
    *(REQUESTS, SECONDS, QUEUE_SECONDS, INFERENCE_SECONDS, BATCH_ROWS),
    *(IN_FLIGHT, QUEUE_LIMIT, CACHE_HITS, CACHE_MISSES),
    *(
        RETRIES,
        FALLBACKS,
        CAPTURED,
        LOST,
        WAITING,
        COLD_STARTS,
        REPLICAS,
        EJECTED,
        WEIGHT,
        GATEWAYS,
        LIMITS_SHARED,
        UNSENT,
    ),
    *(CPU, MEMORY),
)
"""Every metric, in the order of the page."""

_COLUMNS = (
    (CACHE_HITS, Column.CACHE_HITS),
    (CACHE_MISSES, Column.CACHE_MISSES),
    (RETRIES, Column.RETRIES),
    (FALLBACKS, Column.FALLBACKS),
    (CAPTURED, Column.CAPTURED),
    (COLD_STARTS, Column.COLD_STARTS),
)
_REASONS = {
    "queue": Column.LOST_QUEUE,
    "disk": Column.LOST_DISK,
    "invalid": Column.LOST_INVALID,
}

_Sums = Mapping[Name, Sequence[float]]


def page(table: RouteTable) -> bytes:
    """The whole page. Reads files, and may run in any thread."""
    sums = dict(sorted(table.counters.sums().items()))
    lines = chain(_of_counts(sums), _of_routes(table, sums), _of_processes(table))
    return "".join(f"{line}\n" for line in lines).encode()


def _of_counts(sums: _Sums) -> Iterator[str]:
    yield from simple(REQUESTS, _outcomes(sums))
    # The rows of endpoints as such have no answers that are ok, unless a fallback gave them.
    timed = [(name, row) for name, row in sums.items() if name[1] or answers(row, Outcome.OK)]
    yield from _timed(SECONDS, timed, Column.FIRST_BUCKET, Column.OK_STEPS)
    yield from _of_stages([(name, row) for name, row in sums.items() if name[1]])
    for family, column in _COLUMNS:
        rows = [
            (_labels(name), row[column]) for name, row in sums.items() if name[1] or row[column]
        ]
        yield from simple(family, rows)
    yield from simple(LOST, _losses(sums))


def _losses(sums: _Sums) -> Iterator[tuple[Labels, float]]:
    for name, row in sums.items():
        for reason, column in _REASONS.items():
            if name[1] or row[column]:
                yield {**_labels(name), "reason": reason}, row[column]


def _of_stages(rows: Sequence[tuple[Name, Sequence[float]]]) -> Iterator[str]:
    queued = [(name, row) for name, row in rows if any(buckets(row, Column.FIRST_QUEUE_BUCKET))]
    yield from _timed(QUEUE_SECONDS, queued, Column.FIRST_QUEUE_BUCKET, Column.QUEUE_STEPS)
    yield from _timed(INFERENCE_SECONDS, rows, Column.FIRST_RUN_BUCKET, Column.RUN_STEPS)
    batches = [(_labels(name), row[Column.BATCH_ROWS], row[Column.BATCHES]) for name, row in rows]
    yield from summary(BATCH_ROWS, batches)


def _timed(
    family: Family, rows: Sequence[tuple[Name, Sequence[float]]], first: Column, steps: Column
) -> Iterator[str]:
    """The lines of a histogram of seconds."""
    samples = ((_labels(name), buckets(row, first), row[steps] / STEPS_PER_S) for name, row in rows)
    yield from histogram(family, BOUNDS_S, samples)


def _outcomes(sums: _Sums) -> Iterator[tuple[Labels, float]]:
    for name, row in sums.items():
        for outcome in Outcome:
            count = answers(row, outcome)
            if name[1] or count:
                yield {**_labels(name), "outcome": outcome.name.lower()}, count


def _of_routes(table: RouteTable, sums: _Sums) -> Iterator[str]:
    inside = {name: row[Column.IN_FLIGHT] for name, row in sums.items()}
    routes = list(table.routes())
    of_route: Sequence[tuple[Family, Callable[..., float]]] = (
        (IN_FLIGHT, lambda route: inside.get((route.name, ""), 0.0)),
        (QUEUE_LIMIT, lambda route: float(route.max_queue)),
    )
    for family, value in of_route:
        yield from simple(family, [({"endpoint": r.name}, value(r)) for r in routes])
    variants = [variant for route in routes for variant in route.variants]
    of_variant: Sequence[tuple[Family, Callable[..., float]]] = (
        (REPLICAS, lambda variant: float(variant.runner.ready_replicas)),
        (EJECTED, lambda variant: float(variant.runner.ejected)),
        (WEIGHT, lambda variant: variant.spec.weight_pct / 100),
    )
    for family, value in of_variant:
        yield from simple(family, [(_labels((v.endpoint, v.spec.key)), value(v)) for v in variants])
    if table.spool is not None:
        yield from simple(WAITING, [({}, float(used_bytes(table.spool.directory)))])
    yield from simple(GATEWAYS, [({}, float(table.counters.gateways))])
    yield from simple(LIMITS_SHARED, [({}, float(table.ledger.is_shared))])
    unsent = sum(row[Column.UNSENT] for row in sums.values())
    yield from simple(UNSENT, [({}, unsent)])


def _of_processes(table: RouteTable) -> Iterator[str]:
    uses = [
        ({"gateway": gateway}, use)
        for gateway, pid in sorted(table.counters.processes().items())
        if (use := use_of(pid)) is not None
    ]
    yield from simple(CPU, [(labels, use.cpu_s) for labels, use in uses])
    yield from simple(MEMORY, [(labels, float(use.memory_bytes)) for labels, use in uses])


def _labels(name: Name) -> Labels:
    return dict(zip(_VERSION, name, strict=True))
