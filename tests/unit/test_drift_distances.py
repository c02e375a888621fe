"""Distances and p-values: their worked examples, their bounds, and what SciPy says of the same samples."""

from math import pi, sqrt

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.spatial.distance import jensenshannon

from shipway.core.drift.distances import (
    chi_square,
    jensen_shannon,
    jensen_shannon_noise,
    kolmogorov_smirnov,
    pooled,
    population_stability,
    total_variation,
    wasserstein,
    wasserstein_noise,
)
from shipway.core.drift.onset import onset
from shipway.core.drift.significance import (
    chi_square_p,
    holm,
    independent_rows,
    kolmogorov_smirnov_p,
    normal_p,
    rise_p,
    student_p,
)

cells = hnp.arrays(np.int64, 6, elements=st.integers(0, 1000)).map(lambda a: a.astype(float))
DISTANCES = (population_stability, jensen_shannon, total_variation, kolmogorov_smirnov)


def of(*counts):
    return np.array(counts, dtype=float)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (population_stability(of(5, 5), of(8, 2)), 0.416),
        (jensen_shannon(of(5, 5), of(10, 0)), 0.5579),
        (jensen_shannon_noise(2, 100, 100), 0.060),
        (total_variation(of(7, 3), of(5, 5)), 0.2),
        (kolmogorov_smirnov(of(1, 3), of(3, 1)), 0.5),
        (wasserstein(of(0, 1, 2), of(4, 0), of(0, 4)), 1.0),
        (wasserstein_noise(of(0, 1), of(1), 100, 100), sqrt(2 / pi) * pi / 8 * sqrt(0.02)),
        (chi_square(of(10, 20), of(20, 10))[0], 6.667),
        (kolmogorov_smirnov_p(0.3, 100, 100), 0.000247),
        (chi_square_p(6.667, 1), 0.0098),
        (rise_p((9, 10), (1, 10)), 0.00055),
        (normal_p(1.96), 0.025),
        (student_p(2.571, 5), 0.05),
        (independent_rows(100, 4), 25),
    ],
)
def test_worked_examples_of_drift(found, expected):
    assert found == pytest.approx(expected, rel=0.01)


def test_worked_examples_of_drift_that_are_no_numbers():
    assert [each.tolist() for each in pooled(of(50, 1, 0), of(50, 1, 1))] == [[50, 1], [50, 2]]
    assert chi_square(of(10, 20), of(20, 10))[1] == 1
    assert holm([0.03, 0.001], 0.05) == (0.05, 0.025)
    assert onset([1, 1, 8, 9], [10, 10, 10, 10], 0.1) == 2
    # While nobody asked, nothing is known to have changed.
    assert onset([0, 0, 0, 9], [0, 0, 0, 10], 0.1) == 3


def test_holm_stops_at_the_first_that_fails():
    assert holm([0.012, 0.03, 0.04], 0.03) == pytest.approx((0.01, 0.01, 0.01))


@given(one=cells, other=cells)
def test_distances_are_symmetric_bounded_and_zero_between_equals(one, other):
    for distance in DISTANCES:
        assert distance(one, other) == pytest.approx(distance(other, one))
        assert distance(one, one * 3) == pytest.approx(0, abs=1e-7)
        assert distance(one, other) >= 0
    for distance in DISTANCES[1:]:
        assert distance(one, other) <= 1
    edges = np.arange(7.0)
    assert wasserstein(edges, one, other) == pytest.approx(wasserstein(edges, other, one))
    assert 0 <= wasserstein(edges, one, other) <= 6


@given(one=cells, other=cells)
def test_pooling_rare_cells_keeps_every_row_and_never_adds_distance(one, other):
    first, second = pooled(one, other)
    assert (first.sum(), second.sum()) == (one.sum(), other.sum())
    assert jensen_shannon(first, second) <= jensen_shannon(one, other) + 1e-9


@given(one=cells, other=cells)
def test_jensen_shannon_and_chi_square_are_scipys(one, other):
    assume(one.sum() and other.sum())
    assert jensen_shannon(one, other) == pytest.approx(jensenshannon(one, other, base=2), abs=1e-6)
    held = (one + other) > 0
    assume(held.sum() > 1)
    theirs = stats.chi2_contingency(np.array([one[held], other[held]]), correction=False)
    statistic, degrees = chi_square(one, other)
    assert (statistic, degrees) == (pytest.approx(theirs.statistic), theirs.dof)
    assert chi_square_p(statistic, degrees) == pytest.approx(theirs.pvalue, rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("rows", [200, 5000])
def test_binned_statistics_of_numbers_are_near_those_of_the_values(shift, rows):
    random = np.random.default_rng(5)
    one, other = random.normal(size=rows), random.normal(shift, size=rows)
    edges = np.quantile(one, np.linspace(0, 1, 21))
    edges[0], edges[-1] = min(one.min(), other.min()), max(one.max(), other.max())
    counts = [np.histogram(each, edges)[0].astype(float) for each in (one, other)]
    gap, theirs = kolmogorov_smirnov(*counts), stats.ks_2samp(one, other)
    # Never more than of the values, and at most what a twentieth of them hides less.
    assert theirs.statistic - 0.05 <= gap <= theirs.statistic + 1e-9
    exact = stats.wasserstein_distance(one, other)
    assert wasserstein(edges, *counts) == pytest.approx(exact, abs=0.03, rel=0.15)


@pytest.mark.parametrize(("n", "m"), [(100, 100), (100, 1000), (300, 300), (1000, 1000)])
@pytest.mark.parametrize("share", [0.02, 1e-3, 1e-6])
def test_chance_of_a_kolmogorov_distance_is_never_below_the_exact_one(n, m, share):
    distance = sqrt(-np.log(share / 2) / 2 * (n + m) / (n * m))
    ours = kolmogorov_smirnov_p(distance, n, m)
    below, above = (
        stats.ks_2samp(*_apart(n, m, at), method="exact").pvalue
        for at in (np.ceil(distance * n) / n, np.floor(distance * n) / n)
    )
    assert below <= ours * 1.0001
    assert ours <= 2 * above


def _apart(n, m, distance):
    """Samples of these sizes whose distance it is: so many values of one lie above all of the other."""
    moved = round(distance * n)
    one = np.concatenate([np.linspace(0, 1, n - moved, endpoint=False), np.full(moved, 2.0)])
    other = np.linspace(0, 1, m, endpoint=False)
    return one, other


@given(st.integers(1, 23), st.integers(20, 200))
def test_onset_is_found_where_the_share_jumps(at, trials):
    hits = [trials // 10] * at + [trials * 6 // 10] * (24 - at)
    assert onset(hits, [trials] * 24, 0.1) == at


def test_onset_of_what_was_always_so_is_the_first_bucket():
    assert onset([5] * 24, [10] * 24, 0.1) == 0
    assert onset([0] * 3, [0] * 3, 0.1) is None
