"""The named numbers of an endpoint that alert rules, charts, `shipway top` and the API use.

Each is computed from what was counted over a period (`core.tallies`), so that the number over a day is
that of the day's requests, and no mean of means. A measure is None when the period does not say: a rate
of requests that there were none of is no rate of 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from shipway.core.errors import InvalidRequest
from shipway.core.tallies import BUCKETS, QUEUE_BUCKETS, RUN_BUCKETS, Tally
from shipway.core.telemetry import BOUNDS_S, STEPS_PER_S

SLOWER = "slower_than_ms"
"""The family of measures whose names end in a bound: `slower_than_ms:250`."""

SAMPLES = "samples"
"""Counts the looks at a version, over which its gauges are summed."""

LOOKS = "looks"
"""The same of an endpoint as a whole; none are counted while it sleeps."""

MEASURED = "measured"
"""Counts the looks at a version's processes; none where its model is in the gateways."""

Compute = Callable[[Tally, float], float | None]
"""Gives a measure of what was counted, and of the seconds that it was counted in."""


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """A named number.

    `unit` is `1/s`, `ratio` (0 to 1), `ms`, `cores`, `MB`, `percent`, `count` or `number`.
    """

    name: str
    unit: str
    help: str
    compute: Compute


def requests_of(tally: Tally) -> float:
    """How many requests have ended, however they did."""
    return answered_of(tally) + sum(tally.get(name, 0.0) for name in _NOT_OK)


def answered_of(tally: Tally) -> float:
    """How many requests were answered well."""
    return sum(tally.get(name, 0.0) for name in BUCKETS)


def errors_of(tally: Tally) -> float:
    """How many requests failed by no fault of their callers, but for those that were shed."""
    return sum(tally.get(name, 0.0) for name in _ERRORS)


def quantile_s(counts: Sequence[float], share: float) -> float | None:
    """A quantile of seconds, from the counts of the latency buckets; None of no requests.

    Within its bucket, requests are taken to be spread evenly, as Prometheus' `histogram_quantile` does:
    the error is at most the bucket's width. Above the last bound, the last bound. Of 4 requests in the
    bucket from 0.01 to 0.02 s the median is 0.015.
    """
    total = sum(counts)
    if total <= 0:
        return None
    rank, below, start = share * total, 0.0, 0.0
    for end, count in zip(BOUNDS_S, counts, strict=False):
        if count and below + count >= rank:
            return start + (end - start) * (rank - below) / count
        below, start = below + count, end
    return BOUNDS_S[-1]


def _per_second(tally: Tally, seconds: float) -> float | None:
    return requests_of(tally) / seconds if seconds > 0 else None


def _share(counted: Callable[[Tally], float], tally: Tally, seconds: float) -> float | None:
    del seconds
    requests = requests_of(tally)
    return counted(tally) / requests if requests else None


def _of(name: str) -> Callable[[Tally], float]:
    return lambda tally: tally.get(name, 0.0)


def _quantile_ms(share: float, tally: Tally, seconds: float) -> float | None:
    del seconds
    found = quantile_s([tally.get(name, 0.0) for name in BUCKETS], share)
    return None if found is None else found * 1000


def _cache_hit_rate(tally: Tally, seconds: float) -> float | None:
    del seconds
    hits = tally.get("cache_hits", 0.0)
    asked = hits + tally.get("cache_misses", 0.0)
    return hits / asked if asked else None


def _count(name: str, tally: Tally, seconds: float) -> float | None:
    del seconds
    return tally.get(name, 0.0)


def _looks(tally: Tally) -> float:
    return tally.get(LOOKS) or tally.get(SAMPLES, 0.0)


def _gauge(name: str, scale: float, tally: Tally, seconds: float) -> float | None:
    """The mean of what was seen at each look."""
    del seconds
    return tally.get(name, 0.0) / _looks(tally) / scale if _looks(tally) else None


def _cores(name: str, tally: Tally, seconds: float) -> float | None:
    return tally.get(name, 0.0) / 1000 / seconds if seconds > 0 and _looks(tally) else None


def _of_processes(compute: Compute, tally: Tally, seconds: float) -> float | None:
    """The measure, where there were processes to measure."""
    return compute(tally, seconds) if tally.get(MEASURED) else None


