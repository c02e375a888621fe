"""How far two counted samples lie apart.

Every function takes counts of the same cells, as one-dimensional arrays, and sees nothing else of the
samples. A distance of an empty sample is 0.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from shipway.core.tensors import Array

LEAST_SHARE = 0.0001
"""What `population_stability` takes an empty cell's share for, so that its logarithm is finite."""

LEAST_EXPECTED = 5.0
"""The count that a cell must be expected to have for chi-square's distribution to hold (Cochran, 1954)."""


def shares(counts: Array) -> Array:
    """The share of each cell: of [1, 3] they are [0.25, 0.75]; all 0 of nothing."""
    total = counts.sum()
    return counts / total if total else np.zeros(len(counts))


def population_stability(one: Array, other: Array) -> float:
    """The population stability index, sum of (q - p) ln(q / p); 0 for the same shares, no upper bound.

    Siddiqi, "Credit Risk Scorecards", 2006, who calls 0.1 a small change and 0.25 a large one. It is the
    symmetric Kullback-Leibler divergence. Of [5, 5] and [8, 2]: 0.3 ln 1.6 - 0.3 ln 0.4 = 0.416.
    """
    if not one.sum() or not other.sum():
        return 0.0
    p, q = (np.maximum(shares(each), LEAST_SHARE) for each in (one, other))
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(one: Array, other: Array) -> float:
    """The Jensen-Shannon distance, with logarithms of base 2: 0 for the same shares, 1 for none in common.

    The root of the divergence (Lin, "Divergence measures based on the Shannon entropy", 1991), which is a
    metric (Endres and Schindelin, 2003). Of [5, 5] and [10, 0]: the mean of 0.2075 and 0.4150 is 0.3113,
    its root 0.5579.
    """
    if not one.sum() or not other.sum():
        return 0.0
    p, q = shares(one), shares(other)
    middle = (p + q) / 2
    return sqrt(min(1.0, max(0.0, (_bits(p, middle) + _bits(q, middle)) / 2)))


def jensen_shannon_noise(cells: int, one: float, other: float) -> float:
    """The Jensen-Shannon distance that chance alone makes of samples of these sizes.

    For close shares the divergence is an eighth of chi-square's sum, whose mean is (cells - 1)(1/n + 1/m);
    in bits that is divided by ln 2. Of 2 cells and 100 rows each: sqrt(0.02 / 8 / 0.693) = 0.060.
    """
    return sqrt((cells - 1) * (1 / one + 1 / other) / (8 * np.log(2)))


def total_variation(one: Array, other: Array) -> float:
    """The largest difference of the shares of any set of cells, 0 to 1: of [7, 3] and [5, 5] it is 0.2."""
    if not one.sum() or not other.sum():
        return 0.0
    return float(np.abs(shares(one) - shares(other)).sum() / 2)


def kolmogorov_smirnov(one: Array, other: Array) -> float:
    """The largest difference of the shares up to any edge of ordered cells, 0 to 1.

    It is never more than that of the values themselves, wherever the edges are, so a p-value of it is
    never too small. Of [1, 3] and [3, 1] it is 0.5.
    """
    if not one.sum() or not other.sum():
        return 0.0
    return min(1.0, float(np.abs(np.cumsum(shares(one)) - np.cumsum(shares(other))).max()))


def wasserstein(edges: Array, one: Array, other: Array) -> float:
    """The mean way that values must move for one sample to become the other, in their unit.

    The area between the two distribution functions (Vallender, "Calculation of the Wasserstein distance",
    1974). The cells are those between `edges`, one fewer than edges; inside of one, values are
    taken to lie evenly. With edges [0, 1, 2], of [4, 0] and [0, 4] it is 1.
    """
    if not one.sum() or not other.sum():
        return 0.0
    gap = np.concatenate([[0.0], np.cumsum(shares(one) - shares(other))])
    left, right, width = gap[:-1], gap[1:], np.diff(edges)
    whole = np.abs(left) + np.abs(right)
    # Where the two functions cross, the area is that of two triangles.
    crossed = np.divide(left**2 + right**2, whole, out=np.zeros_like(whole), where=whole > 0)
    return float((width * np.where(left * right < 0, crossed, whole) / 2).sum())


def wasserstein_noise(edges: Array, pooled: Array, one: float, other: float) -> float:
    """The Wasserstein distance that chance alone makes of samples of these sizes.

    The distribution functions' difference is about normal at each value, with the variance
    F (1 - F)(1/n + 1/m), so its mean size is sqrt(2 / pi) of the root, and the distance is the area. Of
    one cell from 0 to 1 and 100 rows each: sqrt(2 / pi) * (pi / 8) * 0.1414 = 0.0443.
    """
    steps = np.concatenate([[0.0], np.cumsum(shares(pooled))])
    area = float((np.diff(edges) * _mean_root(steps[:-1], steps[1:])).sum())
    return sqrt(2 / np.pi * (1 / one + 1 / other)) * area


def pooled(one: Array, other: Array) -> tuple[Array, Array]:
    """The same samples with their rare cells added to the last one, which holds all that have no name.

    Rare are those that either sample is expected to have fewer than five of, were both alike. Of
    [50, 1, 0] and [50, 1, 1] the second goes to the third: [50, 1] and [50, 2].
    """
    both = one + other
    smaller = min(one.sum(), other.sum()) / max(both.sum(), 1)
    is_rare = both * smaller < LEAST_EXPECTED
    is_rare[-1] = True
    first, second = (np.append(each[~is_rare], each[is_rare].sum()) for each in (one, other))
    return first, second


def chi_square(one: Array, other: Array) -> tuple[float, int]:
    """Pearson's statistic of "both samples have the same shares", and its degrees of freedom.

    Pearson, 1900, for a table of two rows. Cells that are empty in both count for nothing. Of [10, 20]
    and [20, 10]: each cell is expected to have 15, so 4 * 25 / 15 = 6.667 with one degree.
    """
    both = one + other
    held = both > 0
    total = both.sum()
    if not one.sum() or not other.sum() or held.sum() < 2:
        return 0.0, 0
    sum_ = 0.0
    for each in (one, other):
        expected = both[held] * (each.sum() / total)
        sum_ += float(((each[held] - expected) ** 2 / expected).sum())
    return sum_, int(held.sum()) - 1


def _bits(p: Array, middle: Array) -> float:
    held = p > 0
    return float((p[held] * np.log2(p[held] / middle[held])).sum())


def _mean_root(low: Array, high: Array) -> Array:
    """The mean of sqrt(F (1 - F)) where F grows evenly from `low` to `high`."""

    def area(share: Array) -> Array:
        # The integral: with F = (1 - cos t) / 2 it is (t - sin t cos t) / 8.
        angle = np.arccos(1 - 2 * np.clip(share, 0, 1))
        found: Array = (angle - np.sin(angle) * np.cos(angle)) / 8
        return found

    width = high - low
    middle = np.clip((low + high) / 2, 0, 1)
    flat = np.sqrt(middle * (1 - middle))
    mean: Array = np.divide(area(high) - area(low), width, out=flat, where=width > 1e-6)
    return mean
