"""Costs on SQLite and PostgreSQL: each hour is charged once, at the prices of its time, and nothing is lost."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from shipway.control.costs import Costs, Counted, HourUse
from shipway.control.resources import HistoryUse
from shipway.core.budgets import Budget, Period
from shipway.core.capturing import Capture
from shipway.core.costs import Prices, Resources, Usage
from shipway.core.endpoints import Cache, EndpointSpec, EndpointState, Phase
from shipway.core.repeats import Compared, Repeats
from shipway.core.thrift import Observed, Unknown
from shipway.core.versions import VersionRef
from shipway.testing.bundles import write_bundle

HOUR = timedelta(hours=1)
NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
PRICES = Prices(cpu_hour=1.0, memory_gb_hour=0.0, gpu_hour=0.0)


class Steady:
    """A server on which the same two endpoints run at every time: three cores' worth, in shares."""

    def used(self, since, until):
        share = (until - since) / HOUR
        own = Resources(cpu_s=3600 * share)
        return HourUse(
            usages=(
                Usage(
                    endpoint="a", version="m:1", use_case="ads", tenants={"x": 3, "y": 1}, own=own
                ),
                Usage(endpoint="b", version="m:1", tenants={"x": 4}, own=own),
            ),
            shared=own,
        )

    def observed(self, since, until):
        return (
            Observed(
                endpoint="a", version="m:1", hours=24, requests=9999, replicas=4, memory_gb=50
            ),
        )


class Nothing(Steady):
    def used(self, since, until):
        return None


class Repeated:
    """A log in which half of the requests of `a` repeat others; that of `b` is away."""

    def __init__(self):
        self.asked = []

    def counted(self, versions, until):
        self.asked += [seen.endpoint for seen in versions]
        return Counted(
            repeats={("a", "m:1"): Repeats(requests=5000, repeated=2500)},
            unknown=(Unknown(kind="cache", endpoint="b", version="m:1", why="It is away."),),
        )


class Busy(Steady):
    """Three endpoints that take a core each: of the last one, the log does not tell."""

    def observed(self, since, until):
        return tuple(
            Observed(
                endpoint=name,
                version="m:1",
                hours=24,
                requests=9999,
                replicas=1,
                cpu_s=24 * 3600,
                compared=None if name == "c" else Compared(columns=("x",)),
            )
            for name in ("a", "b", "c")
        )


@pytest.fixture
def database(place):
    database = place.database()
    yield database
    database.close()


def costs(database, source=None, prices=PRICES, repeats=None):
    return Costs(
        database,
        source or Steady(),
        repeats=repeats or Repeated(),
        environment="dev",
        prices=prices,
    )


def total(report):
    return sum(row.total for row in report.rows)


def test_an_hour_is_charged_once(database):
    own = costs(database)
    assert own.charge(NOON + timedelta(minutes=5)) == 1
    assert own.charge(NOON + timedelta(minutes=50)) == 0
    report = own.report(["endpoint"], since=NOON - HOUR, until=NOON, now=NOON)
    assert total(report) == pytest.approx(3.0)
    assert {row.group: row.total for row in report.rows} == {
        ("a",): pytest.approx(1.5),
        ("b",): pytest.approx(1.5),
    }


def test_hours_that_control_slept_through_are_caught_up(database):
    own = costs(database)
    own.charge(NOON)
    assert own.charge(NOON + 5 * HOUR) == 5
    report = own.report(["hour"], since=NOON - HOUR, until=NOON + 5 * HOUR, now=NOON + 5 * HOUR)
    assert [row.total for row in report.rows] == [pytest.approx(3.0)] * 6


def test_the_present_hour_is_in_it_as_far_as_it_has_come(database):
    now = NOON + timedelta(minutes=20)
    report = costs(database).report(["endpoint"], since=NOON, until=now, now=now)
    assert total(report) == pytest.approx(1.0)


class Counting(Steady):
    """The same, which counts how often it is asked."""

    asked = 0

    def used(self, since, until):
        self.asked += 1
        return super().used(since, until)


