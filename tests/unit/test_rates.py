"""Laws of rates, quotas and budgets, in virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.rates import (
    DAY_S,
    CallerLimits,
    Kind,
    RateLimit,
    Use,
    Whose,
    decide,
    rate_limited,
)

MIDNIGHT = 20_000.0 * DAY_S
NOON = MIDNIGHT + DAY_S / 2
rates = st.builds(
    RateLimit,
    per_s=st.floats(0.01, 1000),
    burst=st.none() | st.integers(1, 50),
)
# None of these is one of a clock that goes back.
pauses = st.lists(st.floats(0, 3), min_size=1, max_size=80)


class Caller:
    """Somebody with limits, and the uses that are kept for them."""

    def __init__(self, *limits):
        self.limits = limits
        self.uses = [Use() for _ in limits]

    def ask(self, now=0.0, *, wall_s=NOON, cost=1):
        asked = list(zip(self.limits, self.uses, strict=True))
        decision = decide(asked, cost=cost, now=now, wall_s=wall_s)
        self.uses = list(decision.uses)
        return decision

    def is_let_in(self, now=0.0, **more):
        return self.ask(now, **more).refusal is None


def limited(**limits):
    return Caller(CallerLimits(**limits))


@given(rates, pauses)
def test_no_window_has_more_than_the_burst_and_what_the_rate_gives(rate, pauses):
    caller, now, admitted = limited(rate=rate), 0.0, []
    for pause in pauses:
        now += pause
        if caller.is_let_in(now):
            admitted.append(now)
    for first, begin in enumerate(admitted):
        for last in range(first, len(admitted)):
            bound = rate.capacity + rate.per_s * (admitted[last] - begin)
            assert last - first + 1 <= bound + 1e-3


@given(rates, pauses)
def test_who_comes_again_when_told_is_let_in_and_not_before(rate, pauses):
    caller, now = limited(rate=rate), 0.0
    for pause in pauses:
        now += pause
        decision = caller.ask(now)
        if decision.refusal is not None:
            wait_s = decision.refusal.wait_s
            assert not caller.is_let_in(now + 0.9 * wait_s - 1e-3 / rate.per_s)
            now += wait_s
            assert caller.is_let_in(now)


@given(rates, st.integers(1, 200))
def test_exactly_the_burst_is_let_in_at_once(rate, asked):
    caller = limited(rate=rate)
    assert sum(caller.is_let_in(5.0) for _ in range(asked)) == min(asked, rate.capacity)


@given(rates, pauses)
def test_equal_callers_are_treated_equally(rate, pauses):
    one, other, now = limited(rate=rate), limited(rate=rate), 7.0
    for pause in pauses:
        now += pause
        assert one.ask(now) == other.ask(now)


@given(rates, st.floats(0, 1e7), st.floats(0, 1e7))
def test_clock_that_goes_back_neither_grants_nor_locks_out(rate, before, after):
    before, after = max(before, after), min(before, after)
    caller = limited(rate=rate)
    while caller.is_let_in(before):
        pass
    assert not caller.is_let_in(after)
    assert caller.is_let_in(after + 1 / rate.per_s)


def test_whoever_keeps_the_rate_exactly_is_never_refused():
    caller = limited(rate=RateLimit(per_s=10, burst=1))
    assert all(caller.is_let_in(place * 0.1) for place in range(10_000))


def test_worked_example_of_the_module():
    caller = limited(rate=RateLimit(per_s=10, burst=20))
    assert all(caller.is_let_in(3.0) for _ in range(20))
    assert caller.ask(3.0).refusal.wait_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("limits", "cost", "admitted", "kind"),
    [
        ({"daily_requests": 3}, 5, 3, Kind.REQUESTS),
        ({"daily_budget": 10}, 3, 3, Kind.BUDGET),
        ({"daily_budget": 0}, 1, 0, Kind.BUDGET),
        ({"daily_requests": 0}, 0, 0, Kind.REQUESTS),
        ({"rate": RateLimit(per_s=2.5)}, 1, 3, Kind.RATE),
        ({"max_concurrency": 2}, 1, 2, Kind.CONCURRENCY),
    ],
)
def test_each_limit_lets_in_so_many_and_says_its_name(limits, cost, admitted, kind):
    caller = limited(**limits)
    decisions = [caller.ask(cost=cost) for _ in range(admitted + 1)]
    assert [d.refusal is None for d in decisions] == [True] * admitted + [False]
    assert decisions[-1].refusal.kind is kind


def test_what_costs_nothing_goes_on_when_the_budget_is_used_up():
    caller = limited(daily_budget=1)
    assert caller.is_let_in()
    assert not caller.is_let_in()
    assert caller.is_let_in(cost=0)


def test_day_begins_at_midnight_utc_and_the_wait_ends_there():
    caller = limited(daily_requests=1)
    late = MIDNIGHT - 10
    assert caller.is_let_in(wall_s=late)
    assert caller.ask(wall_s=late).refusal.wait_s == pytest.approx(10)
    assert caller.is_let_in(wall_s=MIDNIGHT)
    assert not caller.is_let_in(wall_s=MIDNIGHT + DAY_S - 1)


def test_clock_that_goes_back_over_midnight_grants_no_second_day():
    caller = limited(daily_requests=1)
    assert caller.is_let_in(wall_s=MIDNIGHT + 1)
    assert not caller.is_let_in(wall_s=MIDNIGHT - 1)
    assert not caller.is_let_in(wall_s=MIDNIGHT + 1)


def test_clock_that_was_wrong_by_a_year_locks_nobody_out_for_a_year():
    caller = limited(daily_requests=2)
    assert caller.is_let_in(wall_s=NOON + 365 * DAY_S)
    assert caller.is_let_in(wall_s=NOON)
    assert not caller.is_let_in(wall_s=NOON)
    assert caller.is_let_in(wall_s=NOON + DAY_S)


def test_request_is_charged_to_all_limits_or_to_none():
    key, project = CallerLimits(daily_requests=5), CallerLimits(daily_requests=1)
    caller = Caller(key, project)
    assert caller.is_let_in()
    refused = caller.ask()
    assert refused.refused == 1
    assert [use.requests for use in caller.uses] == [1, 1]


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_refusals_the_one_that_takes_longest_is_told(order):
    quick, slow = CallerLimits(rate=RateLimit(per_s=1)), CallerLimits(daily_requests=1)
    caller = Caller(*(quick, slow)[::order])
    caller.ask()
    assert caller.ask().refusal.kind is Kind.REQUESTS


def test_standing_is_that_of_the_limit_nearest_to_its_end():
    caller = Caller(CallerLimits(rate=RateLimit(per_s=2, burst=4)), CallerLimits(daily_requests=3))
    assert caller.ask().standing == (3, 2, DAY_S / 2)
    wide = Caller(CallerLimits(rate=RateLimit(per_s=2, burst=4), daily_requests=100))
    assert wide.ask().standing == (4, 3, 0.5)
    assert limited(max_concurrency=1).ask().standing is None


@given(rates, st.integers(0, 20), st.integers(0, 60), st.integers(0, 7), pauses)
def test_remaining_requests_are_let_in_at_once_and_no_more(rate, requests, budget, cost, pauses):
    caller = limited(rate=rate, daily_requests=requests, daily_budget=budget)
    now = 0.0
    for pause in pauses[:5]:
        now += pause
        standing = caller.ask(now, cost=cost).standing
    assert [caller.is_let_in(now, cost=cost) for _ in range(standing.remaining + 1)] == [
        *[True] * standing.remaining,
        False,
    ]


def test_error_names_the_limit_its_owner_and_the_time():
    limits = CallerLimits(rate=RateLimit(per_s=0.5, burst=1))
    caller = Caller(limits)
    caller.ask()
    error = rate_limited(Whose.PROJECT, "fraud", limits, caller.ask().refusal)
    assert str(error) == (
        "Project `fraud` is over its rate of 0.5 requests per second (burst 1)."
        " Retry after the stated time, or raise its `rate`."
    )
    assert error.details == {
        "limit": "rate", "whose": "project", "name": "fraud", "retry_after_s": 2.0,
    }  # fmt: skip
