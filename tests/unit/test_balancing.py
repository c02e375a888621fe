"""Laws of the choice between replicas, and of who is left out of it."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shipway.core.balancing import (
    FORGIVEN_S,
    NEXT,
    OUT_MAX_S,
    OUT_MIN_S,
    Phase,
    Standing,
    Tally,
    Verdict,
    judged,
    most_out,
    others_work,
    two_of,
    verdict,
)


def tally(answered=0, failed=0, seconds=0.01, *, lost=False):
    made = Tally()
    for _ in range(answered):
        made.note_answer(seconds)
    for _ in range(failed):
        made.note_failure()
    made.lost = lost
    return made


tallies = st.builds(
    tally,
    answered=st.integers(0, 60),
    failed=st.integers(0, 60),
    seconds=st.sampled_from([0.001, 0.01, 0.1, 1.0]),
    lost=st.booleans(),
)
standings = st.builds(
    Standing,
    phase=st.sampled_from(Phase),
    until=st.floats(0, 100),
    strikes=st.integers(0, 40),
)
fleets = st.lists(st.tuples(standings, tallies), min_size=0, max_size=9).map(
    lambda items: (
        {str(n): standing for n, (standing, _) in enumerate(items)},
        {str(n): its for n, (_, its) in enumerate(items)},
    )
)


def out(fleet):
    return {name for name, standing in fleet.items() if standing.phase is Phase.OUT}


@given(st.integers(2, 50), st.floats(0, 1, exclude_max=True))
def test_two_different_replicas_are_drawn(count, dice):
    first, second = two_of(count, dice)
    assert first != second
    assert {first, second} <= set(range(count))


def test_each_pair_is_drawn_as_often_as_any_other():
    seen = Counter(two_of(4, step / 1200) for step in range(1200))
    assert len(seen) == 12
    assert set(seen.values()) == {100}


def test_slow_replica_gets_less_of_the_work():
    dice, work, served = random.Random(7), [0, 0, 0], [0, 0, 0]
    for step in range(3000):
        first, second = two_of(3, dice.random())
        chosen = first if work[first] <= work[second] else second
        work[chosen] += 1
        served[chosen] += 1
        for replica, every in enumerate((2, 2, 8)):
            if step % every == 0 and work[replica]:
                work[replica] -= 1
    assert served[2] < served[0] / 2
    assert served[2] < served[1] / 2


def test_only_what_a_replica_tells_beyond_ours_is_other_gateways_work():
    assert others_work(10, 4) == 6
    assert others_work(3, 4) == 0


def test_table_is_complete_and_out_ends_by_time_alone():
    assert set(NEXT) == {(phase, said) for phase in Phase for said in Verdict}
    assert {NEXT[Phase.OUT, said] for said in Verdict} == {Phase.OUT}


def test_worked_example_of_the_two_proportion_test():
    assert verdict(Phase.IN, tally(1, 9), tally(99, 1)) is Verdict.WORSE
    assert verdict(Phase.IN, tally(8, 2), tally(90, 10)) is Verdict.WELL


@given(fleets, st.floats(0, 200))
def test_never_more_than_half_are_out_and_never_the_only_one(fleet, now):
    assert len(out(judged(*fleet, now))) <= most_out(len(fleet[0]))
    assert most_out(1) == 0


@given(st.integers(2, 9), st.integers(0, 50), st.integers(1, 100), st.floats(0, 200))
def test_model_that_fails_everywhere_ejects_nobody(count, answered, failed, now):
    names = [str(n) for n in range(count)]
    fleet = dict.fromkeys(names, Standing())
    same = {name: tally(answered, failed) for name in names}
    assert out(judged(fleet, same, now)) == set()


def test_model_that_fails_now_and_then_everywhere_ejects_almost_nobody():
    dice, ejections = random.Random(3), 0
    for _ in range(500):
        seen = {}
        for name in "abc":
            failed = sum(dice.random() < 0.3 for _ in range(25))
            seen[name] = tally(25 - failed, failed)
        ejections += len(out(judged(dict.fromkeys("abc", Standing()), seen, 0)))
    assert ejections <= 5


@given(st.floats(0, 1000), st.integers(0, 30))
def test_ejections_grow_up_to_a_bound(now, strikes):
    seen = {"a": tally(0, 20), "b": tally(20)}
    after = judged({"a": Standing(strikes=strikes), "b": Standing()}, seen, now)["a"]
    assert after.phase is Phase.OUT
    assert after.strikes == strikes + 1
    assert abs(after.until - now - min(OUT_MAX_S, OUT_MIN_S * 2**strikes)) < 1e-6


@given(fleets)
def test_nobody_stays_out_for_ever(fleet):
    after, seen = fleet
    for name in out(judged(after, seen, 1e6)):
        assert after[name].phase is not Phase.OUT


def test_life_of_a_replica_that_failed_and_recovered():
    fleet = {"a": Standing(), "b": Standing(), "c": Standing()}
    good = {"b": tally(50), "c": tally(50)}
    fleet = judged(fleet, {"a": tally(2, 30), **good}, 10)
    assert fleet["a"] == Standing(phase=Phase.OUT, until=11, strikes=1)
    fleet = judged(fleet, {"a": tally(), **good}, 10.5)
    assert fleet["a"].phase is Phase.OUT
    fleet = judged(fleet, {"a": tally(), **good}, 11)
    assert fleet["a"].phase is Phase.TRIAL
    fleet = judged(fleet, {"a": tally(2), **good}, 12)
    assert fleet["a"].phase is Phase.TRIAL
    fleet = judged(fleet, {"a": tally(3), **good}, 13)
    assert fleet["a"] == Standing(phase=Phase.IN, until=13 + FORGIVEN_S, strikes=1)
    again = judged(fleet, {"a": tally(0, 30), **good}, 20)
    assert again["a"].until == 22
    fleet = judged(fleet, {"a": tally(30), **good}, 13 + FORGIVEN_S)
    assert fleet["a"] == Standing()


def test_trial_ends_with_the_first_failure_that_peers_do_not_have():
    fleet = {"a": Standing(phase=Phase.TRIAL, strikes=1), "b": Standing()}
    assert judged(fleet, {"a": tally(0, 1), "b": tally(50)}, 5)["a"].until == 7
    assert judged(fleet, {"a": tally(0, 3), "b": tally(1, 50)}, 5)["a"].phase is Phase.IN


def test_far_slower_replica_is_left_out_and_a_little_slower_one_is_not():
    fleet = {"a": Standing(), "b": Standing(), "c": Standing()}
    peers = {"b": tally(50, seconds=0.02), "c": tally(50, seconds=0.02)}
    assert out(judged(fleet, {"a": tally(20, seconds=0.5), **peers}, 0)) == {"a"}
    assert out(judged(fleet, {"a": tally(20, seconds=0.06), **peers}, 0)) == set()


def test_one_long_request_does_not_make_a_replica_slow():
    slow = tally(30, seconds=0.005)
    slow.note_answer(5.0)
    fleet = {"a": Standing(), "b": Standing()}
    assert out(judged(fleet, {"a": slow, "b": tally(30, seconds=0.005)}, 0)) == set()


def test_lost_replica_is_left_out_at_once_and_before_a_slow_one():
    fleet = {"a": Standing(), "b": Standing()}
    assert out(judged(fleet, {"a": tally(lost=True), "b": tally()}, 0)) == {"a"}
    fleet = {name: Standing() for name in "abcd"}
    seen = {
        "a": tally(lost=True), "b": tally(0, 40), "c": tally(lost=True), "d": tally(90),
    }  # fmt: skip
    assert out(judged(fleet, seen, 0)) == {"a", "c"}


@given(st.lists(st.sampled_from([0.001, 0.2]), min_size=1, max_size=30))
def test_faded_tally_keeps_its_shares_and_its_typical_latency(latencies):
    made = tally(failed=len(latencies))
    for seconds in latencies:
        made.note_answer(seconds)
    before = made.typical_s
    made.fade()
    assert made.answered == made.failed
    assert abs(made.typical_s - before) < 1e-9
    made.clear()
    assert (made.total, made.typical_s) == (0, 0)