def _gpu_pct(tally: Tally, seconds: float) -> float | None:
    del seconds
    devices = tally.get("gpus", 0.0)
    return tally.get("gpu_pct", 0.0) / devices if devices else None


def _mean_ms(steps: str, buckets: Sequence[str], tally: Tally, seconds: float) -> float | None:
    del seconds
    requests = sum(tally.get(name, 0.0) for name in buckets)
    return 1000 * tally.get(steps, 0.0) / STEPS_PER_S / requests if requests else None


def _batch_rows(tally: Tally, seconds: float) -> float | None:
    del seconds
    batches = tally.get("batches", 0.0)
    return tally.get("batch_rows", 0.0) / batches if batches else None


def _capture_lost(tally: Tally, seconds: float) -> float | None:
    del seconds
    return sum(tally.get(name, 0.0) for name in ("lost_queue", "lost_disk", "lost_invalid"))


_ERRORS = ("deadline", "unavailable", "failed")
_NOT_OK = ("caller", "shed", *_ERRORS)


def _measure(name: str, unit: str, help_text: str, compute: Compute) -> Measure:
    return Measure(name=name, unit=unit, help=help_text, compute=compute)


_ALL = (
    _measure("requests_per_s", "1/s", "Requests that ended, however they did.", _per_second),
    _measure(
        "error_rate",
        "ratio",
        "Requests that failed by no fault of their callers (500, 503, 504); without those shed.",
        partial(_share, errors_of),
    ),
    _measure(
        "caller_error_rate",
        "ratio",
        "Requests that were at fault themselves (400, 401, 404, 422).",
        partial(_share, _of("caller")),
    ),
    _measure(
        "shed_rate",
        "ratio",
        "Requests refused because of too many, or a limit (429).",
        partial(_share, _of("shed")),
    ),
    _measure(
        "unavailable",
        "ratio",
        "Requests that no replica could answer (503).",
        partial(_share, _of("unavailable")),
    ),
    _measure(
        "deadline_rate",
        "ratio",
        "Requests that were not answered in time (504).",
        partial(_share, _of("deadline")),
    ),
    _measure(
        "p50_ms",
        "ms",
        "Half of the good answers took no longer.",
        partial(_quantile_ms, 0.5),
    ),
    _measure(
        "p95_ms",
        "ms",
        "Of 100 good answers, 95 took no longer.",
        partial(_quantile_ms, 0.95),
    ),
    _measure(
        "p99_ms",
        "ms",
        "Of 100 good answers, 99 took no longer.",
        partial(_quantile_ms, 0.99),
    ),
    _measure(
        "cache_hit_rate", "ratio", "Answers from the cache, of those looked for.", _cache_hit_rate
    ),
    _measure(
        "fallback_rate",
        "ratio",
        "Requests that something else answered in place of the version.",
        partial(_share, _of("fallbacks")),
    ),
    _measure("retries", "count", "Second tries, on another replica.", partial(_count, "retries")),
    _measure(
        "in_flight", "number", "Requests inside, in the mean.", partial(_gauge, "in_flight", 1.0)
    ),
    _measure(
        "replicas_ready",
        "number",
        "Replicas that were ready, in the mean; of a model in the gateways, the gateways that had it.",
        partial(_gauge, "ready", 1.0),
    ),
    _measure(
        "replicas_starting",
        "number",
        "Replicas on their way, in the mean.",
        partial(_gauge, "starting", 1.0),
    ),
    _measure(
        "cpu_cores",
        "cores",
        "Processor time of the replicas, per second; none of a model in the gateways.",
        partial(_of_processes, partial(_cores, "cpu_ms")),
    ),
    _measure(
        "memory_mb",
        "MB",
        "Memory (MiB) of the replicas together, in the mean; none of a model in the gateways.",
        partial(_of_processes, partial(_gauge, "memory_kib", 1024.0)),
    ),
    _measure(
        "cold_starts",
        "count",
        "Requests that were held until a replica had started, because none ran.",
        partial(_count, "cold_starts"),
    ),
    _measure(
        "restarts",
        "count",
        "Replicas that ended without being asked to.",
        partial(_count, "exits"),
    ),
    _measure(
        "queue_ms",
        "ms",
        "What requests waited in replicas for their turn, in the mean.",
        partial(_mean_ms, "queue_steps", QUEUE_BUCKETS),
    ),
    _measure(
        "infer_ms",
        "ms",
        "What the model calls took that answered requests, in the mean.",
        partial(_mean_ms, "run_steps", RUN_BUCKETS),
    ),
    _measure("batch_rows", "number", "Rows of a model call, in the mean.", _batch_rows),
    _measure("captured", "count", "Predictions in the log.", partial(_count, "captured")),
    _measure(
        "capture_lost",
        "count",
        "Predictions that were to be in the log, and are lost.",
        _capture_lost,
    ),
)

