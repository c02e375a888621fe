"""Rules over measures and over what control sees, in virtual time, against a real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import msgspec
import pytest

from shipway.control.alerting import measuring
from shipway.control.alerting.measuring import Evaluation, Measures
from shipway.control.alerts import Alerts
from shipway.control.gateways import SeenGateway
from shipway.control.views import Seen
from shipway.core.alerts.lifecycle import Phase
from shipway.core.alerts.plan import AlertPlan, Slo
from shipway.core.alerts.rules import Absence, Threshold
from shipway.core.endpoints import EndpointSpec, EndpointState
from shipway.core.endpoints import Phase as EndpointPhase
from shipway.core.errors import InvalidRequest, StoreUnavailable
from shipway.core.observed import GatewayEvidence, Observed, VariantEvidence
from shipway.core.rollouts import Rollout, RolloutPhase
from shipway.core.strategies import Canary, RolloutPlan
from shipway.core.versions import VersionRef
from shipway.store.sql.database import Database, sqlite_url
from shipway.wire.snapshot import GatewayReport

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
ACTIVE = VersionRef("churn", 1)


class History:
    """Measures of each second, in memory: the mean over a span, None where a second has none.

    `asked` is how many periods it was asked for.
    """

    def __init__(self):
        self.seconds = {}
        self.asked = 0

    def note(self, second, **values):
        self.seconds[second] = values

    def period(self, *, since, until):
        self.asked += 1
        return lambda name, endpoint: self.measure(name, since, until)

    def measure(self, name, since, until):
        if name == "capture_lost":
            raise InvalidRequest("There is no measure `capture_lost`.")
        first, last = ((at - NOW).total_seconds() for at in (since, until))
        found = [
            values[name]
            for second, values in self.seconds.items()
            if first < second <= last and name in values
        ]
        return sum(found) / len(found) if found else None


def seen(*, ready=True, gateways=1, settled=True):
    report = GatewayReport(gateway="g", revision="r", variants=())
    variants = {("churn", "churn:1"): VariantEvidence(ready=ready, in_flight=0)}
    evidence = GatewayEvidence(id="g", revision="r", variants=variants)
    return Seen(
        observed=Observed(
            replicas=(), gateways=(evidence,) * gateways, revision="r", settled=settled
        ),
        gateways=(SeenGateway(report=report, seen_at=NOW, heard_s=0.0),) * gateways,
        local={},
        at=NOW,
    )


class World:
    def __init__(self, database):
        self.database = database
        self.history = History()
        self.seen = seen()
        self.alerts = Alerts(database, environment="dev", acting=None)
        self.evaluation = Evaluation(
            database, environment="dev", seen=lambda: self.seen, ask=self.history.period
        )

    def put(self, **fields):
        facts = {
            "spec": EndpointSpec(name="churn", model="churn:1", environment="dev"),
            "generation": 1,
            "phase": EndpointPhase.LIVE,
            "active": ACTIVE,
            "inline": (ACTIVE,),
        }
        with self.database.transaction() as tx:
            tx.endpoints.delete("dev", "churn")
            state = EndpointState(**(facts | fields))
            tx.endpoints.put(state, expected_generation=None)

    def look(self, second):
        now = NOW + timedelta(seconds=second)
        self.evaluation._measures = Measures(self.history.period)
        self.alerts.observe(self.evaluation.signals(now), now)
        return {alert.rule: alert.phase for alert in self.alerts.newest()}

    def signal(self, rule, second=0):
        now = NOW + timedelta(seconds=second)
        return next((s for s in self.evaluation.signals(now) if s.rule == rule), None)


@pytest.fixture
def world(tmp_path):
    database = Database.open(sqlite_url(tmp_path))
    made = World(database)
    made.put()
    yield made
    database.close()


def test_errors_raise_an_alert_within_seconds_and_it_resolves_when_they_end(world):
    for second in range(1, 600):
        rate = 0.5 if 60 <= second < 120 else 0.0
        world.history.note(second, error_rate=rate, requests_per_s=10.0)
    assert world.look(50) == {}
    phases = {second: world.look(second).get("error-rate") for second in range(60, 400, 10)}
    assert phases[80] is Phase.FIRING
    assert phases[170] is Phase.FIRING
    assert phases[390] is None
    (alert,) = world.alerts.newest(is_open=False)
    assert alert.numbers["error_rate"] > 0.05


def test_a_measure_that_nobody_has_keeps_no_other_rule_from_being_looked_at(world):
    world.history.note(0, error_rate=0.5, requests_per_s=10.0)
    assert world.signal("capture-loss") is None
    assert world.signal("error-rate").is_firing


@pytest.mark.parametrize("where", ["at once", "at the first measure"])
def test_a_source_that_is_away_is_asked_once_and_silences_no_rule_about_states(world, where):
    asked = []

    def away(name, endpoint):
        asked.append(name)
        raise StoreUnavailable("Prometheus does not answer.")

    def ask(*, since, until):
        if where == "at once":
            away("", "")
        return away

    evaluation = Evaluation(world.database, environment="dev", seen=seen, ask=ask)
    assert {s.rule for s in evaluation.signals(NOW)} == {
        "no-replicas",
        "stuck-rollout",
        "gateway-down",
    }
    assert len(asked) == 1
    evaluation.signals(NOW + timedelta(seconds=10))
    assert len(asked) == 2


def test_that_control_was_away_is_not_that_nobody_came(world):
    asked = Absence(name="silent", over_s=900.0)
    world.put(
        spec=EndpointSpec(
            name="churn", model="churn:1", environment="dev", alerts=AlertPlan(extra=(asked,))
        )
    )

    def ask(*, since, until):
        is_known = until - since != timedelta(seconds=900)
        return lambda name, endpoint: 1.0 if is_known else None

    evaluation = Evaluation(world.database, environment="dev", seen=seen, ask=ask)
    assert "silent" not in {s.rule for s in evaluation.signals(NOW)}
    later = evaluation.signals(NOW + timedelta(seconds=900))
    assert next(s for s in later if s.rule == "silent").is_firing


def test_without_any_history_nothing_is_said_of_measures(world):
    assert {s.rule for s in world.evaluation.signals(NOW)} == {
        "no-replicas",
        "stuck-rollout",
        "gateway-down",
    }


def test_an_objective_burns_by_its_own_windows(world):
    plan = AlertPlan(slos=(Slo(objective=99.0),))
    spec = EndpointSpec(name="churn", model="churn:1", environment="dev", alerts=plan)
    world.put(spec=spec)
    for second in range(-3600, 1, 10):
        world.history.note(second, error_rate=0.2, requests_per_s=1.0)
    found = world.signal("slo-burn")
    assert (found.is_firing, found.subject, found.severity) == (True, "error_rate", "critical")
    assert found.numbers["burn_long"] == pytest.approx(20.0)


def test_a_version_that_cannot_answer_is_told_and_an_unknown_one_is_not(world):
    assert world.signal("no-replicas").is_firing is False
    world.seen = seen(ready=False)
    assert world.signal("no-replicas").is_firing is True
    world.seen = seen(ready=False, settled=False)
    assert world.signal("no-replicas") is None, "control has just begun"
    world.seen = seen(ready=False, gateways=0)
    assert world.signal("no-replicas") is None, "that is the gateway's alert"
    assert world.signal("gateway-down").is_firing is True


def test_a_first_version_may_take_its_time_and_one_that_failed_may_not(world):
    world.put(phase=EndpointPhase.STARTING, active=None, target=ACTIVE, inline=())
    assert world.signal("no-replicas") is None
    world.put(phase=EndpointPhase.FAILED, active=None, target=ACTIVE, inline=())
    assert world.signal("no-replicas").is_firing is True


def test_a_server_without_endpoints_misses_no_gateway(world):
    world.seen = seen(gateways=0)
    with world.database.transaction() as tx:
        tx.endpoints.delete("dev", "churn")
    assert world.signal("gateway-down").is_firing is False


def test_a_rollout_that_does_not_move_is_stuck(world):
    plan = RolloutPlan(stages=(Canary(steps=(50,), hold_s=10),))
    rollout = Rollout(
        id="r",
        endpoint="churn",
        environment="dev",
        plan=plan,
        primary=ACTIVE,
        candidate=VersionRef("churn", 2),
        phase=RolloutPhase.RUNNING,
        started_at=NOW,
        started_by="ada",
        since=NOW,
    )
    world.put(phase=EndpointPhase.RELEASING, target=VersionRef("churn", 2), rollout=rollout)
    assert world.signal("stuck-rollout", 5).is_firing is False
    late = world.signal("stuck-rollout", plan.patience_s + 10 + 61)
    assert late.is_firing is True
    assert "shipway rollout status churn" in late.next_step


def test_long_windows_are_not_measured_at_every_look():
    history = History()
    measures = Measures(history.period)
    for second in range(5):
        measures.begin()
        measured = measures.of("churn", NOW + timedelta(seconds=second))
        measured("error_rate", 0.0, 3 * 86400.0)
        measured("p99_ms", 86400.0, 60.0)
    assert history.asked == 2


def test_a_look_asks_for_a_period_once_however_many_endpoints_and_measures_there_are(world):
    world.look(0)
    asked, world.history.asked = world.history.asked, 0
    for number in range(50):
        spec = EndpointSpec(name=f"e{number}", model="churn:1", environment="dev")
        state = EndpointState(spec=spec, generation=1, phase=EndpointPhase.LIVE, active=ACTIVE)
        with world.database.transaction() as tx:
            tx.endpoints.put(state, expected_generation=None)
    world.look(10)
    assert world.history.asked == asked


def test_a_look_that_takes_longer_than_a_window_holds_asks_no_second_time(monkeypatch):
    history, hours = History(), count()
    monkeypatch.setattr(measuring, "monotonic", lambda: 3600.0 * next(hours))
    measures = Measures(history.period)
    measures.begin()
    for endpoint in ("a", "b", "c"):
        measures.of(endpoint, NOW)("error_rate", 0.0, 60.0)
    assert history.asked == 1
    measures.begin()
    measures.of("a", NOW)("error_rate", 0.0, 60.0)
    assert history.asked == 2


def test_a_rule_of_ones_own_is_judged(world):
    rule = Threshold(name="slow-queue", measure="queue_ms", value=50.0)
    spec = EndpointSpec(
        name="churn", model="churn:1", environment="dev", alerts=AlertPlan(extra=(rule,))
    )
    world.put(spec=spec)
    world.history.note(0, queue_ms=80.0)
    found = world.signal("slow-queue")
    assert (found.is_firing, found.numbers["queue_ms"]) == (True, 80.0)
    world.history.note(0, queue_ms=20.0)
    world.evaluation._measures = Measures(world.history.period)
    assert world.signal("slow-queue").is_firing is False
    assert msgspec.json.encode(found)
