"""Alert rules for Prometheus, over the pages of gateways and control.

Burn rates follow the Site Reliability Workbook, chapter 5 ("Multiwindow, Multi-Burn-Rate Alerts"): of a
month's error budget, 2 % in an hour pages at a burn rate of 14.4, 5 % in six hours at 6, and 10 % in three
days is a ticket at 1. The short window lets the alert end soon after the errors do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from shipway.core.promql import ERRORS

RUNBOOKS = "docs/runbooks"
"""Where the runbooks are, below the project; an address is better for who is woken by an alert."""

_LEAST_REQUESTS = 50
"""A mistake of the only caller of a quiet night is no news."""

BURNS = (
    (14.4, "1h", "5m", "2m", "critical"),
    (6.0, "6h", "30m", "15m", "critical"),
    (1.0, "3d", "6h", "1h", "warning"),
)
"""Burn rate, long and short window, how long both must last, and the severity."""


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rules draw their lines: shares from 0 to 1, milliseconds, hours.

    `window` and `lasting` are durations of Prometheus: over what is looked, and how long a line must be
    crossed. `objective` is the share of requests that shall not fail.
    """

    error_rate: float = 0.05
    p99_ms: float = 1000.0
    shed_rate: float = 0.05
    objective: float = 0.999
    rollout_hours: float = 24.0
    window: str = "5m"
    lasting: str = "5m"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One alert. `runbook` is the name of its page."""

    name: str
    expr: str
    lasting: str
    severity: str
    runbook: str
    summary: str
    labels: dict[str, str] = {}


def rules_of(thresholds: Thresholds) -> tuple[Rule, ...]:
    """Every rule."""
    return (
        *_of_answers(thresholds),
        *_of_refusals(thresholds),
        *_of_records(thresholds),
        *_of_monitors(),
        *_burns(thresholds),
        *_of_processes(thresholds),
    )


def document(thresholds: Thresholds, runbooks: str) -> dict[str, Any]:
    """The rule file, as Prometheus reads it once it is written as YAML."""
    return {
        "groups": [
            {"name": "shipway", "rules": [_entry(r, runbooks) for r in rules_of(thresholds)]}
        ]
    }


def _of_answers(t: Thresholds) -> Iterator[Rule]:
    yield _rule(
        "ShipwayErrorRate",
        f"{_error_rate(t.window)} > {t.error_rate:g}",
        "critical",
        "error-rate",
        "{{ $value | humanizePercentage }} of the requests to {{ $labels.endpoint }} fail.",
        t.lasting,
    )
    buckets = f"sum by (endpoint, le) (rate(shipway_request_seconds_bucket[{t.window}]))"
    yield _rule(
        "ShipwayLatency",
        f"1000 * histogram_quantile(0.99, {buckets}) > {t.p99_ms:g}",
        "warning",
        "latency",
        "One in a hundred answers of {{ $labels.endpoint }} takes over {{ $value | humanize }} ms.",
        t.lasting,
    )
    yield _rule(
        "ShipwayNoReplicas",
        "sum by (endpoint) (shipway_version_ready) == 0"
        " unless on (endpoint) shipway_endpoint_asleep == 1",
        "critical",
        "no-replicas",
        "{{ $labels.endpoint }} has no ready replica.",
        t.lasting,
    )


def _of_refusals(t: Thresholds) -> Iterator[Rule]:
    yield _rule(
        "ShipwayOverload",
        f"{_share('shed', t.window)} > {t.shed_rate:g}",
        "warning",
        "overload",
        "{{ $value | humanizePercentage }} of the requests to {{ $labels.endpoint }} are refused.",
        t.lasting,
    )
    yield _rule(
        "ShipwayRejections",
        f"{_share('caller', t.window)} > 0.5"
        f" and sum by (endpoint) (increase(shipway_requests_total[{t.window}])) >= {_LEAST_REQUESTS}",
        "warning",
        "rejections",
        "{{ $value | humanizePercentage }} of the requests to {{ $labels.endpoint }} are their callers' mistakes.",
        t.lasting,
    )


def _of_records(t: Thresholds) -> Iterator[Rule]:
    lost = f"sum by (endpoint) (increase(shipway_predictions_lost_total[{t.window}]))"
    yield _rule(
        "ShipwayCaptureLoss",
        f"{lost} > 0",
        "warning",
        "capture-loss",
        "{{ $value | humanize }} predictions of {{ $labels.endpoint }} were not written to the log.",
        "0s",
    )
    yield _rule(
        "ShipwayStuckRollout",
        f"time() - shipway_rollout_started_seconds > {t.rollout_hours * 3600:g}",
        "warning",
        "stuck-rollout",
        "The rollout of {{ $labels.candidate }} on {{ $labels.endpoint }} has not ended for"
        " {{ $value | humanizeDuration }}.",
        t.lasting,
    )


def _of_monitors() -> Iterator[Rule]:
    """A monitor's verdict is one already: it is told as soon as it is there, and while it stays the last."""
    for name, kinds, severity, runbook in (
        ("ShipwayDrift", "drift|prediction_drift|multivariate", "warning", "drift"),
        ("ShipwayQuality", "quality", "warning", "quality"),
        ("ShipwayPerformance", "performance", "critical", "performance"),
        ("ShipwayBias", "bias", "warning", "performance"),
    ):
        yield _rule(
            name,
            f'shipway_monitor_state{{state="firing", kind=~"{kinds}"}} == 1',
            severity,
            runbook,
            "Monitor {{ $labels.monitor }} of {{ $labels.endpoint }} found something.",
            "0s",
        )
    yield _rule(
        "ShipwayMonitorFailed",
        'shipway_monitor_state{state="error"} == 1',
        "warning",
        "monitor-failed",
        "Monitor {{ $labels.monitor }} of {{ $labels.endpoint }} could not do its work.",
        "0s",
    )