_OF_SERVER = (
    _measure(
        "control_cpu_cores",
        "cores",
        "Processor time of control, per second of time.",
        partial(_cores, "control_cpu_ms"),
    ),
    _measure(
        "control_memory_mb",
        "MB",
        "Memory (MiB) of control, in the mean.",
        partial(_gauge, "control_memory_kib", 1024.0),
    ),
    _measure(
        "gateway_cpu_cores",
        "cores",
        "Processor time of the gateways, per second of time.",
        partial(_cores, "gateway_cpu_ms"),
    ),
    _measure(
        "gateway_memory_mb",
        "MB",
        "Memory (MiB) of the gateways together, in the mean.",
        partial(_gauge, "gateway_memory_kib", 1024.0),
    ),
    _measure("gateways", "number", "Gateways that live.", partial(_gauge, "gateways", 1.0)),
    _measure("gpu_pct", "percent", "Use of the GPUs of control's machine, in the mean.", _gpu_pct),
)

MEASURES: Mapping[str, Measure] = {one.name: one for one in (*_ALL, *_OF_SERVER)}
"""Every measure, by name."""

OF_SERVER = frozenset(one.name for one in _OF_SERVER)
"""Those of Shipway's own processes, which are kept under an empty endpoint's name."""


def measure_of(name: str, endpoint: str) -> Measure:
    """The measure of that name, of an endpoint; of Shipway's own processes where that is empty.

    `slower_than_ms:250` is the share of good answers that took longer than 250 ms.

    Raises:
        InvalidRequest: there is none.
    """
    slower = _slower(name) if endpoint else None
    if slower is not None:
        return slower
    known = [one for one in MEASURES if (one in OF_SERVER) != bool(endpoint)]
    if name not in known:
        raise InvalidRequest(
            f"There is no measure `{name}`.",
            next_step=f"Ask for one of {', '.join(f'`{one}`' for one in known)}.",
            path="measure",
        )
    return MEASURES[name]


def value_of(name: str, tally: Tally, seconds: float) -> float | None:
    """What a measure comes to; None of a period in which nothing was kept."""
    if not tally:
        return None
    measure = _slower(name) or MEASURES[name]
    return measure.compute(tally, seconds)


def bound_ms(name: str) -> float | None:
    """The bound in the name of a `slower_than_ms`; None for other measures, and for no positive number."""
    family, _, text = name.partition(":")
    try:
        bound = float(text) if family == SLOWER else 0.0
    except ValueError:
        return None
    return bound if 0 < bound < float("inf") else None


def _slower(name: str) -> Measure | None:
    bound = bound_ms(name)
    if bound is None:
        return None
    words = f"Good answers that took longer than {bound:g} ms."
    return _measure(name, "ratio", words, partial(_slower_than, bound / 1000))


def _slower_than(bound_s: float, tally: Tally, seconds: float) -> float | None:
    """The share of answers above a bound; within its bucket they are taken to be spread evenly."""
    del seconds
    counts = [tally.get(name, 0.0) for name in BUCKETS]
    if not sum(counts):
        return None
    slower, start = counts[-1] if bound_s <= BOUNDS_S[-1] else 0.0, 0.0
    for end, count in zip(BOUNDS_S, counts, strict=False):
        slower += count * min(1.0, max(0.0, (end - bound_s) / (end - start)))
        start = end
    return slower / sum(counts)
