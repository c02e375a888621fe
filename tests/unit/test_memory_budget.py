"""Who stays in memory: never above the budget, never at the cost of a busy model, never for ever."""

from __future__ import annotations

from collections import deque

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.memory import (
    BASE_MB,
    TURN_S,
    Candidate,
    Resident,
    Room,
    choose,
    estimated_mb,
)
from shipway.core.versions import VersionRef

NOW = 1000.0


def key(name):
    return (name, VersionRef(name, 1))


def resident(name, size_mb=40.0, **changes):
    defaults = {"used_s": NOW - 10, "since_s": NOW - 100}
    return Resident(key=key(name), size_mb=size_mb, **{**defaults, **changes})


def wants(name, size_mb=40.0, **changes):
    return Candidate(key=key(name), size_mb=size_mb, **{"since_s": NOW, **changes})


def chosen(residents, candidates, budget_mb=100.0, ending_mb=0.0, now_s=NOW):
    room = Room(budget_mb=budget_mb, ending_mb=ending_mb)
    return choose(residents, candidates, room=room, now_s=now_s)


def keys(*names):
    return {key(name) for name in names}


def test_what_fits_starts_at_once():
    choice = chosen([resident("a")], [wants("b")])
    assert (choice.started, choice.evicted) == (keys("b"), set())


def test_the_least_recently_used_makes_room_and_the_start_waits_until_it_is_gone():
    a, b = resident("a", used_s=NOW - 5), resident("b", used_s=NOW - 9)
    choice = chosen([a, b], [wants("c")])
    assert (choice.evicted, choice.started, choice.waiting) == (keys("b"), set(), {key("c"): ""})
    choice = chosen([a], [wants("c")], ending_mb=40)
    assert (choice.evicted, choice.started) == (set(), set())
    assert chosen([a], [wants("c")]).started == keys("c")


def test_only_as_many_go_as_are_needed_and_those_chosen_before_first():
    some = [resident(n, 30, used_s=NOW - i) for i, n in enumerate("abc")]
    assert chosen(some, [wants("d", 35)]).evicted == keys("c")
    some[0] = msgspec.structs.replace(some[0], is_leaving=True)
    assert chosen(some, [wants("d", 35)]).evicted == keys("a")


def test_busy_and_pinned_models_stay_and_the_waiting_one_is_told_why():
    busy = [resident("a", is_busy=True), resident("b", stays=True)]
    choice = chosen(busy, [wants("c")])
    assert (choice.evicted, choice.started) == (set(), set())
    assert choice.waiting[key("c")] == (
        "c:1 waits for memory: models with requests inside fill the budget of 100 MB."
    )
    choice = chosen([resident("b", 80, stays=True)], [wants("c")])
    assert "models that stay fill the budget" in choice.waiting[key("c")]


def test_nobody_goes_in_vain():
    choice = chosen([resident("a", 30), resident("b", 60, is_busy=True)], [wants("c", 50)])
    assert choice.evicted == set()


def test_what_no_budget_can_hold_is_refused():
    choice = chosen([resident("a")], [wants("huge", 120)])
    assert choice.refused == {
        key("huge"): "The memory budget of 100 MB cannot hold huge:1, which needs about 120 MB."
    }
    assert choice.evicted == set()


def test_a_preloaded_model_takes_free_room_only():
    assert chosen([resident("a")], [wants("p", may_evict=False)]).started == keys("p")
    choice = chosen([resident("a", 80)], [wants("p", may_evict=False)])
    assert (choice.evicted, choice.started) == (set(), set())


def test_a_small_latecomer_does_not_take_the_room_that_was_made_for_another():
    some = [resident("a", 60)]
    first, late = wants("big", 90, since_s=NOW - 1), wants("small", 35)
    choice = chosen(some, [late, first])
    assert choice.evicted == keys("a")
    assert choice.started == set()
    assert chosen([], [late, first]).started == keys("big")


def test_models_that_grew_over_the_budget_are_brought_back_within():
    grown = [resident("a", 70, used_s=NOW - 1), resident("b", 60)]
    assert chosen(grown, []).evicted == keys("b")
    assert chosen([resident("a", 70, is_busy=True), resident("b", 60, stays=True)], []).evicted == (
        set()
    )


