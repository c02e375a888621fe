"""What is learnt from calls, and how long company is worth waiting for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.pace import Pace

TICK_S = 0.001


def after(calls, cost):
    pace = Pace()
    for rows in calls:
        pace.ran(rows, cost(rows))
    return pace


@given(st.floats(0, 0.1), st.floats(1e-5, 0.1))
def test_both_parts_of_a_steady_cost_are_found(fixed_s, row_s):
    pace = after([1, 4, 2, 8] * 10, lambda rows: fixed_s + rows * row_s)
    assert pace.is_known
    assert pace.fixed_s == pytest.approx(fixed_s, abs=1e-6)
    assert pace.row_s == pytest.approx(row_s, abs=1e-6)
    assert pace.expected_s(16) == pytest.approx(fixed_s + 16 * row_s, abs=1e-5)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(0, 10)), min_size=1, max_size=80))
def test_no_part_of_a_cost_is_negative_whatever_was_measured(calls):
    pace = Pace()
    for rows, seconds in calls:
        pace.ran(rows, seconds)
        assert pace.fixed_s >= 0
        assert pace.row_s >= 0
        assert pace.expected_s(rows) >= 0


def test_calls_of_one_size_do_not_tell_the_parts_apart():
    pace = after([4] * 100, lambda _: 0.01)
    assert not pace.is_known
    assert pace.pays
    assert pace.expected_s(8) == pytest.approx(0.02)


def test_one_slow_call_does_not_overturn_what_is_known():
    pace = after([1, 4, 2, 8] * 10, lambda rows: 0.001 + rows * 0.0001)
    pace.ran(1, 5.0)
    assert pace.expected_s(1) < 0.002


def test_change_of_cost_is_learnt():
    pace = after([1, 4, 2, 8] * 20, lambda rows: 0.001 + rows * 0.0001)
    for rows in [1, 4, 2, 8] * 60:
        pace.ran(rows, 0.1 + rows * 0.01)
    assert pace.fixed_s == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(("waiting", "worth_s"), [(1, 0.0035), (2, 0.002)])
def test_worked_example_of_what_company_is_worth(waiting, worth_s):
    pace = after([1, 4, 2, 8] * 10, lambda rows: 0.008 + rows * 0.001)
    for number in range(100):
        pace.came(number * 0.0009, 1)
    last_at = 99 * 0.0009
    until = pace.worth_waiting_until(waiting, tick_s=TICK_S)
    assert until == pytest.approx(last_at + worth_s)
    assert pace.worth_waiting_until(4, tick_s=TICK_S) == 0.0


def test_nobody_is_waited_for_longer_than_callers_usually_take():
    pace = after([1, 4, 2, 8] * 10, lambda rows: 0.080 + rows * 0.001)
    for number in range(100):
        pace.came(number * 0.002, 1)
    assert pace.worth_waiting_until(1, tick_s=TICK_S) == pytest.approx(99 * 0.002 + 0.008)


def test_nothing_is_waited_for_before_anything_is_known():
    pace = Pace()
    pace.came(1.0, 1)
    pace.came(1.0001, 1)
    assert pace.worth_waiting_until(1, tick_s=TICK_S) == 0.0


def test_silence_makes_company_unlikely():
    pace = after([1, 4, 2, 8] * 10, lambda rows: 0.008 + rows * 0.001)
    for number in range(20):
        pace.came(number * 0.0001, 1)
    assert pace.worth_waiting_until(1, tick_s=TICK_S) > 0
    now = 1.0
    for _ in range(10):
        now += 0.02
        pace.came(now, 1)
    assert pace.worth_waiting_until(1, tick_s=TICK_S) == 0.0
