"""Costs: the parts sum to the whole, and nobody pays for what another used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import fsum, isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.cli.costs import show_advice
from shipway.core.budgets import Budget, Period, began, length, spending
from shipway.core.costs import GROUPS, Prices, Resources, Usage, charged, summed
from shipway.core.repeats import Compared, Repeats
from shipway.core.signals import Severity
from shipway.core.thrift import AdviceReport, Observed, Unknown, advised, may_need_cache

HOUR = datetime(2026, 3, 1, 7, tzinfo=UTC)
PRICES = Prices(cpu_hour=0.04, memory_gb_hour=0.005, gpu_hour=2.0)

seconds = st.floats(0, 1e5, allow_nan=False)
resources = st.builds(Resources, cpu_s=seconds, memory_gb_s=seconds, gpu_s=seconds)
usages = st.lists(
    st.builds(
        Usage,
        endpoint=st.sampled_from(["a", "b", "c"]),
        version=st.sampled_from(["m:1", "m:2"]),
        tenants=st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 10**6)),
        own=resources,
    ),
    max_size=6,
    unique_by=lambda usage: (usage.endpoint, usage.version),
)


def test_an_hour_of_everything_costs_its_prices():
    used = Resources(cpu_s=3600, memory_gb_s=3600, gpu_s=3600)
    assert used.cost(PRICES) == pytest.approx(2.045)


@given(usages, resources)
def test_charges_sum_to_what_was_used(used, shared):
    charges = charged(used, shared, PRICES, hour=HOUR)
    whole = fsum([shared.cost(PRICES), *(one.own.cost(PRICES) for one in used)])
    assert isclose(fsum(one.total for one in charges), whole, rel_tol=1e-9, abs_tol=1e-12)


@given(usages, resources)
def test_a_version_pays_for_its_own_replicas_and_no_other(used, shared):
    charges = charged(used, shared, PRICES, hour=HOUR)
    for one in used:
        mine = [c for c in charges if (c.endpoint, c.version) == (one.endpoint, one.version)]
        assert isclose(fsum(c.own for c in mine), one.own.cost(PRICES), rel_tol=1e-9, abs_tol=1e-12)
        assert sum(c.requests for c in mine) == one.requests


def test_shared_cost_follows_requests_and_tenants_pay_by_theirs():
    used = [
        Usage(endpoint="a", version="m:1", tenants={"x": 30, "y": 10}),
        Usage(endpoint="b", version="m:1", tenants={"x": 60}),
    ]
    charges = charged(used, Resources(cpu_s=360_000), PRICES, hour=HOUR)
    shares = {(c.endpoint, c.tenant): c.shared for c in charges}
    assert shares == pytest.approx({("a", "x"): 1.2, ("a", "y"): 0.4, ("b", "x"): 2.4})


def test_a_server_without_endpoints_costs_too():
    (one,) = charged([], Resources(cpu_s=3600), PRICES, hour=HOUR)
    assert (one.endpoint, one.shared, one.own) == ("", pytest.approx(0.04), 0.0)


@given(usages, resources, st.lists(st.sampled_from(GROUPS), unique=True, max_size=3))
def test_sums_by_any_group_are_the_same_whole(used, shared, by):
    charges = charged(used, shared, PRICES, hour=HOUR)
    rows = summed(charges, by)
    assert isclose(
        fsum(r.total for r in rows), fsum(c.total for c in charges), rel_tol=1e-9, abs_tol=1e-12
    )
    assert len({r.group for r in rows}) == len(rows)


def test_currencies_are_not_added_to_each_other():
    used = [Usage(endpoint="a", version="m:1", tenants={"x": 1}, own=Resources(cpu_s=3600))]
    euros = Prices(currency="EUR")
    both = (
        *charged(used, Resources(), PRICES, hour=HOUR),
        *charged(used, Resources(), euros, hour=HOUR),
    )
    assert [row.currency for row in summed(both, ["endpoint"])] == ["USD", "EUR"]


@pytest.mark.parametrize(
    ("spent", "day", "severity"),
    [
        (10.0, 15, None),
        (60.0, 15, Severity.WARNING),  # the pace: 124 by the end
        (81.0, 28, Severity.WARNING),
        (100.0, 3, Severity.CRITICAL),
        (5.0, 1, None),  # too early to foretell
    ],
)
def test_budgets_speak_up_in_time(spent, day, severity):
    now = datetime(2026, 3, day, tzinfo=UTC) + timedelta(minutes=30)
    found = spending(Budget(amount=100), spent, now, currency="USD")
    assert found.severity == severity, found.message


def test_periods_are_those_of_the_calendar():
    now = datetime(2028, 2, 29, 13, 5, tzinfo=UTC)
    assert began(Period.MONTH, now) == datetime(2028, 2, 1, tzinfo=UTC)
    assert length(Period.MONTH, now) == timedelta(days=29)
    assert began(Period.DAY, now) == datetime(2028, 2, 29, tzinfo=UTC)


STEADY = Observed(
    endpoint="churn", version="churn:3", hours=24, requests=100_000, replicas=1, cpu_s=40_000
)


def changed(**fields):
    import msgspec

    return msgspec.structs.replace(STEADY, **fields)


def test_a_well_kept_endpoint_gets_no_advice():
    assert advised(changed(busy=0.5, memory_gb=1, batch_rows=8.0), PRICES) == ()


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"replicas": 4, "busy": 0.9, "memory_gb": 2.0}, "replicas"),
        (
            {"batch_rows": 1.0, "max_batch_rows": 1, "queue_s": 0.04, "infer_s": 0.01},
            "batching",
        ),
        ({"is_float32": True, "size_mb": 400.0}, "quantisation"),
    ],
)
def test_each_waste_is_named_with_its_saving(fields, kind):
    (advice,) = advised(changed(**fields), PRICES)
    assert advice.kind == kind
    assert advice.saving > 0
    assert advice.what
    assert advice.evidence
    assert advice.command


def test_a_replica_that_may_stack_and_does_not_has_measured_that_it_does_not_pay():
    waits = {"batch_rows": 1.0, "queue_s": 0.04, "infer_s": 0.01}
    assert advised(changed(**waits, max_batch_rows=64), PRICES) == ()


def test_replicas_enough_for_the_busiest_minute_are_kept():
    (advice,) = advised(changed(replicas=4, busy=1.5, memory_gb=2.0), PRICES)
    assert "--replicas 3" in advice.command
    # One replica of 2 GB less, for 730 hours at 0.005.
    assert advice.saving == pytest.approx(7.3)


@pytest.mark.parametrize("fields", [{"hours": 0.5}, {"requests": 10}])
def test_little_evidence_gives_no_advice(fields):
    assert advised(changed(replicas=8, memory_gb=4.0, **fields), PRICES) == ()


def test_a_cache_saves_the_share_of_the_requests_that_repeat():
    repeats = Repeats(requests=50_000, repeated=20_000)
    (advice,) = advised(changed(), PRICES, repeats=repeats)
    assert advice.kind == "cache"
    # 40 % of 40,000 seconds in 24 hours, for 730 hours at 0.04.
    assert advice.saving == pytest.approx(0.4 * 40_000 / 3600 / 24 * 730 * 0.04)
    assert "50,000 requests, 40 %" in advice.evidence
    assert "redacted" not in advice.evidence


def test_what_is_redacted_is_said_to_be_uncompared():
    compared = Compared(columns=("age",), redacted=("name", "street"))
    repeats = Repeats(requests=50_000, repeated=20_000)
    (advice,) = advised(changed(compared=compared), PRICES, repeats=repeats)
    assert "redacted: `name`, `street`" in advice.evidence


@pytest.mark.parametrize(("requests", "repeated"), [(900, 900), (50_000, 4_900)])
def test_few_requests_or_repetitions_give_no_advice(requests, repeated):
    assert advised(changed(), PRICES, repeats=Repeats(requests=requests, repeated=repeated)) == ()


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({}, True),
        ({"compared": None}, False),
        ({"requests": 10}, False),
        ({"cpu_s": 0.0}, False),  # the model runs in the gateway
    ],
)
def test_repetitions_are_counted_only_where_a_cache_could_pay(fields, answer):
    observed = changed(**{"compared": Compared(columns=("age",)), **fields})
    assert may_need_cache(observed, PRICES) is answer


def test_what_could_not_be_found_out_is_said(capsys):
    why = "The prediction log gave no answer within 20 s."
    unknown = (Unknown(kind="cache", endpoint="churn", version="churn:3", why=why),)
    show_advice(AdviceReport(unknown=unknown))
    said = capsys.readouterr().out
    assert "churn (churn:3): whether a cache would pay is not known." in said
    assert why in said
