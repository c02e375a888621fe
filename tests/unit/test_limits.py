"""Laws of admission and of second tries, in virtual time."""

import heapq
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.limits import (
    LEAST,
    MOST_RETRIES,
    RETRIES_PER_S,
    RETRY_SHARE,
    UNBOUNDED,
    Admission,
    RetryBudget,
)


def queueing(admission, *, rate_per_s, service_s, servers=1, seconds=20.0, max_queue=10**9):
    """Requests at an even rate into a first-come-first-served queue; gives what became of each."""
    free_at = [0.0] * servers
    leaving: list[tuple[float, int]] = []
    number, waits, shed = count(), [], 0
    at = 0.0
    while at < seconds:
        while leaving and leaving[0][0] <= at:
            done_at, _ = heapq.heappop(leaving)
            admission.note_answered()
            admission.leave(done_at)
        if admission.in_flight >= min(max_queue, admission.bound):
            shed += 1
        else:
            admission.enter(at)
            end = max(at, heapq.heappop(free_at)) + service_s
            heapq.heappush(free_at, end)
            heapq.heappush(leaving, (end, next(number)))
            waits.append((at, end - at))
        at += 1 / rate_per_s
    return waits, shed


@pytest.mark.parametrize("servers", [1, 2, 4])
@pytest.mark.parametrize("deadline_s", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("factor", [1.2, 2.0, 10.0])
def test_overload_leaves_the_accepted_within_their_deadline_and_the_model_busy(
    servers, deadline_s, factor
):
    capacity = servers / 0.005
    waits, shed = queueing(
        Admission(deadline_s), rate_per_s=factor * capacity, service_s=0.005, servers=servers,
        max_queue=256,
    )  # fmt: skip
    late = [wait for at, wait in waits if wait > deadline_s and at > 2.0]
    assert late == []
    assert len(waits) > 0.97 * capacity * 20
    assert shed > 0


@pytest.mark.parametrize("load", [0.01, 0.3, 0.7, 0.95])
def test_nothing_is_shed_below_capacity(load):
    _, shed = queueing(Admission(0.5), rate_per_s=load * 200, service_s=0.005)
    assert shed == 0


def test_few_callers_do_not_teach_a_low_bound():
    admission = Admission(0.5)
    queueing(admission, rate_per_s=2, service_s=0.005, seconds=30)
    assert admission.bound == UNBOUNDED


def test_burst_after_a_quiet_time_is_not_shed_while_replicas_are_idle():
    admission = Admission(0.5)
    queueing(admission, rate_per_s=20, service_s=0.04, servers=8, seconds=20)
    _, shed = queueing(admission, rate_per_s=180, service_s=0.04, servers=8, seconds=5)
    assert shed == 0


def test_bound_learnt_under_pressure_grows_when_the_model_is_quicker():
    admission = Admission(0.5)
    queueing(admission, rate_per_s=40, service_s=0.05, seconds=10)
    slow = admission.bound
    for _ in range(20):
        queueing(admission, rate_per_s=200, service_s=0.004, seconds=2)
        admission.in_flight = 0
    assert slow <= 7
    assert admission.bound > 45


def test_bound_grows_with_replicas_and_shrinks_with_a_slower_model():
    admission = Admission(0.5)
    queueing(admission, rate_per_s=400, service_s=0.005, seconds=10)
    one = admission.bound
    for done in range(10, 2000):
        admission.enter(done / 10)
        admission.note_answered()
        admission.leave(done / 10 + 0.1)
    slow = admission.bound
    assert one == pytest.approx(60, abs=2)
    assert slow == LEAST


def test_nothing_is_bounded_before_anything_was_answered():
    admission = Admission(0.1)
    for _ in range(100):
        admission.enter(0.0)
    admission.leave(50.0)
    assert admission.bound == UNBOUNDED
    assert admission.bound_for(0.001) == UNBOUNDED


def test_requests_held_while_a_replica_starts_hardly_lower_the_bound():
    admission = Admission(0.5)
    queueing(admission, rate_per_s=400, service_s=0.005, seconds=10)
    admission.in_flight = 0
    before = admission.bound
    for at in range(100, 105):
        admission.enter(at)
    for at in range(105, 110):
        admission.leave(at)
    assert admission.bound >= 0.6 * before


def test_requests_held_for_the_first_start_teach_nothing():
    admission = Admission(10.0)
    for _ in range(100):
        admission.enter(0.0)
    for done in range(16):
        admission.note_answered()
        admission.leave(5 + done / 200)
    assert admission.bound == UNBOUNDED


def test_slow_model_is_learnt_too():
    admission = Admission(20.0)
    queueing(admission, rate_per_s=1, service_s=5.0, seconds=200)
    assert admission.bound == LEAST


def test_rate_never_becomes_nothing():
    admission = Admission(0.5)
    queueing(admission, rate_per_s=400, service_s=0.005, seconds=5)
    admission.in_flight = 0
    for at in range(10_000):
        admission.enter(3.0 * at)
        admission.note_expired()
        admission.leave(3.0 * at + 2.5)
    assert admission.retry_after_s(10) == 60


def test_model_that_answers_nobody_in_time_lets_few_in():
    admission = Admission(0.5)
    queueing(admission, rate_per_s=400, service_s=0.005, seconds=10)
    admission.in_flight = 0
    for at in range(100, 200):
        admission.enter(at)
        admission.note_expired()
        admission.leave(at + 0.5)
    assert admission.bound == LEAST


def test_shorter_deadline_of_a_caller_allows_fewer_before_it():
    admission = Admission(1.0)
    queueing(admission, rate_per_s=400, service_s=0.005, seconds=10)
    assert admission.bound_for(0.1) < admission.bound_for(1.0) == admission.bound
    admission.expect(2.0)
    assert admission.bound == admission.bound_for(2.0)


@pytest.mark.parametrize(("held", "wait_s"), [(1, 1), (190, 1), (500, 3), (10**6, 60)])
def test_retry_after_is_the_time_for_what_is_inside(held, wait_s):
    admission = Admission(1.0)
    assert admission.retry_after_s(held) == 1
    queueing(admission, rate_per_s=400, service_s=0.005, seconds=10)
    admission.in_flight = 0
    assert admission.retry_after_s(held) == wait_s


@given(st.lists(st.tuples(st.floats(0, 0.5), st.booleans()), max_size=400))
def test_second_tries_never_exceed_their_share_the_floor_and_what_was_saved(steps):
    budget, now, requests, tries = RetryBudget(0.0), 0.0, 0, 0
    for passed_s, wants in steps:
        now += passed_s
        requests += 1
        budget.note_request()
        tries += wants and budget.take(now)
    assert tries <= MOST_RETRIES / 2 + RETRY_SHARE * requests + RETRIES_PER_S * now


def test_dying_fleet_is_asked_a_fifth_more_often_and_not_twice():
    budget = RetryBudget(0.0)
    tries = 0
    for step in range(60_000):
        budget.note_request()
        tries += budget.take(step / 1000)
    assert tries < 0.22 * 60_000


def test_lost_replica_is_made_up_for_at_once():
    budget = RetryBudget(0.0)
    for _ in range(1000):
        budget.note_request()
    assert sum(budget.take(1.0) for _ in range(1000)) == MOST_RETRIES


def test_clock_that_stands_still_or_goes_back_gives_nothing():
    budget = RetryBudget(100.0)
    while budget.take(100.0):
        pass
    assert not budget.take(50.0)
