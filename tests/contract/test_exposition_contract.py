"""What monitors and alerts found is on control's page, of what is declared and up to its last run."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shipway.control.exposition import Exposition
from shipway.control.gauges import Gauges
from shipway.control.views import Seen
from shipway.core.alerts.lifecycle import Alert, Phase
from shipway.core.capturing import Capture
from shipway.core.endpoints import EndpointSpec, EndpointState
from shipway.core.endpoints import Phase as EndpointPhase
from shipway.core.monitor_runs import MonitorReport, MonitorRun, MonitorVerdict, done, failed
from shipway.core.monitors import MonitorKind, MonitorSpec
from shipway.core.observed import Observed
from shipway.core.signals import Severity

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
DRIFT = MonitorSpec(kind=MonitorKind.DRIFT, name="hourly")
QUALITY = MonitorSpec(kind=MonitorKind.QUALITY)


class Page:
    """Control's page over a database, read as Prometheus reads it."""

    def __init__(self, database) -> None:
        self.database = database
        nothing = Observed(replicas=(), gateways=(), revision="r")
        seen = Seen(observed=nothing, gateways=(), local={}, at=NOW)
        self.unsent = 0
        self.exposition = Exposition(
            database, Gauges(), environment="dev", seen=lambda: seen, unsent=lambda: self.unsent
        )

    def declare(self, name: str, environment: str = "dev") -> None:
        spec = EndpointSpec(
            name=name,
            model="m:1",
            environment=environment,
            capture=Capture(),
            monitors=(DRIFT, QUALITY),
        )
        state = EndpointState(spec=spec, generation=1, phase=EndpointPhase.LIVE)
        with self.database.transaction() as tx:
            tx.endpoints.put(state, expected_generation=None)

    def alert(self, number: int, endpoint: str, severity: Severity, phase: Phase) -> None:
        alert = Alert(
            id=f"al-{number}",
            environment="dev",
            endpoint=endpoint,
            rule="error-rate",
            subject=str(number),
            severity=severity,
            phase=phase,
            since=NOW,
            phase_at=NOW,
            raised_at=NOW,
            heard_at=NOW,
        )
        with self.database.transaction() as tx:
            tx.alerts.put(alert)

    def run(self, monitor, due_at, verdict, *, endpoint="churn", environment="dev"):
        """A run that ended a minute after it was due: with that verdict, with none, or (`...`) not yet."""
        run = MonitorRun(
            id=f"{environment}-{endpoint}-{monitor.label}-{due_at}",
            environment=environment,
            endpoint=endpoint,
            monitor=monitor,
            due_at=due_at,
        )
        ended_at = due_at + timedelta(minutes=1)
        report = {"start": due_at - HOUR, "end": due_at, "reference": "", "summary": ""}
        counts = {"rows": 1, "reference_rows": 1, "checked": 1}
        with self.database.transaction() as tx:
            tx.monitor_runs.add(run)
            if verdict is None:
                tx.monitor_runs.put(failed(run, message="No.", now=ended_at), holder="")
            elif verdict is not ...:
                found = MonitorReport(verdict=verdict, **report, **counts)
                tx.monitor_runs.put(done(run, found, artifacts=(), now=ended_at), holder="")

    def text(self) -> str:
        return self.exposition.page().decode()

    def values(self, family: str, *labels: str) -> dict[tuple[str, ...], float]:
        families = {one.name: one for one in text_string_to_metric_families(self.text())}
        return {
            tuple(sample.labels[label] for label in labels): sample.value
            for sample in families[family].samples
        }


@pytest.fixture
def page(database) -> Page:
    return Page(database)


def test_alerts_that_fire_are_counted_and_endpoints_without_any_say_none(page):
    page.declare("churn")
    page.declare("fraud")
    page.declare("elsewhere", environment="production")
    page.alert(1, "churn", Severity.CRITICAL, Phase.FIRING)
    page.alert(2, "churn", Severity.CRITICAL, Phase.ACKNOWLEDGED)
    page.alert(3, "churn", Severity.WARNING, Phase.PENDING)
    page.alert(4, "churn", Severity.WARNING, Phase.RESOLVED)
    page.alert(5, "", Severity.WARNING, Phase.FIRING)
    page.alert(6, "deleted", Severity.INFO, Phase.FIRING)
    found = page.values("shipway_alerts_firing", "endpoint", "severity")
    names = ("", "churn", "deleted", "fraud")
    assert set(found) == {(name, severity.value) for name in names for severity in Severity}
    assert {key: n for key, n in found.items() if n} == {
        ("churn", "critical"): 2,
        ("", "warning"): 1,
        ("deleted", "info"): 1,
    }


def test_of_each_declared_monitor_the_last_run_that_ended_is_shown(page):
    page.declare("churn")
    page.run(DRIFT, NOW - 2 * HOUR, MonitorVerdict.STEADY)
    page.run(DRIFT, NOW - HOUR, MonitorVerdict.FIRING)
    page.run(DRIFT, NOW, ...)
    page.run(QUALITY, NOW - HOUR, MonitorVerdict.STEADY)
    page.run(QUALITY, NOW, None)
    page.run(
        MonitorSpec(kind=MonitorKind.BIAS), NOW, MonitorVerdict.FIRING
    )  # not declared any more
    page.run(DRIFT, NOW, MonitorVerdict.FIRING, endpoint="deleted")
    page.run(DRIFT, NOW, MonitorVerdict.STEADY, environment="production")
    minute = timedelta(minutes=1)
    assert page.values("shipway_monitor_last_run_timestamp_seconds", "endpoint", "monitor") == {
        ("churn", "hourly"): (NOW - HOUR + minute).timestamp(),
        ("churn", "quality"): (NOW + minute).timestamp(),
    }
    states = page.values("shipway_monitor_state", "monitor", "kind", "state")
    assert len(states) == 2 * 4
    assert {key for key, value in states.items() if value == 1} == {
        ("hourly", "drift", "firing"),
        ("quality", "quality", "error"),
    }


def test_what_a_collector_was_not_told_is_counted(page):
    assert page.values("shipway_control_telemetry_dropped") == {(): 0}
    page.unsent = 7
    assert page.values("shipway_control_telemetry_dropped") == {(): 7}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_promtool_finds_the_page_sound(page):
    page.declare("churn")
    page.alert(1, "churn", Severity.CRITICAL, Phase.FIRING)
    page.run(DRIFT, NOW, MonitorVerdict.FIRING)
    run = subprocess.run(
        ["promtool", "check", "metrics"],
        input=page.text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in (0, 3), run.stderr  # 3: advice on names
    assert "shipway_alerts" not in run.stderr
    assert "shipway_monitor" not in run.stderr
