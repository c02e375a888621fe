"""Tests that may be looked at any time: their worked examples, and that peeking does not fool them."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.comparison import grouped, kolmogorov, less, total_variation
from shipway.core.sequential import (
    RATIOS,
    half_width,
    log_excess,
    log_mean,
    log_mismatch,
    log_nonzero,
)

counts = st.integers(0, 10_000)
shares = st.floats(0.001, 0.999)


def test_one_hit_is_worth_the_mean_of_all_bets() -> None:
    bets = [ratio / (1 + 0.5 * (ratio - 1)) for ratio in RATIOS]
    assert exp(log_excess(1, 1, 0.5)) == pytest.approx(sum(bets) / len(bets))
    assert bets[:2] == pytest.approx([1.1 / 1.05, 1.65 / 1.325])
    assert sum(bets[:2]) / 2 == pytest.approx(1.146, abs=0.001)


def test_worked_examples_of_mixtures() -> None:
    assert log_mismatch([(1, 0)], 0.2) == pytest.approx(0)
    assert half_width(1, 1, 0.05) == pytest.approx(3.656, abs=0.001)
    assert log_nonzero(half_width(1, 1, 0.05), 1, 1) == pytest.approx(log(20))
    assert log_mean([0, log(3)]) == pytest.approx(log(2))
    assert total_variation({"a": 7, "b": 3}, {"a": 5, "b": 5}) == pytest.approx(0.2)
    assert kolmogorov({1: 1, 2: 3}, {1: 3, 2: 1}) == pytest.approx(0.5)
    assert grouped({-1: 1, 0: 2, 3: 4, 4: 8}, 4) == {-1: 1, 0: 6, 1: 8}
    assert less({1: 5, 2: 1}, {1: 2, 2: 1, 9: 4}) == {1: 3}


@given(hits=counts, misses=counts, share=shares)
def test_next_bet_is_fair_whatever_was_seen(hits: int, misses: int, share: float) -> None:
    trials = hits + misses
    now = log_excess(hits, trials, share)
    hit, miss = log_excess(hits + 1, trials + 1, share), log_excess(hits, trials + 1, share)
    assert share * exp(hit - now) + (1 - share) * exp(miss - now) == pytest.approx(1)


@given(mine=counts, others=counts, share=shares)
def test_next_bet_on_a_cell_is_fair_whatever_was_seen(mine: int, others: int, share: float) -> None:
    now = log_mismatch([(mine, others)], share)
    hit = log_mismatch([(mine + 1, others)], share)
    miss = log_mismatch([(mine, others + 1)], share)
    assert share * exp(hit - now) + (1 - share) * exp(miss - now) == pytest.approx(1, abs=1e-4)


@given(hits=counts, misses=counts, share=shares)
def test_one_more_hit_never_weakens_the_evidence(hits: int, misses: int, share: float) -> None:
    trials = hits + misses + 1
    assert log_excess(hits + 1, trials, share) > log_excess(hits, trials, share)


def test_peeking_after_each_observation_keeps_its_promise() -> None:
    rng, runs, alpha, alarms = np.random.default_rng(7), 400, 0.05, 0
    for _ in range(runs):
        hits = np.cumsum(rng.random(600) < 0.3)
        alarms += any(
            log_excess(int(hit), at + 1, 0.3) >= log(1 / alpha) for at, hit in enumerate(hits)
        )
    assert alarms / runs <= alpha


def test_peeking_at_a_mean_keeps_its_promise() -> None:
    rng, runs, alpha, alarms = np.random.default_rng(8), 400, 0.05, 0
    for _ in range(runs):
        draws = rng.normal(size=2000)
        n = np.arange(1, 2001)
        means = np.cumsum(draws) / n
        alarms += any(
            abs(means[at]) > half_width(1 / n[at], 0.1, alpha) for at in range(20, 2000, 5)
        )
    assert alarms / runs <= alpha
