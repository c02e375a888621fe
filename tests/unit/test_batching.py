"""Laws of the pure batch decision, alone and in virtual time."""

from heapq import heappop, heappush
from math import inf
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.batching import (
    Bounds,
    Queue,
    Run,
    Wait,
    Waiting,
    follows_rows,
    next_step,
    stack_key,
    stacked,
)
from shipway.core.pace import Pace

KEY_A = (("x", "<f4", (2,)),)
KEY_B = (("x", "<f4", (3,)),)
keys = st.sampled_from([KEY_A, KEY_B, None])
TICK_S = 0.001


def learnt(fixed_s, row_s, *, gap_s=None):
    """A pace that has seen calls of this cost, and requests of one row at this gap."""
    pace = Pace()
    for number in range(40):
        rows = 1 + number % 8
        pace.ran(rows, fixed_s + rows * row_s)
        if gap_s is not None:
            pace.came(number * gap_s - 39 * gap_s, 1)
    return pace


queues = st.lists(st.tuples(st.integers(0, 9), keys), min_size=1, max_size=30).map(
    lambda items: [Waiting(n, rows if key else 1, key) for n, (rows, key) in enumerate(items)]
)


def drained(items, max_rows):
    """The batches that a queue gives a model that is free again at once."""
    queue, batches = Queue(Bounds(max_rows=max_rows)), []
    for item in items:
        queue.add(item)
    while (step := queue.decide(0.0)) is not None:
        batches.append(step.tickets)
    return batches


@given(queues, st.integers(9, 16))
def test_no_batch_exceeds_its_size(items, max_rows):
    for tickets in drained(items, max_rows):
        assert sum(items[ticket].rows for ticket in tickets) <= max_rows
        assert len(tickets) <= max_rows


@given(queues, st.integers(9, 16))
def test_every_request_is_run_exactly_once(items, max_rows):
    tickets = [ticket for batch in drained(items, max_rows) for ticket in batch]
    assert sorted(tickets) == list(range(len(items)))


@given(queues, st.integers(9, 16))
def test_only_requests_that_stack_share_a_batch(items, max_rows):
    for tickets in drained(items, max_rows):
        keys = {items[ticket].stack_key for ticket in tickets}
        assert len(keys) == 1
        assert keys != {None} or len(tickets) == 1


@given(queues, st.integers(9, 16))
def test_requests_that_stack_run_in_the_order_they_came(items, max_rows):
    ran = [ticket for batch in drained(items, max_rows) for ticket in batch]
    for key in (KEY_A, KEY_B, None):
        mine = [ticket for ticket in ran if items[ticket].stack_key == key]
        assert mine == sorted(mine)


@given(queues, st.integers(9, 16))
def test_oldest_request_of_all_is_in_the_next_batch(items, max_rows):
    came = [Waiting(i.ticket, i.rows, i.stack_key, float(i.ticket)) for i in items]
    assert drained(came, max_rows)[0][0] == 0


@given(queues, st.data(), st.integers(9, 16))
def test_cancelling_one_changes_nothing_for_the_others(items, data, max_rows):
    gone = data.draw(st.sampled_from(items)).ticket
    queue = Queue(Bounds(max_rows=max_rows))
    for item in items:
        queue.add(item)
    assert queue.remove(gone)
    assert not queue.remove(gone)
    batches = []
    while (step := queue.decide(0.0)) is not None:
        batches.append(step.tickets)
    assert batches == drained([item for item in items if item.ticket != gone], max_rows)


class Simulation:
    """A free or busy model over a queue, in virtual time; what the replica's worker does for real."""

    def __init__(self, bounds, cost):
        self.bounds, self.cost = bounds, cost
        self.queue, self.events, self.now = Queue(bounds), [], 0.0
        self.asked, self.ran, self.expired, self.batches = {}, {}, {}, []
        self.is_busy, self.free_since, self.order = False, 0.0, 0
        self.on_answer = lambda ticket: None

    def at(self, when, do, *arguments):
        self.order += 1
        heappush(self.events, (when, self.order, do, arguments))

    def ask(self, rows=1, key=KEY_A, timeout_s=inf):
        ticket = len(self.asked)
        waiting = Waiting(ticket, rows, key, self.now, self.now + timeout_s)
        self.asked[ticket] = waiting
        self.queue.add(waiting)
        if timeout_s < inf:
            self.at(waiting.expires_at, self.expire)
        return ticket

    def expire(self):
        for ticket in self.queue.expire(self.now):
            self.expired[ticket] = self.is_busy

    def finish(self, step, started):
        self.is_busy, self.free_since = False, self.now
        step.pace.ran(step.rows, self.now - started)
        for ticket in step.tickets:
            self.on_answer(ticket)

    def decide(self):
        if self.is_busy:
            return
        step = self.queue.decide(self.now)
        if isinstance(step, Wait):
            assert step.until > self.now
            self.at(step.until, lambda: None)
        elif isinstance(step, Run):
            for ticket in step.tickets:
                assert ticket not in self.ran
                self.ran[ticket] = self.now
            self.batches.append((self.now, self.free_since, step))
            self.is_busy = True
            self.at(self.now + self.cost(step.rows), self.finish, step, self.now)

    def run(self, until=inf):
        while self.events and self.events[0][0] <= until:
            self.now, _, do, arguments = heappop(self.events)
            do(*arguments)
            self.decide()


