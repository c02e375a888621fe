"""What rules make of measures, and what plans make of rules."""

from __future__ import annotations

import doctest

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shipway.core.alerts.judging as judging
import shipway.core.alerts.messages as messages
import shipway.core.alerts.sending as sending
from shipway.core.alerts.channels import ChannelKind, kind_of, shown_url
from shipway.core.alerts.defaults import DEFAULT_RULES, SERVER_RULES, command_of, runbook_of
from shipway.core.alerts.judging import DAY_S, HOUR_S, WEEK_S, judged, robust_z
from shipway.core.alerts.messages import filled, linked
from shipway.core.alerts.plan import AlertPlan, Slo, SloMeasure, rules_of
from shipway.core.alerts.rules import (
    BURNS,
    Absence,
    Anomaly,
    BurnRate,
    Change,
    Comparison,
    Direction,
    Threshold,
)
from shipway.core.errors import InvalidSpec
from shipway.core.measures import MEASURES, OF_SERVER
from shipway.core.monitors import MonitorKind
from shipway.core.signals import Severity
from shipway.wire.specs import spec_of
from shipway.wire.webhooks import is_signed, signature_of


class Past:
    """Measures by how long ago their span ended; what is not told is not measured."""

    def __init__(self, **values):
        self.values = values

    def __call__(self, name, ago_s, over_s):
        told = self.values.get(name)
        if callable(told):
            return told(ago_s, over_s)
        return told if ago_s == 0 else None


def holds(rule, measured):
    found = judged(rule, measured)
    return None if found is None else found.holds


@pytest.mark.parametrize("module", [judging, messages, sending])
def test_worked_examples_are_right(module):
    assert doctest.testmod(module).failed == 0
    assert doctest.testmod(module).attempted > 0


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        (Comparison.ABOVE, 5.0, False),
        (Comparison.ABOVE, 5.1, True),
        (Comparison.AT_LEAST, 5.0, True),
        (Comparison.BELOW, 5.0, False),
        (Comparison.BELOW, 4.9, True),
        (Comparison.AT_MOST, 5.0, True),
    ],
)
def test_threshold_compares_on_the_side_that_it_says(op, value, expected):
    rule = Threshold(name="t", measure="queue_ms", op=op, value=5.0)
    assert holds(rule, Past(queue_ms=value)) is expected


RULES = [
    Threshold(name="t", measure="m", value=1.0),
    Change(name="c", measure="m", by_pct=10),
    Anomaly(name="a", measure="m"),
    Absence(name="n"),
    BurnRate(name="b", measure="m", objective_pct=99.9),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_is_not_measured_is_never_judged(rule):
    assert judged(rule, Past()) is None


@pytest.mark.parametrize("least", [20, 0])
def test_few_requests_say_nothing(least):
    rule = Threshold(name="t", measure="error_rate", value=0.05, over_s=60, least_requests=least)
    said = holds(rule, Past(error_rate=0.5, requests_per_s=19 / 60))
    assert said is (None if least else True)
    assert holds(rule, Past(error_rate=0.5, requests_per_s=20 / 60)) is True


def test_change_compares_with_the_span_before():
    rule = Change(name="c", measure="m", direction=Direction.DOWN, by_pct=50, over_s=60)
    for before, now, expected in ((10, 5, True), (10, 5.1, False), (10, 20, False), (0, 0, False)):
        past = Past(m=lambda ago, over, b=before, n=now: b if ago == 60 else n)
        assert holds(rule, past) is expected, (before, now)


def days(now, history, weeks=()):
    """A measure with a value now, one for each day before, and one for each week before."""

    def measured(ago_s, over_s):
        if ago_s == 0:
            return now
        if weeks and ago_s % WEEK_S == 0 and ago_s > 2 * WEEK_S:
            return dict(enumerate(weeks, start=1)).get(int(ago_s / WEEK_S))
        return dict(enumerate(history, start=1)).get(int(ago_s / DAY_S))

    return Past(m=measured)


STEADY = [100.0, 104.0, 97.0, 101.0, 99.0, 103.0, 98.0]


@pytest.mark.parametrize(
    ("now", "expected"), [(160.0, True), (149.0, False), (104.0, False), (20.0, False)]
)
def test_anomaly_needs_both_distance_and_size(now, expected):
    assert holds(Anomaly(name="a", measure="m"), days(now, STEADY)) is expected


def test_anomaly_of_a_noisy_history_is_none():
    noisy = [20.0, 400.0, 90.0, 150.0, 60.0, 300.0, 100.0]
    assert holds(Anomaly(name="a", measure="m"), days(200.0, noisy)) is False


def test_anomaly_waits_for_enough_history():
    assert judged(Anomaly(name="a", measure="m"), days(900.0, STEADY[:4])) is None
    assert holds(Anomaly(name="a", measure="m"), days(900.0, STEADY[:5])) is True


def test_a_weekly_rhythm_is_no_anomaly():
    week = [100.0] * 6 + [900.0]  # the same day a week ago was as large as today
    fortnight = week + week
    rule = Anomaly(name="a", measure="m")
    assert holds(rule, days(900.0, fortnight, weeks=[900.0, 900.0, 890.0, 910.0])) is False
    assert holds(rule, days(900.0, [100.0] * 14, weeks=[100.0, 101.0, 99.0, 100.0])) is True


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=20), st.floats(-1e6, 1e6))
def test_robust_z_has_the_sign_of_the_distance(history, value):
    from statistics import median

    z = robust_z(value, history)
    assert (z > 0) == (value > median(history)) or z == 0


