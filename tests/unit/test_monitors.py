"""What a spec may say of monitors, which there are when it says nothing, and what their runs tell the alerts."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from shipway.core.drift.rules import DriftRules
from shipway.core.drift.separation import SeparationRules
from shipway.core.endpoints import EndpointSpec
from shipway.core.errors import InvalidRequest, InvalidSpec
from shipway.core.monitor_runs import (
    FAILED,
    MonitorFinding,
    MonitorReport,
    MonitorRun,
    MonitorVerdict,
    Period,
    done,
    failed,
    period_of,
    signals_of,
    taken,
)
from shipway.core.monitors import DEFAULTS, MonitorKind, MonitorSpec
from shipway.core.redaction import Capture
from shipway.core.signals import Severity
from shipway.wire.specs import spec_of

NOW = datetime(2026, 5, 6, 7, tzinfo=UTC)
SPEC = {"name": "churn", "model": "churn:1", "capture": {}}


def declared(*monitors):
    return spec_of({**SPEC, "monitors": list(monitors)}).monitors


def test_endpoint_that_keeps_predictions_is_watched_from_the_first_moment():
    spec = EndpointSpec(name="churn", model="churn:1", capture=Capture())
    assert spec.monitored == DEFAULTS
    assert [one.label for one in DEFAULTS] == [
        "drift",
        "prediction_drift",
        "quality",
        "performance",
    ]
    assert all(one.schedule("churn").every == timedelta(hours=1) for one in DEFAULTS)
    assert all(one.length == timedelta(days=1) for one in DEFAULTS)


def test_what_the_defaults_may_spend_on_false_alarms_is_5_percent_a_week():
    assert len(DEFAULTS) * DriftRules().false_alarms_per_week <= 0.05
    multivariate = SeparationRules().false_alarms_per_week
    assert len(DEFAULTS) * DriftRules().false_alarms_per_week + multivariate <= 0.05


def test_nothing_is_watched_where_nothing_is_kept_or_nobody_wants_it():
    assert EndpointSpec(name="churn", model="churn:1").monitored == ()
    assert EndpointSpec(name="c", model="c:1", capture=Capture(), monitors=()).monitored == ()


def test_a_monitor_is_declared_with_little_and_with_all():
    little, whole = declared(
        {"kind": "drift"},
        {
            "kind": "drift", "name": "nightly", "cron": "0 3 * * *", "window": "7d",
            "against": {"version": 3}, "features": ["age"], "min_rows": 500, "severity": "critical",
        },
    )  # fmt: skip
    assert (little.label, little.against) == ("drift", None)
    assert whole.schedule("churn").cron == "0 3 * * *"
    assert whole.against.version == 3


@pytest.mark.parametrize(
    ("monitor", "said"),
    [
        ({"kind": "drift", "every": "1h", "cron": "0 3 * * *"}, "both `every` and `cron`"),
        ({"kind": "drift", "every": "5s"}, "`every: 5s`"),
        ({"kind": "drift", "window": "soon"}, "`window` is `soon`"),
        ({"kind": "drift", "window": "367d"}, "`window: 367d`"),
        ({"kind": "drift", "cron": "0 0 30 2 *"}, "no time that comes"),
        ({"kind": "drift", "against": {}}, "does not say what it is compared with"),
        ({"kind": "drift", "against": {"trailing": "7d", "version": 2}}, "does not say what"),
        ({"kind": "drift", "against": {"trailing": "10s"}}, "`against.trailing: 10s`"),
        ({"kind": "drift", "against": "basline"}, "not valid"),
        ({"kind": "prediction_drift", "against": "baseline"}, "the baseline has none of it"),
        ({"kind": "performance", "against": {"version": 2}}, "compared with a version"),
        ({"kind": "drift", "name": "Not a name"}, "not a valid monitor name"),
        ({"kind": "drift", "thresholds": {"effekt": 1}}, "unknown threshold `effekt`"),
        ({"kind": "drift", "evry": "1h"}, "evry"),
        ({"kind": "drive"}, "not valid"),
        ({}, "kind"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(monitor, said):
    with pytest.raises(InvalidSpec, match=said.replace("(", r"\(")):
        declared(monitor)


def test_two_monitors_of_one_name_are_refused():
    with pytest.raises(InvalidSpec, match="`drift` is there twice"):
        declared({"kind": "drift"}, {"kind": "quality", "name": "drift"})


def test_monitors_without_kept_predictions_are_refused():
    with pytest.raises(InvalidSpec, match="keeps no predictions"):
        spec_of({"name": "churn", "model": "churn:1", "monitors": [{"kind": "drift"}]})


def run(**fields):
    monitor = MonitorSpec(kind=MonitorKind.DRIFT, severity=Severity.CRITICAL)
    waiting = MonitorRun(
        id="run-1", environment="staging", endpoint="churn", monitor=monitor, due_at=NOW, **fields
    )
    return taken(waiting, holder="a", now=NOW)


def report(verdict, *findings):
    return MonitorReport(
        verdict=verdict, summary="`income` moved.", start=NOW - timedelta(days=1), end=NOW,
        reference="the baseline", rows=10, reference_rows=20, checked=3, findings=findings,
    )  # fmt: skip


def finding(feature, verdict, since=None):
    return MonitorFinding(
        feature=feature, what="drift", verdict=verdict, words=f"`{feature}` moved.",
        numbers={"effect": 2.0}, since=since,
    )  # fmt: skip


def by_rule(run):
    return {one.rule: one for one in signals_of(run)}


def test_a_finding_fires_and_says_since_when_and_where_to_read_on():
    early, late = NOW - timedelta(hours=9), NOW - timedelta(hours=3)
    found = report(
        MonitorVerdict.FIRING,
        finding("income", MonitorVerdict.FIRING, late),
        finding("debt", MonitorVerdict.FIRING, early),
        finding("age", MonitorVerdict.STEADY, NOW - timedelta(hours=20)),
    )
    signals = by_rule(done(run(), found, artifacts=(), now=NOW))
    assert signals["drift"].is_firing
    assert signals["drift"].severity is Severity.CRITICAL
    assert signals["drift"].since == early
    assert signals["drift"].numbers == {"effect": 2.0}
    assert signals["drift"].report == "/endpoints/churn/monitor-runs/run-1"
    assert not signals[FAILED].is_firing


def test_a_steady_verdict_resolves():
    signals = by_rule(done(run(), report(MonitorVerdict.STEADY), artifacts=(), now=NOW))
    assert not signals["drift"].is_firing


def test_without_a_verdict_an_alert_stays_as_it_is():
    ended = done(run(), report(MonitorVerdict.INCONCLUSIVE), artifacts=(), now=NOW)
    assert set(by_rule(ended)) == {FAILED}


def test_a_run_that_failed_is_an_alert_of_its_own():
    signals = by_rule(failed(run(), message="It ran out of memory.", now=NOW))
    assert set(signals) == {FAILED}
    assert signals[FAILED].is_firing
    assert signals[FAILED].subject == "drift"
    assert signals[FAILED].summary == "It ran out of memory."


def test_a_run_over_a_period_that_somebody_named_is_no_news():
    past = run(period=Period(since=NOW - timedelta(days=9), until=NOW - timedelta(days=8)))
    for verdict in MonitorVerdict:
        ended = done(past, report(verdict, finding("income", verdict)), artifacts=(), now=NOW)
        assert signals_of(ended) == ()
    assert signals_of(failed(past, message="The log is too much at once.", now=NOW)) == ()


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [
        (None, None, None),
        (NOW - 3 * DAY, NOW - DAY, (NOW - 3 * DAY, NOW - DAY)),
        (NOW - 3 * DAY, None, (NOW - 3 * DAY, NOW)),
        (None, NOW - DAY, (NOW - 2 * DAY, NOW - DAY)),
    ],
)
def test_what_is_left_out_of_a_period_is_the_window_up_to_now(since, until, found):
    monitor = MonitorSpec(kind=MonitorKind.DRIFT)
    period = period_of(monitor, since=since, until=until, now=NOW)
    assert (period and (period.since, period.until)) == found


@pytest.mark.parametrize(
    ("since", "until", "path"),
    [
        (None, NOW + timedelta(seconds=1), "until"),
        (None, datetime(1, 1, 1, tzinfo=UTC), "until"),
        (datetime(1, 1, 1, tzinfo=UTC), None, "since"),
        (NOW - DAY, NOW - DAY, "since"),
        (NOW - DAY, NOW - 2 * DAY, "since"),
        (NOW - 367 * DAY, None, "since"),
    ],
)
def test_period_of_which_nothing_is_kept_is_refused(since, until, path):
    monitor = MonitorSpec(kind=MonitorKind.DRIFT)
    with pytest.raises(InvalidRequest) as refused:
        period_of(monitor, since=since, until=until, now=NOW)
    assert refused.value.details["path"] == path


def test_spec_of_a_run_survives_as_json():
    kept = run(period=Period(since=NOW - DAY, until=NOW))
    assert msgspec.json.decode(msgspec.json.encode(kept), type=MonitorRun) == kept