def _burns(t: Thresholds) -> Iterator[Rule]:
    for rate, long, short, lasting, severity in BURNS:
        bound = rate * (1 - t.objective)
        yield Rule(
            name="ShipwaySloBurn",
            expr=f"{_error_rate(long)} > {bound:.6g} and {_error_rate(short)} > {bound:.6g}",
            lasting=lasting,
            severity=severity,
            runbook="slo-burn",
            summary=f"{{{{ $labels.endpoint }}}} burns its error budget {rate:g} times too fast.",
            labels={"window": long},
        )


def _of_processes(t: Thresholds) -> Iterator[Rule]:
    yield _rule(
        "ShipwayGatewayDown",
        'up{job="shipway-gateway"} == 0 or shipway_gateways_live == 0',
        "critical",
        "gateway-down",
        "The gateways at {{ $labels.instance }} do not answer, or do not report to control.",
        t.lasting,
    )
    yield _rule(
        "ShipwayControlDown",
        'up{job="shipway-control"} == 0',
        "warning",
        "gateway-down",
        "Control at {{ $labels.instance }} does not answer; traffic still flows.",
        t.lasting,
    )


def _error_rate(window: str) -> str:
    return _share(ERRORS, window)


def _share(outcomes: str, window: str) -> str:
    """The share of an endpoint's requests that ended so; nothing where there were none."""
    some = f'sum by (endpoint) (rate(shipway_requests_total{{outcome=~"{outcomes}"}}[{window}]))'
    return f"{some} / (sum by (endpoint) (rate(shipway_requests_total[{window}])) > 0)"


def _rule(name: str, expr: str, severity: str, runbook: str, summary: str, lasting: str) -> Rule:
    return Rule(
        name=name, expr=expr, severity=severity, runbook=runbook, summary=summary, lasting=lasting
    )


def _entry(rule: Rule, runbooks: str) -> dict[str, Any]:
    return {
        "alert": rule.name,
        "expr": rule.expr,
        "for": rule.lasting,
        "labels": {"severity": rule.severity, **rule.labels},
        "annotations": {
            "summary": rule.summary,
            "runbook_url": f"{runbooks.rstrip('/')}/{rule.runbook}.md",
        },
    }
