"""Dashboards for Grafana 10 and later: all endpoints, and one.

https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from shipway.core.promql import ERRORS, query_of

SCHEMA = 38
"""Of Grafana 10; later ones migrate it by themselves."""

_COLUMNS, _WIDTH, _HEIGHT = 24, 12, 8
_STATS = 4
_INTERVAL = "$__rate_interval"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_ONE = 'endpoint="$endpoint", version=~"$version"'


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """A picture of queries. `unit` is one of Grafana's; queries are pairs of legend and PromQL."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"


def dashboards() -> dict[str, dict[str, Any]]:
    """Each dashboard, by the name of its file."""
    return {
        "shipway-overview.json": _dashboard("shipway-overview", "Shipway", _overview(), ()),
        "shipway-endpoint.json": _dashboard(
            "shipway-endpoint", "Shipway: an endpoint", _of_endpoint(), _VARIABLES
        ),
    }


def _overview() -> Iterator[Panel]:
    yield from _all_requests()
    yield from _all_releases()
    yield from _all_findings()
    yield from _own_use()


def _all_requests() -> Iterator[Panel]:
    total = f"sum(rate(shipway_requests_total[{_INTERVAL}]))"
    yield _stat("Requests", "reqps", total)
    yield _stat("Failing", "percentunit", _failing("", ""))
    yield _stat("Gateways", "none", "max(shipway_gateways_live)")
    yield _stat(
        "Endpoints without a replica",
        "none",
        "count(sum by (endpoint) (shipway_version_ready) == 0"
        " unless on (endpoint) shipway_endpoint_asleep == 1) or vector(0)",
    )
    yield _lines(
        "Requests by endpoint",
        "reqps",
        f"sum by (endpoint) (rate(shipway_requests_total[{_INTERVAL}]))",
    )
    yield _lines("Failing by endpoint", "percentunit", _failing("by (endpoint) ", ""))
    buckets = f"sum by (endpoint, le) (rate(shipway_request_seconds_bucket[{_INTERVAL}]))"
    yield _lines("99th percentile by endpoint", "s", f"histogram_quantile(0.99, {buckets})")
    yield _lines(
        "How full endpoints are",
        "percentunit",
        "sum by (endpoint) (shipway_in_flight) / sum by (endpoint) (shipway_queue_limit)",
    )
    yield _lines(
        "Refused by endpoint",
        "reqps",
        f'sum by (endpoint) (rate(shipway_requests_total{{outcome="shed"}}[{_INTERVAL}]))',
    )


def _all_releases() -> Iterator[Panel]:
    yield _lines(
        "Replicas by state", "none", "sum by (state) (shipway_replicas)", legend="{{state}}"
    )
    yield _lines(
        "Rollouts: the candidate's share",
        "percentunit",
        "shipway_rollout_weight_ratio",
        legend="{{endpoint}} {{candidate}} {{phase}}",
    )
    yield _lines(
        "Phases", "none", "count by (phase) (shipway_endpoint_phase == 1)", legend="{{phase}}"
    )


def _all_findings() -> Iterator[Panel]:
    yield _lines(
        "Alerts that fire",
        "none",
        "sum by (severity) (shipway_alerts_firing)",
        legend="{{severity}}",
    )
    yield _lines(
        "Monitors that found something, or failed",
        "none",
        'count by (endpoint) (shipway_monitor_state{state=~"firing|error"} == 1)',
    )
    yield _lines(
        "Predictions lost by endpoint",
        "none",
        f"sum by (endpoint) (increase(shipway_predictions_lost_total[{_INTERVAL}]))",
    )
    yield _lines(
        "Predictions and feedback that wait for control",
        "bytes",
        "sum(shipway_predictions_waiting_bytes)",
        legend="waiting",
    )