def rate(now, lately, *before, yesterday=None):
    """Requests a second now, in the hour before, and of each day before; `yesterday`, in the hour before that time."""

    def measured(ago_s, over_s):
        if ago_s == 0:
            return now
        if over_s == HOUR_S:
            return lately if ago_s < DAY_S else yesterday
        return dict(enumerate(before, start=1)).get(int(ago_s / DAY_S))

    return Past(requests_per_s=measured)


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        (rate(0.0, 1.0), True),
        (rate(None, 1.0), True),
        (rate(0.1, 1.0), False),
        (rate(0.0, 0.001), None),  # too few were to be expected
        (rate(0.0, 1.0, 0.0, 0.0, 0.0), None),  # at night nobody comes
        (rate(0.0, 1.0, 1.0, 0.9, 1.1), True),
        (rate(0.0, None), None),
        # Days that are kept by the hour do not show that nobody comes after 18:20; yesterday does.
        (rate(0.0, 1.0, 0.0, 0.0, 0.7, 0.7, 0.7, 0.7, 0.7, yesterday=1.0), None),
        (rate(0.0, 1.0, 0.0, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, yesterday=0.0), True),  # a Monday
    ],
)
def test_absence_is_news_only_where_requests_were_to_be_expected(past, expected):
    assert holds(Absence(name="n"), past) is expected


def burning(**rates):
    """Error rates by the length of the window in seconds."""
    return Past(error_rate=lambda ago_s, over_s: rates.get(f"w{over_s:g}"))


RATE = BurnRate(name="slo-burn", objective_pct=99.9)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        # burn = error rate / 0.001
        ({"w3600": 0.0145, "w300": 0.0145}, (True, Severity.CRITICAL)),
        ({"w3600": 0.0145, "w300": 0.0}, (False, Severity.CRITICAL)),  # it is over already
        ({"w3600": 0.0, "w300": 0.5}, (False, Severity.CRITICAL)),  # a blip
        ({"w3600": 0.0143, "w300": 0.0143}, (False, Severity.CRITICAL)),
        ({"w21600": 0.0061, "w1800": 0.0061}, (True, Severity.CRITICAL)),
        ({"w259200": 0.0011, "w21600": 0.0011}, (True, Severity.WARNING)),
        (
            {"w3600": 0.0, "w300": 0.0, "w259200": 0.0011, "w21600": 0.0011},
            (True, Severity.WARNING),
        ),
    ],
)
def test_burn_rate_needs_both_windows_of_a_pair(rates, expected):
    found = judged(RATE, burning(**rates))
    assert (found.holds, found.severity) == expected


def test_burn_rates_are_those_of_the_workbook():
    """2 % of a 30-day budget in 1 h, 5 % in 6 h, 10 % in 3 days."""
    month_s = 30 * DAY_S
    shares = [round(burn.rate * burn.long_s / month_s, 4) for burn in BURNS]
    assert shares == [0.02, 0.05, 0.1]
    assert [burn.long_s / burn.short_s for burn in BURNS] == [12.0] * 3


# Plans


def plan(**alerts):
    return spec_of({"name": "churn", "model": "churn", "alerts": alerts}).alerts


def named(rules):
    return {rule.name: rule for rule in rules}


