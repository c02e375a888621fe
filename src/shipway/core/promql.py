"""The measures as queries of Prometheus over the pages of gateways and control.

`$of` selects the series (`endpoint="churn"`), `$window` is a duration such as `300s`, `$sum` and `$le` are
`sum` and `le`, or those of each endpoint by itself. Computed from the
same counts, they are the numbers of `core.measures`, but for the ends of the window: Prometheus has
samples near them, and extrapolates.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from string import Template

from shipway.core.measures import bound_ms
from shipway.core.telemetry import BOUNDS_S

ERRORS = "deadline|unavailable|failed"
"""Outcomes that no caller is to blame for."""


def _increase(family: str, more: str = "") -> str:
    return f"$sum(increase({family}{{$of{more}}}[$window]))"


def _rate(family: str) -> str:
    return f"$sum(rate({family}{{$of}}[$window]))"


def _share(family: str, more: str = "") -> str:
    return f"{_increase(family, more)} / ({_increase('shipway_requests_total')} > 0)"


def _outcomes(names: str) -> str:
    return _share("shipway_requests_total", f', outcome=~"{names}"')


def _quantile_ms(share: float) -> str:
    buckets = "rate(shipway_request_seconds_bucket{$of}[$window])"
    return f"1000 * histogram_quantile({share}, sum by ($le) ({buckets}))"


def _mean(family: str, more: str = "") -> str:
    # A look each 10 s, as the history has windows.
    return f"avg_over_time(($sum({family}{{$of{more}}}))[$window:10s])"


def _per_sample(family: str) -> str:
    return f"{_increase(family + '_sum')} / ({_increase(family + '_count')} > 0)"


def _mean_ms(family: str) -> str:
    return f"1000 * {_per_sample(family)}"


_HITS, _MISSES = _increase("shipway_cache_hits_total"), _increase("shipway_cache_misses_total")

QUERIES: Mapping[str, str] = {
    "requests_per_s": _rate("shipway_requests_total"),
    "error_rate": _outcomes(ERRORS),
    "caller_error_rate": _outcomes("caller"),
    "shed_rate": _outcomes("shed"),
    "unavailable": _outcomes("unavailable"),
    "deadline_rate": _outcomes("deadline"),
    "p50_ms": _quantile_ms(0.5),
    "p95_ms": _quantile_ms(0.95),
    "p99_ms": _quantile_ms(0.99),
    "cache_hit_rate": f"{_HITS} / (({_HITS} + {_MISSES}) > 0)",
    "fallback_rate": _share("shipway_fallbacks_total"),
    "retries": _increase("shipway_retries_total"),
    "in_flight": _mean("shipway_in_flight"),
    "replicas_ready": _mean("shipway_version_ready"),
    "replicas_starting": _mean("shipway_replicas", ', state=~"building|starting"'),
    "cpu_cores": _rate("shipway_replica_cpu_seconds_total"),
    "memory_mb": f"{_mean('shipway_replica_resident_memory_bytes')} / 1048576",
    "cold_starts": _increase("shipway_cold_starts_total"),
    "restarts": _increase("shipway_replica_exits_total"),
    "queue_ms": _mean_ms("shipway_queue_seconds"),
    "infer_ms": _mean_ms("shipway_inference_seconds"),
    "batch_rows": _per_sample("shipway_batch_rows"),
    "captured": _increase("shipway_predictions_captured_total"),
    "capture_lost": _increase("shipway_predictions_lost_total"),
    "control_cpu_cores": _rate("shipway_control_cpu_seconds_total"),
    "control_memory_mb": f"{_mean('shipway_control_resident_memory_bytes')} / 1048576",
    "gateway_cpu_cores": _rate("shipway_gateway_cpu_seconds_total"),
    "gateway_memory_mb": f"{_mean('shipway_gateway_resident_memory_bytes')} / 1048576",
    "gateways": _mean("shipway_gateways_live"),
    "gpu_pct": f"{_mean('shipway_gpu_use_ratio')} * 100",
}
"""By measure; see `query_of`."""


def query_of(measure: str, *, of: str, window: str, by_endpoint: bool = False) -> str:
    """The query of a measure over the window before the moment of its evaluation.

    With `by_endpoint`, it has a series for each endpoint, labelled `endpoint`.

    `query_of("retries", of='endpoint="churn"', window="5m")` is
    `sum(increase(shipway_retries_total{endpoint="churn"}[5m]))`.
    """
    bound = bound_ms(measure)
    query = QUERIES[measure] if bound is None else _slower(bound / 1000)
    sums = {"sum": "sum by (endpoint)", "le": "endpoint, le"} if by_endpoint else _SUMS
    return Template(query).substitute(of=of, window=window, **sums)


_SUMS = {"sum": "sum", "le": "le"}


def _slower(bound_s: float) -> str:
    """The share of answers above a bound; within its bucket they are taken to be spread evenly."""
    return f"1 - {_within(bound_s)} / ({_increase('shipway_request_seconds_count')} > 0)"


def _within(bound_s: float) -> str:
    place = bisect_left(BOUNDS_S, bound_s)
    if place == len(BOUNDS_S):
        return _up_to("+Inf")
    start, end = (0.0, *BOUNDS_S)[place], BOUNDS_S[place]
    share = (bound_s - start) / (end - start)
    inside = f"{share:.9g} * {_up_to(f'{end:g}')}"
    return f"({1 - share:.9g} * {_up_to(f'{start:g}')} + {inside})" if place else inside


def _up_to(end: str) -> str:
    return _increase("shipway_request_seconds_bucket", f', le="{end}"')


def selector_of(endpoint: str, version: str = "") -> str:
    """What selects the series of an endpoint, or of one version behind it; nothing for no endpoint."""
    named = {"endpoint": endpoint, "version": version}
    return ", ".join(f'{label}="{_escaped(value)}"' for label, value in named.items() if value)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