def _own_use() -> Iterator[Panel]:
    yield Panel(
        title="Processor time of Shipway",
        unit="none",
        queries=(
            ("gateway {{gateway}}", f"rate(shipway_gateway_cpu_seconds_total[{_INTERVAL}])"),
            ("control", f"rate(shipway_control_cpu_seconds_total[{_INTERVAL}])"),
        ),
    )
    yield Panel(
        title="Memory of Shipway",
        unit="bytes",
        queries=(
            ("gateway {{gateway}}", "shipway_gateway_resident_memory_bytes"),
            ("control", "shipway_control_resident_memory_bytes"),
        ),
    )
    yield _lines(
        "Changes on the audit record",
        "none",
        f"increase(shipway_audit_events_total[{_INTERVAL}])",
        legend="events",
    )
    yield _lines(
        "Replicas that ended by themselves",
        "none",
        "sum by (endpoint) (increase(shipway_replica_exits_total[1h]))",
    )


def _of_endpoint() -> Iterator[Panel]:
    yield from _requests()
    yield from _replicas()
    yield from _answers()
    yield from _log_and_monitors()
    yield _second_bests()


def _requests() -> Iterator[Panel]:
    for title, unit, measure in (
        ("Requests", "reqps", "requests_per_s"),
        ("Failing", "percentunit", "error_rate"),
        ("99th percentile", "ms", "p99_ms"),
        ("Ready replicas", "none", "replicas_ready"),
    ):
        yield _stat(title, unit, query_of(measure, of=_ONE, window="5m"))
    requests = f"shipway_requests_total{{{_ONE}}}[{_INTERVAL}]"
    yield _lines(
        "Requests by version", "reqps", f"sum by (version) (rate({requests}))", legend="{{version}}"
    )
    yield _lines(
        "Requests by outcome", "reqps", f"sum by (outcome) (rate({requests}))", legend="{{outcome}}"
    )
    yield Panel(
        title="Latency of good answers",
        unit="ms",
        queries=tuple(
            (f"p{share}", query_of(f"p{share}_ms", of=_ONE, window=_INTERVAL))
            for share in (50, 95, 99)
        ),
    )
    buckets = f"sum by (version, le) (rate(shipway_request_seconds_bucket{{{_ONE}}}[{_INTERVAL}]))"
    yield _lines(
        "99th percentile by version",
        "s",
        f"histogram_quantile(0.99, {buckets})",
        legend="{{version}}",
    )
    yield Panel(
        title="Inside, and the limit",
        unit="none",
        queries=(
            ("inside", 'sum(shipway_in_flight{endpoint="$endpoint"})'),
            ("limit", 'sum(shipway_queue_limit{endpoint="$endpoint"})'),
        ),
    )


def _replicas() -> Iterator[Panel]:
    yield _lines(
        "Weights",
        "percentunit",
        f"max by (version) (shipway_weight_ratio{{{_ONE}}})",
        legend="{{version}}",
    )
    yield _lines(
        "Replicas by state",
        "none",
        f"sum by (version, state) (shipway_replicas{{{_ONE}}})",
        legend="{{version}} {{state}}",
    )
    yield Panel(
        title="Replicas that gateways leave out, or cannot ask",
        unit="none",
        queries=(
            ("{{version}} ejected", f"max by (version) (shipway_replicas_ejected{{{_ONE}}})"),
            ("{{version}} askable", f"min by (version) (shipway_replicas_ready{{{_ONE}}})"),
        ),
    )
    yield _lines(
        "Processor time of replicas",
        "none",
        f"sum by (version) (rate(shipway_replica_cpu_seconds_total{{{_ONE}}}[{_INTERVAL}]))",
        legend="{{version}}",
    )
    yield _lines(
        "Memory of replicas",
        "bytes",
        f"sum by (version) (shipway_replica_resident_memory_bytes{{{_ONE}}})",
        legend="{{version}}",
    )


