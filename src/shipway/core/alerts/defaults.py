"""The rules that every endpoint has from its first moment, and those of the server."""

from __future__ import annotations

from shipway.core.alerts.rules import (
    Anomaly,
    Condition,
    Reported,
    Rule,
    State,
    Threshold,
)
from shipway.core.signals import Severity

DISK_RULE, CERTIFICATE_RULE = "disk-space", "certificate-expiry"

RUNBOOKS = "docs/runbooks"
"""Where the runbooks are, in the documentation."""

DEFAULT_RULES: tuple[Rule, ...] = (
    State(
        name="no-replicas",
        condition=Condition.CANNOT_ANSWER,
        severity=Severity.CRITICAL,
        for_s=30.0,
        hold_s=30.0,
    ),
    Threshold(
        name="error-rate",
        measure="error_rate",
        value=0.05,
        over_s=60.0,
        for_s=10.0,
        least_requests=20,
        severity=Severity.CRITICAL,
    ),
    Anomaly(name="latency", measure="p99_ms", for_s=120.0, least_requests=100),
    Threshold(
        name="overload",
        measure="shed_rate",
        value=0.05,
        over_s=120.0,
        for_s=30.0,
        least_requests=20,
    ),
    Threshold(
        name="rejections",
        measure="caller_error_rate",
        value=0.5,
        over_s=300.0,
        for_s=30.0,
        least_requests=50,
    ),
    Threshold(name="capture-loss", measure="capture_lost", value=0.0, over_s=300.0),
    State(name="stuck-rollout", condition=Condition.ROLLOUT_STUCK, hold_s=30.0),
    Reported(name="drift", hold_s=0.0),
    Reported(name="prediction_drift", hold_s=0.0, runbook="docs/runbooks/drift.md"),
    Reported(name="quality", hold_s=0.0),
    Reported(name="multivariate", hold_s=0.0, runbook="docs/runbooks/drift.md"),
    Reported(name="performance", hold_s=0.0, severity=Severity.CRITICAL),
    Reported(name="bias", hold_s=0.0, runbook="docs/runbooks/performance.md"),
    Reported(name="monitor-failed", hold_s=0.0),
    Reported(name="budget", hold_s=3600.0),  # each look has a forecast, which wavers
    Reported(name="cost", hold_s=0.0),
)
"""Of each endpoint. A burn rate comes with an objective (`alerts.slos`), which nobody can guess."""

SERVER_RULES: tuple[Rule, ...] = (
    State(
        name="gateway-down",
        condition=Condition.NO_GATEWAY,
        severity=Severity.CRITICAL,
        for_s=15.0,
        hold_s=15.0,
    ),
    Reported(name=DISK_RULE, hold_s=600.0),
    Reported(name=CERTIFICATE_RULE, hold_s=0.0),
)
"""Of the server as a whole; no endpoint changes them."""

SLO_BURN = "slo-burn"
"""The rule of an endpoint's objectives."""


def runbook_of(rule: str, declared: str = "") -> str:
    """Where it says what to do when a rule of that name holds; empty where nobody wrote it.

    `declared` is the rule's own word. A monitor's rule has its kind before a colon: `drift:hourly`.
    """
    if declared:
        return declared
    kind = rule.partition(":")[0]
    return f"{RUNBOOKS}/{kind}.md" if kind in _NAMES else ""


_NAMES = frozenset({*(rule.name for rule in (*DEFAULT_RULES, *SERVER_RULES)), SLO_BURN})


_COMMANDS = {
    "no-replicas": "shipway logs {endpoint}",
    "error-rate": "shipway rollback {endpoint}",
    "latency": "shipway get {endpoint}",
    "overload": "shipway get {endpoint}",
    "rejections": "shipway metrics {endpoint} --measure caller_error_rate",
    "slo-burn": "shipway rollback {endpoint}",
    "stuck-rollout": "shipway rollout status {endpoint}",
    "capture-loss": "shipway doctor",
    "gateway-down": "shipway doctor",
    DISK_RULE: "shipway doctor",
    CERTIFICATE_RULE: "shipway doctor",
}


def command_of(rule: str, endpoint: str, alert: str) -> str:
    """The command to begin with when an alert of that rule fires."""
    words = _COMMANDS.get(rule, "shipway alerts show {alert}")
    return words.format(endpoint=endpoint, alert=alert)