def test_without_a_plan_an_endpoint_has_the_default_rules():
    assert rules_of(None) == rules_of(AlertPlan())
    assert set(named(rules_of(None))) == {rule.name for rule in DEFAULT_RULES}


def test_rules_are_changed_switched_off_and_added_by_name():
    made = plan(
        rules={"error-rate": {"value": 0.01, "severity": "info"}, "latency": None},
        extra=[{"kind": "threshold", "name": "slow-queue", "measure": "queue_ms", "value": 50}],
        slos=[{"objective": 99.5}, {"objective": 95, "measure": "latency", "threshold_ms": 250}],
    )
    rules = named(rules_of(made))
    assert rules["error-rate"].value == 0.01
    assert rules["error-rate"].severity is Severity.INFO
    assert rules["error-rate"].over_s == 60.0
    assert "latency" not in rules
    assert rules["slow-queue"].value == 50
    burns = [rule for rule in rules_of(made) if rule.name == "slo-burn"]
    assert [(b.subject, b.measure, round(b.budget, 4)) for b in burns] == [
        ("error_rate", "error_rate", 0.005),
        ("latency", "slower_than_ms:250", 0.05),
    ]


def test_the_value_of_an_anomaly_is_its_z():
    assert named(rules_of(plan(rules={"latency": {"value": 10}})))["latency"].z == 10


@pytest.mark.parametrize(
    "alerts",
    [
        {"extra": [{"kind": "threshold", "name": "latency", "measure": "p99_ms", "value": 1}]},
        {"extra": [{"kind": "threshold", "name": "slo-burn", "measure": "p99_ms", "value": 1}]},
        {"extra": [{"kind": "treshold", "name": "x", "measure": "p99_ms", "value": 1}]},
        {"extra": [{"kind": "threshold", "name": "X Y", "measure": "p99_ms", "value": 1}]},
        {"rules": {"drift": {"value": 3}}},
        {"rules": {"unknown": {"over_s": 3}}},
        {"rules": {"error-rate": {"threshold": 3}}},
        {"slos": [{"objective": 100}]},
        {"slos": [{"objective": 99, "measure": "latency"}]},
        {"slos": [{"objective": 99, "threshold_ms": 3}]},
        {"slos": [{"objective": 99}, {"objective": 98}]},
        {"actions": [{"when": "drift", "do": "retrain"}]},
        {"actions": [{"when": "drift", "do": "rollback", "channel": "ci"}]},
        {"actions": [{"when": "drift", "do": "reboot"}]},
        {"actions": [{"when": "drift", "do": "pause", "per_s": 1}]},
        {"notfy": []},
        {"rules": {"eror-rate": {"for_s": 5}}},
        {"rules": {"latnecy": None}},
        {"rules": {"critical": None}},
        {"rules": {"error-rate:fast": None}},
        {"extra": [{"kind": "threshold", "name": "x", "measure": "eror_rate", "value": 1}]},
        {"extra": [{"kind": "burn_rate", "name": "x", "measure": "m", "objective_pct": 99}]},
        {"extra": [{"kind": "anomaly", "name": "x", "measure": "gateway_cpu_cores"}]},
        {"actions": [{"when": "eror-rate", "do": "rollback", "mode": "do"}]},
    ],
)
def test_plans_without_sense_are_refused(alerts):
    with pytest.raises(InvalidSpec):
        plan(**alerts)


OWN = {"kind": "threshold", "name": "mine", "measure": "slower_than_ms:250", "value": 0.1}
KNOWN = [
    *(rule.name for rule in DEFAULT_RULES),
    *MonitorKind,
    *(f"{kind}:hourly" for kind in MonitorKind),
    "slo-burn",
    "mine",
]


@pytest.mark.parametrize("name", KNOWN)
def test_every_rule_can_be_changed_switched_off_and_acted_on(name):
    acted = [{"when": name, "do": "rollback"}]
    made = plan(extra=[OWN], rules={name: {"for_s": 5}}, actions=acted)
    assert made.actions[0].when == name
    assert plan(extra=[OWN], rules={name: None}).rules == {name: None}


@pytest.mark.parametrize("severity", list(Severity))
def test_something_can_be_done_at_every_severity(severity):
    assert plan(actions=[{"when": severity, "do": "rollback"}]).actions[0].when == severity


@pytest.mark.parametrize("measure", [one for one in MEASURES if one not in OF_SERVER])
def test_every_measure_of_an_endpoint_can_have_a_rule(measure):
    assert plan(extra=[{**OWN, "measure": measure}]).extra[0].measure == measure