def _answers() -> Iterator[Panel]:
    yield _lines(
        "Answers from the cache",
        "percentunit",
        query_of("cache_hit_rate", of=_ONE, window=_INTERVAL),
        legend="hits",
    )
    yield Panel(
        title="Where the time goes, in the mean",
        unit="s",
        queries=(
            ("waiting {{version}}", _mean("shipway_queue_seconds")),
            ("inference {{version}}", _mean("shipway_inference_seconds")),
        ),
    )
    yield _lines(
        "Rows of a batch, in the mean", "none", _mean("shipway_batch_rows"), legend="{{version}}"
    )


def _log_and_monitors() -> Iterator[Panel]:
    yield Panel(
        title="Predictions captured, and lost",
        unit="none",
        queries=(
            (
                "captured {{version}}",
                f"sum by (version) (rate(shipway_predictions_captured_total{{{_ONE}}}[{_INTERVAL}]))",
            ),
            (
                "lost {{reason}}",
                f"sum by (reason) (rate(shipway_predictions_lost_total{{{_ONE}}}[{_INTERVAL}]))",
            ),
        ),
    )
    yield _lines(
        "What monitors found last",
        "none",
        'shipway_monitor_state{endpoint="$endpoint", state!="steady"} == 1',
        legend="{{monitor}} {{state}}",
    )


def _second_bests() -> Panel:
    return Panel(
        title="Retries, fallbacks, cold starts",
        unit="none",
        queries=(
            ("retries", f"sum(increase(shipway_retries_total{{{_ONE}}}[{_INTERVAL}]))"),
            ("fallbacks", f"sum(increase(shipway_fallbacks_total{{{_ONE}}}[{_INTERVAL}]))"),
            (
                "cold starts",
                f'sum(increase(shipway_cold_starts_total{{endpoint="$endpoint"}}[{_INTERVAL}]))',
            ),
        ),
    )


def _failing(by: str, of: str) -> str:
    some = f'sum {by}(rate(shipway_requests_total{{outcome=~"{ERRORS}"{of}}}[{_INTERVAL}]))'
    return f"{some} / sum {by}(rate(shipway_requests_total[{_INTERVAL}]))"


def _mean(summary: str) -> str:
    total, count = (
        f"sum by (version) (rate({summary}_{part}{{{_ONE}}}[{_INTERVAL}]))"
        for part in ("sum", "count")
    )
    return f"{total} / {count}"


def _lines(title: str, unit: str, expr: str, *, legend: str = "{{endpoint}}") -> Panel:
    return Panel(title=title, unit=unit, queries=((legend, expr),))


def _stat(title: str, unit: str, expr: str) -> Panel:
    return Panel(title=title, unit=unit, queries=(("", expr),), kind="stat")


def _variable(name: str, query: str, *, several: bool) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "allValue": ".*" if several else None,
        "current": {"text": "All", "value": "$__all"} if several else {},
    }


_VARIABLES = (
    _variable("endpoint", "label_values(shipway_endpoint_phase, endpoint)", several=False),
    _variable(
        "version",
        'label_values(shipway_requests_total{endpoint="$endpoint"}, version)',
        several=True,
    ),
)


def _dashboard(
    uid: str, title: str, panels: Iterable[Panel], variables: Iterable[dict[str, Any]]
) -> dict[str, Any]:
    source = {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": uid,
        "title": title,
        "tags": ["shipway"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "templating": {"list": [source, *variables]},
        "panels": list(_placed(panels)),
    }


def _placed(panels: Iterable[Panel]) -> Iterator[dict[str, Any]]:
    """The panels from left to right, then down: the stats in one row, two others in each."""
    x = y = tall = 0
    for number, panel in enumerate(panels, start=1):
        is_stat = panel.kind == "stat"
        width, height = (_COLUMNS // _STATS, _HEIGHT // 2) if is_stat else (_WIDTH, _HEIGHT)
        if x + width > _COLUMNS:
            x, y = 0, y + tall
        tall = height
        yield _panel(number, panel, {"x": x, "y": y, "w": width, "h": height})
        x += width


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": _SOURCE,
            "expr": expr,
            "legendFormat": legend or "__auto",
        }
        for index, (legend, expr) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {},
        "targets": targets,
    }
