"""Costs on SQLite and PostgreSQL: each hour is charged once, at the prices of its time, and nothing is lost."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from shipway.control.costs import Costs, HourUse
from shipway.core.costs import Prices, Resources, Usage
from shipway.core.thrift import Observed

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


class Unknown(Steady):
    def used(self, since, until):
        return None


@pytest.fixture
def database(place):
    database = place.database()
    yield database
    database.close()


def costs(database, source=None, prices=PRICES):
    return Costs(database, source or Steady(), environment="dev", prices=prices)


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


def test_a_price_holds_for_its_time(database):
    costs(database).charge(NOON)
    dearer = costs(database, prices=Prices(cpu_hour=2.0, memory_gb_hour=0, gpu_hour=0))
    dearer.charge(NOON + HOUR)
    report = dearer.report(["hour"], since=NOON - HOUR, until=NOON + HOUR, now=NOON + HOUR)
    assert [row.total for row in report.rows] == [pytest.approx(3.0), pytest.approx(6.0)]


def test_an_hour_of_which_nothing_is_known_is_not_asked_for_again(database):
    costs(database, Unknown()).charge(NOON)
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
    (advice,) = costs(database, prices=Prices()).advice(since=NOON, until=NOON + HOUR)
    assert (advice.kind, advice.currency) == ("replicas", "USD")
    assert advice.saving == pytest.approx(3 * 50 * 0.0045 * 730)


def test_hours_that_a_clock_ahead_of_time_charged_are_charged_again(database):
    own = costs(database)
    own.charge(NOON)
    costs(database, Unknown()).charge(NOON + 5 * HOUR)
    own.charge(NOON + timedelta(minutes=1))  # the clock is right again
    own.charge(NOON + HOUR)
    report = own.report(["hour"], since=NOON - HOUR, until=NOON + HOUR, now=NOON + HOUR)
    assert [row.total for row in report.rows] == [pytest.approx(3.0), pytest.approx(3.0)]