requests = st.lists(
    st.tuples(
        st.floats(0, 0.2),
        st.integers(0, 8),
        keys,
        st.sampled_from([inf, inf, 0.004, 0.03]),
        st.sampled_from([None, None, None, 0.002]),
    ),
    min_size=1,
    max_size=60,
)
costs = st.tuples(st.floats(0.0001, 0.02), st.floats(0.00001, 0.004))


@given(requests, costs, st.floats(0, 0.01), st.integers(8, 32))
def test_every_live_caller_gets_exactly_one_answer_within_all_bounds(
    arrivals, cost, delay_s, max_rows
):
    bounds = Bounds(max_rows=max_rows, max_delay_s=delay_s, tick_s=TICK_S)
    world = Simulation(bounds, lambda rows: cost[0] + rows * cost[1])
    cancelled = set()

    def cancel(ticket):
        if world.queue.remove(ticket):
            cancelled.add(ticket)

    def arrive(rows, key, timeout_s, leaves_after_s):
        ticket = world.ask(rows if key else 1, key, timeout_s)
        if leaves_after_s is not None:
            world.at(world.now + leaves_after_s, cancel, ticket)

    for when, *what in arrivals:
        world.at(when, arrive, *what)
    world.run()
    ends = [set(world.ran), set(world.expired), cancelled]
    assert set.union(*ends) == set(world.asked)
    assert sum(map(len, ends)) == len(world.asked)
    for started, free_since, step in world.batches:
        rows = [max(1, world.asked[ticket].rows) for ticket in step.tickets]
        assert sum(rows) <= max_rows
        oldest = min(world.asked[ticket].came_at for ticket in step.tickets)
        assert started - max(oldest, free_since) <= delay_s + 1e-9
    # Company is never waited for past a deadline: only a busy model can make one pass.
    assert all(world.expired.values())


@given(costs, st.floats(0, 0.01), st.lists(st.integers(1, 8), min_size=20, max_size=100))
def test_lone_caller_never_waits_for_company(cost, pause_s, sizes):
    world = Simulation(Bounds(max_rows=64, max_delay_s=1.0), lambda rows: cost[0] + rows * cost[1])
    left = iter(sizes)

    def ask():
        if (rows := next(left, None)) is not None:
            world.ask(rows)

    world.on_answer = lambda _: world.at(world.now + pause_s, ask)
    world.at(0.0, ask)
    world.run()
    assert len(world.ran) == len(sizes)
    assert all(world.ran[t] == world.asked[t].came_at for t in world.ran)


def mean_answer_s(arrivals, cost, *, delay_s):
    """How long callers wait for their answers on average."""
    world, waited = Simulation(Bounds(max_rows=64, max_delay_s=delay_s), cost), []
    world.on_answer = lambda ticket: waited.append(world.now - world.asked[ticket].came_at)
    for when in arrivals:
        world.at(when, world.ask)
    world.run()
    assert len(waited) == len(arrivals)
    return sum(waited) / len(waited)


@pytest.mark.parametrize(("callers", "most"), [(4, 0.8), (8, 0.9), (16, 0.95)])
def test_waiting_pays_where_the_fixed_part_is_large_and_callers_come_together(callers, most):
    random = Random(1)
    together = [
        burst * 0.08 + random.random() * 0.001 for burst in range(200) for _ in range(callers)
    ]
    eager = mean_answer_s(sorted(together), lambda rows: 0.008 + rows * 0.001, delay_s=0.0)
    patient = mean_answer_s(sorted(together), lambda rows: 0.008 + rows * 0.001, delay_s=0.005)
    assert patient < most * eager