def test_budgets_are_charges_and_the_present_hour_and_all_are_read_at_once(database):
    source = Counting()
    own = costs(database, source)
    for hours in range(3):
        own.charge(NOON - timedelta(days=2) + hours * HOUR)
    costs(database, prices=Prices(currency="EUR", cpu_hour=9.0)).charge(
        NOON - timedelta(days=2) + 3 * HOUR
    )
    own.charge(NOON - HOUR)
    for name, per in (("a", "day"), ("b", "month"), ("c", "month")):
        spec = EndpointSpec(
            name=name, model="m:1", environment="dev", budget=Budget(amount=100, per=Period(per))
        )
        state = EndpointState(spec=spec, generation=1, phase=Phase.LIVE, active=VersionRef("m", 1))
        with database.transaction() as tx:
            tx.endpoints.put(state, expected_generation=None)
    now = NOON - HOUR / 2
    source.asked = 0
    standings = {one.endpoint: one.standing.spent for one in own.budgets(now)}
    assert source.asked == 1
    for name, since in (("a", NOON - 12 * HOUR), ("b", NOON - timedelta(days=5, hours=12))):
        report = own.report(["endpoint"], since=since, until=now, now=now)
        rows = {row.group: row.total for row in report.rows if row.currency == PRICES.currency}
        assert standings[name] == pytest.approx(rows[(name,)])
    assert standings["c"] == 0.0


class Overtaken(Steady):
    """The same; while it is asked about the hour under way, another control with a fast clock charges it."""

    other = None

    def used(self, since, until):
        found = super().used(since, until)
        if self.other is not None:
            other, self.other = self.other, None
            other.charge(NOON + HOUR)
        return found


def test_an_hour_that_is_charged_meanwhile_counts_once(database):
    costs(database).charge(NOON)
    for name in ("a", "b"):
        spec = EndpointSpec(
            name=name, model="m:1", environment="dev", budget=Budget(amount=100, per=Period.DAY)
        )
        state = EndpointState(spec=spec, generation=1, phase=Phase.LIVE, active=VersionRef("m", 1))
        with database.transaction() as tx:
            tx.endpoints.put(state, expected_generation=None)
    source = Overtaken()
    own, now = costs(database, source), NOON + HOUR / 2
    source.other = costs(database)
    # An hour of 1.5, and half of one so far.
    assert [one.standing.spent for one in own.budgets(now)] == [pytest.approx(2.25)] * 2
    # By now the hour under way is charged whole.
    assert [one.standing.spent for one in own.budgets(now)] == [pytest.approx(3.0)] * 2
    report = own.report(["endpoint"], since=NOON - HOUR, until=now, now=now)
    assert total(report) == pytest.approx(6.0)


def test_a_price_holds_for_its_time(database):
    costs(database).charge(NOON)
    dearer = costs(database, prices=Prices(cpu_hour=2.0, memory_gb_hour=0, gpu_hour=0))
    dearer.charge(NOON + HOUR)
    report = dearer.report(["hour"], since=NOON - HOUR, until=NOON + HOUR, now=NOON + HOUR)
    assert [row.total for row in report.rows] == [pytest.approx(3.0), pytest.approx(6.0)]


def test_an_hour_of_which_nothing_is_known_is_not_asked_for_again(database):
    costs(database, Nothing()).charge(NOON)
    assert costs(database).charge(NOON) == 0
    report = costs(database).report(["endpoint"], since=NOON - HOUR, until=NOON, now=NOON)
    assert total(report) == 0


def test_two_that_charge_at_once_charge_once(place):
    databases = [place.database() for _ in range(2)]
    own = [costs(database) for database in databases]
    own[0].charge(NOON)
    threads = [threading.Thread(target=one.charge, args=(NOON + 3 * HOUR,)) for one in own]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until = NOON + 3 * HOUR
    report = own[0].report(["tenant"], since=NOON - HOUR, until=until, now=until)
    assert {row.group: row.requests for row in report.rows} == {("x",): 28, ("y",): 4}
    for database in databases:
        database.close()


def test_one_endpoint_shows_nothing_of_the_others(database):
    own = costs(database)
    own.charge(NOON)
    report = own.report(["tenant"], since=NOON - HOUR, until=NOON + HOUR, now=NOON, endpoint="a")
    assert {row.group for row in report.rows} == {("x",), ("y",)}
    assert total(report) == pytest.approx(1.5)


def test_advice_comes_with_the_saving_in_the_servers_prices(database):
    found = costs(database, prices=Prices()).advice(since=NOON, until=NOON + HOUR)
    (advice,) = found.advice
    assert (advice.kind, advice.currency) == ("replicas", "USD")
    assert advice.saving == pytest.approx(3 * 50 * 0.0045 * 730)


def test_repeats_are_counted_where_a_cache_could_pay_and_what_is_not_known_is_said(database):
    log = Repeated()
    found = costs(database, Busy(), repeats=log).advice(since=NOON, until=NOON + HOUR)
    (advice,) = found.advice
    assert (advice.kind, advice.endpoint) == ("cache", "a")
    assert advice.saving == pytest.approx(0.5 * 730)
    assert [one.endpoint for one in found.unknown] == ["b"]
    assert log.asked == ["a", "b"]


