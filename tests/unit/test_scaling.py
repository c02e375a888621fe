"""The number of replicas follows the load: within bounds, monotone, and without flapping."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.endpoints import Scaling
from shipway.core.scaling import Sample, Window, begin_with, decide

TICK_S = 0.25


def scaling_of(**changes):
    return Scaling(**{"max_replicas": 64, "down_after_s": 20.0, "idle_s": 30.0, **changes})


class Endpoint:
    """An endpoint in virtual time: its load is what `run` says, its replicas what was decided."""

    def __init__(self, scaling, replicas=1):
        self.scaling = scaling
        self.now_s = 1000.0
        self.window = Window(since_s=self.now_s, asked_s=self.now_s)
        self.replicas = replicas
        self.counts = []

    def run(self, loads):
        for load in loads:
            self.now_s += TICK_S
            is_inside = load > 0
            self.window = self.window.noted(
                Sample(self.now_s, load),
                keep_s=self.scaling.down_after_s,
                asked_s=self.now_s if is_inside else 0.0,
                is_inside=is_inside,
            )
            self.replicas = decide(self.scaling, self.replicas, self.window, self.now_s)
            self.counts.append(self.replicas)
        return self

    def hold(self, load, seconds):
        return self.run([load] * int(seconds / TICK_S))


loads_st = st.lists(st.floats(0, 600), min_size=1, max_size=120)


@given(loads_st, st.integers(0, 5), st.integers(5, 12), st.integers(0, 12))
def test_the_number_stays_within_its_bounds(loads, lowest, highest, current):
    scaling = scaling_of(min_replicas=lowest, max_replicas=highest)
    endpoint = Endpoint(scaling, current).run(loads)
    assert all(lowest <= count <= highest for count in endpoint.counts)


@given(st.floats(0, 500), st.integers(0, 64))
def test_a_constant_load_settles_at_once_and_for_good(load, current):
    endpoint = Endpoint(scaling_of(min_replicas=1), max(1, current)).hold(load, 30)
    settled = endpoint.replicas
    assert settled * 8.0 * 1.1 >= min(load, 64 * 8.0)
    endpoint.counts.clear()
    assert set(endpoint.hold(load, 120).counts) == {settled}


@given(st.floats(1, 400), st.randoms(use_true_random=False))
def test_noise_within_the_band_changes_nothing(load, random):
    endpoint = Endpoint(scaling_of(min_replicas=1)).hold(load, 30)
    settled = -(-load // 8.0)
    endpoint.replicas = int(settled)
    endpoint.counts.clear()
    noise = [min(load * random.uniform(0.97, 1.03), settled * 8.0 * 1.09) for _ in range(400)]
    endpoint.run(noise)
    assert len(set(endpoint.counts)) <= 2
    assert endpoint.counts == sorted(endpoint.counts), "only up, for what the noise really needs"


@given(loads_st, st.data(), st.integers(1, 20))
def test_more_load_never_means_fewer_replicas(loads, data, current):
    more = [load + data.draw(st.floats(0, 50)) for load in loads]
    scaling = scaling_of(min_replicas=1)
    windows = [Endpoint(scaling).run(each).window for each in (loads, more)]
    now_s = 1000.0 + TICK_S * len(loads)
    low, high = (decide(scaling, current, window, now_s) for window in windows)
    assert low <= high


def test_a_burst_is_met_within_two_seconds_and_kept_for_down_after_s():
    endpoint = Endpoint(scaling_of(min_replicas=1)).hold(1.0, 30)
    assert endpoint.replicas == 1
    assert endpoint.hold(40.0, 2).replicas == 5
    assert endpoint.hold(1.0, 18).replicas == 5
    assert endpoint.hold(1.0, 4).replicas == 1


def test_the_worked_example_of_the_docstring():
    endpoint = Endpoint(scaling_of(min_replicas=1), 2).hold(20.0, 3)
    assert endpoint.replicas == 3
    assert endpoint.hold(26.3, 60).replicas == 3
    assert endpoint.hold(14.5, 60).replicas == 3
    assert endpoint.hold(14.4, 60).replicas == 2


def test_an_idle_endpoint_sleeps_after_idle_s_and_wakes_at_once():
    endpoint = Endpoint(scaling_of(min_replicas=0)).hold(2.0, 5)
    assert endpoint.hold(0.0, 29).replicas == 1
    assert endpoint.hold(0.0, 2).replicas == 0
    assert set(Endpoint(scaling_of(min_replicas=0), 0).hold(0.0, 100).counts) == {0}
    assert endpoint.run([1.0]).replicas == 1


def test_an_endpoint_with_a_request_inside_never_sleeps():
    endpoint = Endpoint(scaling_of(min_replicas=0)).hold(0.01, 300)
    assert 0 not in endpoint.counts


def test_new_watching_takes_nothing_away_before_it_has_seen_down_after_s():
    endpoint = Endpoint(scaling_of(min_replicas=1), 5).hold(0.5, 19)
    assert set(endpoint.counts) == {5}
    assert endpoint.hold(0.5, 2).replicas == 1


@given(loads_st, st.floats(0, 10_000))
def test_a_window_is_bounded_however_long_it_reaches_back(loads, down_after_s):
    endpoint = Endpoint(scaling_of(down_after_s=down_after_s))
    for _ in range(5):
        endpoint.run(loads)
    assert len(endpoint.window.recent) <= 1 / TICK_S + 2
    assert len(endpoint.window.peaks) <= 63
    assert msgspec.json.encode(endpoint.window)


def test_what_it_begins_with_is_within_the_bounds():
    assert begin_with(None, 3) == 3
    assert begin_with(scaling_of(min_replicas=0), 1) == 1
    assert begin_with(scaling_of(min_replicas=2), 1) == 2
    assert begin_with(scaling_of(max_replicas=2), 5) == 2