@pytest.mark.parametrize("rate", [20, 100, 300, 600])
@pytest.mark.parametrize(("fixed_s", "row_s"), [(0.008, 0.001), (0.0004, 0.0001), (0.0005, 0.001)])
def test_waiting_costs_nothing_where_callers_come_at_random(rate, fixed_s, row_s):
    random, now, arrivals = Random(1), 0.0, []
    while now < 10:
        now += random.expovariate(rate)
        arrivals.append(now)
    eager = mean_answer_s(arrivals, lambda rows: fixed_s + rows * row_s, delay_s=0.0)
    patient = mean_answer_s(arrivals, lambda rows: fixed_s + rows * row_s, delay_s=0.005)
    assert patient < 1.02 * eager


def test_requests_are_not_stacked_once_it_is_known_to_save_nothing():
    line = [Waiting(n, 1, KEY_A) for n in range(8)]
    bounds = Bounds(max_rows=64, max_delay_s=0.005)
    assert next_step(line, learnt(0.0, 0.01), 0.0, bounds).tickets == (0,)
    assert len(next_step(line, learnt(0.01, 0.01), 0.0, bounds).tickets) == 8
    assert len(next_step(line, Pace(), 0.0, bounds).tickets) == 8


def test_full_batch_does_not_wait():
    bounds = Bounds(max_rows=2, max_delay_s=0.005)
    pace = learnt(0.008, 0.001, gap_s=0.0001)
    assert next_step([Waiting(0, 1, KEY_A)], pace, 0.0, bounds) == Wait(pytest.approx(0.001))
    assert next_step([Waiting(0, 2, KEY_A)], pace, 0.0, bounds).tickets == (0,)
    both = [Waiting(0, 1, KEY_A), Waiting(1, 2, KEY_A)]
    assert next_step(both, pace, 0.0, bounds).tickets == (0,)


def test_deadline_and_delay_end_the_wait():
    pace = learnt(0.008, 0.001, gap_s=0.0009)
    line = [Waiting(0, 1, KEY_A)]
    assert next_step(line, pace, 0.0, Bounds(max_rows=8, max_delay_s=1.0)) == Wait(
        pytest.approx(0.0035)
    )
    assert next_step(line, pace, 0.0, Bounds(max_rows=8, max_delay_s=0.002)) == Wait(0.002)
    assert isinstance(next_step(line, pace, 0.0, Bounds(max_rows=8)), Run)
    hurried = [Waiting(0, 1, KEY_A, expires_at=0.0095)]
    assert isinstance(next_step(hurried, pace, 0.0, Bounds(max_rows=8, max_delay_s=1.0)), Run)


def test_line_that_waits_keeps_no_other_from_running():
    queue = Queue(Bounds(max_rows=8, max_delay_s=1.0))
    for number in range(20):
        queue.add(Waiting(number, 1, KEY_A, number * 0.0009))
    pace = queue.decide(20 * 0.0009).pace
    for rows in [1, 4, 2, 8] * 5:
        pace.ran(rows, 0.008 + rows * 0.001)
    while isinstance(queue.decide(1.0), Run):
        pass
    now = 20 * 0.0009
    queue.add(Waiting(20, 1, KEY_A, now))
    assert isinstance(queue.decide(now), Wait)
    queue.add(Waiting(21, 1, KEY_B, now))
    assert queue.decide(now).tickets == (21,)
    assert isinstance(queue.decide(now), Wait)
    assert queue.decide(now + 0.005).tickets == (20,)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_stacked_inputs_keep_their_order(sizes):
    batch = [{"x": np.full((n, 2), float(i))} for i, n in enumerate(sizes)]
    together = stacked(batch)["x"]
    assert together[:, 0].tolist() == [float(i) for i, n in enumerate(sizes) for _ in range(n)]


def test_output_that_does_not_follow_the_rows_is_noticed():
    assert not follows_rows({"y": np.zeros(3)}, 2)
    assert not follows_rows({"y": np.float64(1)}, 1)
    assert follows_rows({"y": np.zeros((2, 5)), "z": np.zeros(2)}, 2)


def test_inputs_that_disagree_on_rows_are_not_stackable():
    assert stack_key({"a": np.zeros(2), "b": np.zeros(3)}) is None
    assert stack_key({"a": np.float32(1)}) is None
    assert stack_key({"a": np.zeros((2, 4))}) == (("a", "<f8", (4,)),)