def test_a_busy_model_gives_way_once_it_had_its_turn_and_another_waited_for_its_own():
    hot = resident("a", 80, is_busy=True, since_s=NOW - TURN_S)
    assert chosen([hot], [wants("b", since_s=NOW - TURN_S)]).evicted == keys("a")
    assert chosen([hot], [wants("b", since_s=NOW - TURN_S + 0.1)]).evicted == set()
    fresh = msgspec.structs.replace(hot, since_s=NOW - TURN_S + 0.1)
    assert chosen([fresh], [wants("b", since_s=NOW - TURN_S)]).evicted == set()


def test_a_size_is_what_was_measured_or_guessed_by_the_files():
    assert estimated_mb(2**20 * 10, peak_mb=None) == BASE_MB + 20
    assert round(estimated_mb(2**20 * 10, peak_mb=100.0)) == 110


def test_two_hot_models_that_do_not_fit_together_take_turns():
    world = Machine(budget_mb=100, sizes={"a": 80, "b": 80})
    served = {"a": 0, "b": 0}
    for _ in range(400):
        world.asked = {"a", "b"}
        world.step(0.25)
        for name in world.ready():
            served[name] += 1
    assert min(served.values()) > 100


class Machine:
    """Models that start in half a second, end in a quarter, and hold what they are said to need."""

    def __init__(self, budget_mb, sizes):
        self.budget_mb = budget_mb
        self.sizes = sizes
        self.now_s = 0.0
        self.asked = set()
        self.used_s = dict.fromkeys(sizes, 0.0)
        self.began_s = {}
        self.ending = deque()
        self.waits_s = {}
        self.evicted = frozenset()

    def ready(self):
        leaving = {k[0] for k in self.evicted}
        return {n for n, t in self.began_s.items() if self.now_s - t >= 0.5} - leaving

    def used_mb(self):
        names = [*self.began_s, *(name for name, _ in self.ending)]
        return sum(self.sizes[name] for name in names)

    def step(self, seconds):
        self.now_s += seconds
        while self.ending and self.ending[0][1] <= self.now_s:
            self.ending.popleft()
        for name in self.asked & self.ready():
            self.used_s[name] = self.now_s
        choice = choose(
            [self._resident(name) for name in sorted(self.began_s)],
            [self._candidate(name) for name in sorted(self.asked - self.began_s.keys())],
            room=Room(
                budget_mb=self.budget_mb, ending_mb=sum(self.sizes[n] for n, _ in self.ending)
            ),
            now_s=self.now_s,
        )
        for name, _ in choice.started:
            self.began_s[name] = self.now_s
            self.waits_s.pop(name, None)
        for name, _ in choice.evicted & self.evicted:
            del self.began_s[name]
            self.ending.append((name, self.now_s + 0.25))
        self.evicted = frozenset(k for k in choice.evicted if k[0] in self.began_s)

    def _resident(self, name):
        since_s = self.began_s[name] + 0.5
        return Resident(
            key=key(name),
            size_mb=self.sizes[name],
            used_s=max(self.used_s[name], since_s),
            since_s=since_s,
            is_busy=name in self.asked,
            is_leaving=key(name) in self.evicted,
            stays=self.now_s < since_s,
        )

    def _candidate(self, name):
        since_s = self.waits_s.setdefault(name, self.now_s)
        return Candidate(key=key(name), size_mb=self.sizes[name], since_s=since_s)


names_st = st.sampled_from("abcdefgh")


@given(
    st.lists(st.integers(10, 60), min_size=8, max_size=8),
    st.lists(st.sets(names_st, max_size=4), max_size=60),
)
def test_the_budget_holds_at_every_moment_and_everybody_is_served(sizes, asks):
    world = Machine(budget_mb=100, sizes=dict(zip("abcdefgh", sizes, strict=True)))
    for asked in asks:
        world.asked = asked
        world.step(0.25)
        assert world.used_mb() <= 100
    world.asked = set("abcdefgh")
    for _ in range(8 * 80):
        world.step(0.25)
        assert world.used_mb() <= 100
        world.asked -= world.ready()
    assert world.asked == set()


@given(st.lists(st.sets(names_st, min_size=1, max_size=3), min_size=1, max_size=80))
def test_a_busy_model_that_had_no_turn_is_never_chosen(asks):
    world = Machine(budget_mb=100, sizes=dict.fromkeys("abcdefgh", 30))
    for asked in asks:
        world.asked = asked
        ready_s = {n: t + 0.5 for n, t in world.began_s.items()}
        world.step(0.25)
        for name, _ in world.evicted:
            assert name not in asked or world.now_s - ready_s[name] >= TURN_S
