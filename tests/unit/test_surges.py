"""Which hours cost far more than usual."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.surges import compared_hours, surge_of

DAYS = [1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.0]
WEEKS = [1.0, 1.2, 0.9]


@pytest.mark.parametrize(
    ("spent", "days", "weeks", "is_odd"),
    [
        (10.0, DAYS, [], True),
        (10.0, DAYS, WEEKS, True),
        (1.2, DAYS, [], False),  # significant, and not large
        (1.8, DAYS, [], True),  # nine deviations, and large
        (4.5, [1.0, 1.0, 2.0, 2.0, 2.5], [], False),  # large, and three deviations
        (0.0, DAYS, [], False),  # less is no surge
        (1.0, [0.0] * 7, [], True),  # it slept at this time
        (0.009, [0.0] * 7, [], False),  # but nobody looks after a cent
        (10.0, DAYS, [9.0, 10.0, 11.0], False),  # it is so each Monday
        (10.0, [1.0, 20.0, 3.0, 14.0, 9.0], [], False),  # every day is another
    ],
)
def test_an_hour_is_odd_where_it_is_far_and_much_beside_all_that_is_known(
    spent, days, weeks, is_odd
):
    assert surge_of(spent, days, weeks).is_odd is is_odd


@pytest.mark.parametrize(("days", "weeks"), [(DAYS[:4], []), ([], WEEKS[:2]), ([], [])])
def test_of_a_short_history_nothing_is_said(days, weeks):
    assert surge_of(10.0, days, weeks) is None


def test_what_is_usual_is_that_of_weeks_once_it_is_known():
    assert surge_of(5.0, DAYS, []).usual == 1.0
    assert surge_of(5.0, DAYS, [4.0, 5.0, 6.0]).usual == 5.0


@given(st.lists(st.floats(0, 1e6), min_size=5, max_size=14), st.floats(0, 1e6))
def test_of_what_costs_more_an_odd_hour_stays_odd(days, spent):
    if surge_of(spent, days, []).is_odd:
        assert surge_of(spent * 2, days, []).is_odd


@given(st.lists(st.floats(0.1, 1e6), min_size=5, max_size=14))
def test_an_hour_like_one_before_is_seldom_odd(days):
    assert not surge_of(sorted(days)[len(days) // 2], days, []).is_odd


def test_hours_that_vary_by_a_fifth_raise_hardly_an_alarm_in_a_year():
    dice = Random(3)
    hours = [dice.lognormvariate(0, 0.2) for _ in range(365 * 24)]
    alarms = 0
    for at in range(14 * 24, len(hours)):
        days = [hours[at - 24 * n] for n in range(1, 15)]
        weeks = [hours[at - 168 * n] for n in range(1, 9) if at >= 168 * n]
        alarms += surge_of(hours[at], days, weeks).is_odd
    assert alarms <= 2


def test_an_hour_is_compared_with_itself_on_other_days():
    at = datetime(2026, 5, 6, 7, tzinfo=UTC)
    days, weeks = compared_hours(at)
    assert {one.hour for one in (*days, *weeks)} == {7}
    assert max(days) == at - timedelta(days=1)
    assert {one.weekday() for one in weeks} == {at.weekday()}
    assert at not in (*days, *weeks)