@pytest.mark.parametrize(
    ("alerts", "meant"),
    [
        ({"rules": {"eror-rate": None}}, "error-rate"),
        ({"rules": {"min": None}, "extra": [OWN]}, "mine"),
        ({"actions": [{"when": "critcal", "do": "rollback"}]}, "critical"),
        ({"extra": [{**OWN, "measure": "eror_rate"}]}, "error_rate"),
    ],
)
def test_the_name_that_was_meant_is_suggested(alerts, meant):
    with pytest.raises(InvalidSpec, match=f"Did you mean `{meant}`"):
        plan(**alerts)


def test_a_plan_of_before_its_names_were_checked_is_still_read():
    kept = b'{"rules":{"eror-rate":null},"actions":[{"when":"eror-rate","do":"rollback"}]}'
    assert msgspec.json.decode(kept, type=AlertPlan).rules == {"eror-rate": None}


def test_a_plan_survives_being_kept():
    made = plan(extra=[{"kind": "absence", "name": "quiet"}], rules={"latency": None}, notify=[])
    kept = msgspec.json.decode(msgspec.json.encode(made), type=AlertPlan)
    assert kept == made
    assert Slo(objective=99).measure is SloMeasure.ERROR_RATE


def test_every_default_rule_has_a_runbook_and_a_command():
    for rule in (*DEFAULT_RULES, *SERVER_RULES, RATE):
        assert runbook_of(rule.name, rule.runbook).startswith("docs/runbooks/"), rule.name
        assert command_of(rule.name, "churn", "abc").startswith("shipway "), rule.name
    declared = {rule.name for rule in DEFAULT_RULES}
    assert {kind.value for kind in MonitorKind} <= declared
    assert runbook_of("drift:hourly") == "docs/runbooks/drift.md"
    assert runbook_of("my-own") == ""
    assert runbook_of("my-own", "https://wiki/x") == "https://wiki/x"


def test_runbooks_are_links_below_the_documentation():
    assert linked("docs/runbooks/drift.md", "") == "docs/runbooks/drift.md"
    assert linked("docs/runbooks/drift.md", "https://d/x/") == "https://d/x/runbooks/drift.md"
    assert linked("https://wiki/x", "https://d") == "https://wiki/x"


# Channels and signatures


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        ("https://user:pw@h.example:8443/a/secret?x=1", ChannelKind.WEBHOOK, "https://h.example:8443/…"),
        ("slack://tokenA/tokenB/tokenC", ChannelKind.APPRISE, "slack://…"),
        ("mailto://me:pw@example.com", ChannelKind.APPRISE, "mailto://…"),
    ],
)  # fmt: skip
def test_a_url_tells_its_kind_and_is_shown_without_what_opens_it(url, kind, shown):
    assert kind_of(url) is kind
    assert shown_url(url) == shown


@pytest.mark.parametrize("url", ["", "nothing", "https://", "http://h:99999/", "slack://", "://x"])
def test_what_is_no_url_is_refused_without_repeating_it(url):
    with pytest.raises(InvalidSpec) as refused:
        kind_of(url)
    assert not url or url not in refused.value.message


@given(st.binary(max_size=200), st.integers(0, 2**40))
def test_only_the_body_that_was_signed_passes(body, at_s):
    header = signature_of("whsec_1", body, at_s=at_s)
    assert is_signed(header, "whsec_1", body, now_s=at_s + 299)
    assert not is_signed(header, "whsec_1", body + b"x", now_s=at_s)
    assert not is_signed(header, "whsec_2", body, now_s=at_s)
    assert not is_signed(header, "whsec_1", body, now_s=at_s + 301)
    assert not is_signed(header.replace(f"t={at_s}", f"t={at_s + 1}"), "whsec_1", body, now_s=at_s)


@pytest.mark.parametrize("header", ["", "t=,v1=", "t=x,v1=y", "v1=a", "t=1"])
def test_a_broken_signature_is_none(header):
    assert not is_signed(header, "s", b"", now_s=1)


def test_templates_fill_only_what_is_known():
    document = {"title": "FIRING", "items": [1], "endpoint": "churn"}
    template = {"a": "{title}: {endpoint}", "b": ["{items}"], "c": "{other} {", "d": 3}
    assert filled(template, document) == {
        "a": "FIRING: churn",
        "b": [[1]],
        "c": "{other} {",
        "d": 3,
    }