def test_no_log_is_asked_where_no_cache_could_pay(database):
    log = Repeated()
    costs(database, repeats=log).advice(since=NOON, until=NOON + HOUR)
    assert log.asked == []


def test_hours_that_a_clock_ahead_of_time_charged_are_charged_again(database):
    own = costs(database)
    own.charge(NOON)
    costs(database, Nothing()).charge(NOON + 5 * HOUR)
    own.charge(NOON + timedelta(minutes=1))  # the clock is right again
    own.charge(NOON + HOUR)
    report = own.report(["hour"], since=NOON - HOUR, until=NOON + HOUR, now=NOON + HOUR)
    assert [row.total for row in report.rows] == [pytest.approx(3.0), pytest.approx(3.0)]


def test_a_clock_that_is_years_behind_for_a_moment_costs_no_history(database):
    own = costs(database)
    own.charge(NOON - timedelta(days=60))
    for days in (30, 0):
        own.charge(NOON - timedelta(days=days))
    before = own.report(["hour"], since=NOON - timedelta(days=61), until=NOON, now=NOON)
    assert own.charge(NOON - timedelta(days=2000)) == 0
    assert own.charge(NOON) == 0
    assert own.report(["hour"], since=NOON - timedelta(days=61), until=NOON, now=NOON) == before


@pytest.mark.parametrize(
    ("declared", "compared"),
    [
        ({"capture": Capture()}, Compared(columns=("age", "city"))),
        ({"capture": Capture(), "cache": Cache()}, None),
        ({}, None),
    ],
)
def test_requests_are_compared_where_they_are_kept_and_no_cache_is(
    database, registry, tmp_path, declared, compared
):
    write_bundle(tmp_path / "bundle")
    registry.register("m", tmp_path / "bundle", actor="ada", now=NOON)
    spec = EndpointSpec(name="a", model="m:1", environment="dev", **declared)
    state = EndpointState(spec=spec, generation=1, phase=Phase.LIVE, active=VersionRef("m", 1))
    with database.transaction() as tx:
        tx.endpoints.put(state, expected_generation=None)
        tx.metrics.add("dev", {("a", "m:1"): {"samples": 1800.0}}, at=NOON)
    use = HistoryUse(database, environment="dev", clock=lambda: NOON + HOUR)
    (found,) = use.observed(NOON - HOUR, NOON + HOUR)
    assert found.compared == compared


class Surging(Steady):
    """What `a` takes is tenfold in one hour; `c` is asked in that hour alone."""

    def __init__(self, hour):
        self.hour = hour

    def used(self, since, until):
        use = super().used(since, until)
        if since != self.hour:
            return use
        a, b = use.usages
        a = msgspec.structs.replace(a, own=Resources(cpu_s=36_000))
        c = Usage(endpoint="c", version="m:1", tenants={"x": 1}, own=Resources(cpu_s=36_000))
        return HourUse(usages=(a, b, c), shared=use.shared)


def said_of_hours(own, now):
    return {one.endpoint: one for one in own.signals(now) if one.rule == "cost"}


def test_of_few_days_of_history_nothing_is_said(database):
    own = costs(database, Surging(NOON))
    own.charge(NOON - timedelta(days=4))
    own.charge(NOON)
    own.charge(NOON + HOUR)
    assert said_of_hours(own, NOON + HOUR) == {}


def test_an_hour_that_is_odd_names_the_endpoint_and_what_is_usual(database):
    own = costs(database, Surging(NOON))
    own.charge(NOON - timedelta(days=6))
    own.charge(NOON)
    assert [one.is_firing for one in said_of_hours(own, NOON).values()] == [False, False]
    own.charge(NOON + HOUR)
    found = said_of_hours(own, NOON + HOUR)
    assert {name: one.is_firing for name, one in found.items()} == {"a": True, "b": False}
    assert found["a"].since == NOON
    assert found["a"].numbers["spent"] > 10
    assert found["a"].numbers["usual"] == pytest.approx(1.5)
    own.charge(NOON + 2 * HOUR)
    after = said_of_hours(own, NOON + 2 * HOUR)
    assert {name: one.is_firing for name, one in after.items()} == {"a": False, "b": False}


def test_hours_in_another_currency_are_not_compared(database):
    costs(database).charge(NOON - timedelta(days=6))
    costs(database).charge(NOON)
    euros = Prices(cpu_hour=1.0, memory_gb_hour=0.0, gpu_hour=0.0, currency="EUR")
    own = costs(database, Surging(NOON), prices=euros)
    own.charge(NOON + HOUR)
    assert said_of_hours(own, NOON + HOUR) == {}
