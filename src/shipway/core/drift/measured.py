"""The differences of one column: which statistic fits it, and what that statistic says."""

from __future__ import annotations

from math import hypot

import msgspec
import numpy as np

from shipway.core.drift.distances import (
    chi_square,
    jensen_shannon,
    jensen_shannon_noise,
    kolmogorov_smirnov,
    pooled,
    population_stability,
    shares,
    total_variation,
    wasserstein,
    wasserstein_noise,
)
from shipway.core.drift.significance import chi_square_p, kolmogorov_smirnov_p
from shipway.core.drift.summaries import Categories, ColumnSummary, Numbers
from shipway.core.tensors import Array

NORMAL_QUARTILES = 1.349
"""How far the quartiles of a normal distribution are apart, in standard deviations."""

FARTHEST_SPREADS = 10.0


class Cells(msgspec.Struct, frozen=True, kw_only=True):
    """Both samples of a column as counts of the same cells, and what independent rows they are worth."""

    baseline: Array
    current: Array
    independent: tuple[float, float]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a column. `noise` is the part of `effect` that chance alone makes."""

    statistic: str
    effect: float
    noise: float
    test: str
    p: float
    statistics: dict[str, float]

    def threshold(self, effect: float) -> float:
        """What the effect has to reach: a true effect and the noise add up as squares do."""
        return hypot(effect, self.noise)


def cells_of(
    baseline: ColumnSummary, current: ColumnSummary, *, independent: tuple[float, float]
) -> Cells:
    """The counts of both in the cells of the baseline.

    Raises:
        ValueError: the two were counted between different edges.
    """
    return Cells(
        baseline=aligned(baseline, baseline),
        current=aligned(baseline, current),
        independent=independent,
    )


def aligned(baseline: ColumnSummary, column: ColumnSummary) -> Array:
    """A column's counts in the baseline's cells.

    Raises:
        ValueError: it was counted between other edges.
    """
    if baseline.numbers and column.numbers:
        if baseline.numbers.edges != column.numbers.edges:
            raise ValueError("the two samples were counted between different edges")
        return np.array(column.numbers.counts, dtype=np.float64)
    names = tuple(baseline.categories.counts) if baseline.categories else ()
    return _by_name(names, column.categories or Categories(counts={}))


def measured(baseline: ColumnSummary, current: ColumnSummary, cells: Cells) -> Measured:
    """The differences of a column by the statistics that fit its kind.

    Numbers of many values are compared as numbers: the Wasserstein distance says how far they moved, and
    Kolmogorov-Smirnov whether chance does that; both see that 4 is nearer to 5 than to 50. Few values
    and categories have no such order, or too many ties for Kolmogorov-Smirnov: their shares are compared,
    by the Jensen-Shannon distance, which unlike PSI is bounded and stands an empty cell, and by chi-square.
    """
    ours, theirs = baseline.numbers, current.numbers
    if ours and theirs and not ours.is_few:
        return _of_numbers(ours, theirs, cells)
    return _of_shares(cells)


def extent(baseline: Numbers, current: Numbers, *, size: float) -> Array:
    """The edges of a column's cells, with the outermost values of both samples for the open ends.

    None is further than ten spreads outside of the inner bins: how far a few far values are away
    would drown all else.
    """
    edges = np.array(baseline.edges)
    low = min(edges[0], baseline.minimum, current.minimum)
    high = max(edges[-1], baseline.maximum, current.maximum)
    reach = FARTHEST_SPREADS * size
    wide = np.concatenate([[low], edges, [high]])
    found: Array = np.clip(wide, edges[1] - reach, edges[-2] + reach)
    return found


def spread(numbers: Numbers) -> float:
    """What a move is measured in: the standard deviation, or less where a few far values make that large.

    The distance of the quartiles over 1.349 is the standard deviation of a normal distribution; the smaller
    of both that is above 0 counts. 1 for a column of one value.
    """
    steps = np.cumsum(shares(np.array(numbers.counts[:-1], dtype=np.float64)))
    low, high = np.interp([0.25, 0.75], steps, numbers.edges)
    sizes = [each for each in (numbers.std, (high - low) / NORMAL_QUARTILES) if each > 0]
    return float(min(sizes, default=1.0))


def _of_numbers(baseline: Numbers, current: Numbers, cells: Cells) -> Measured:
    size = spread(baseline)
    edges = extent(baseline, current, size=size)
    one, other = cells.baseline, cells.current
    moved = _moved(edges, one, other, shift=current.mean - baseline.mean) / size
    gap = kolmogorov_smirnov(one, other)
    return Measured(
        statistic="wasserstein",
        effect=moved,
        noise=wasserstein_noise(edges, one + other, *cells.independent) / size,
        test="kolmogorov_smirnov",
        p=kolmogorov_smirnov_p(gap, *cells.independent),
        statistics={"wasserstein": moved, "kolmogorov_smirnov": gap} | _shares(one, other),
    )


def _moved(edges: Array, one: Array, other: Array, *, shift: float) -> float:
    """The Wasserstein distance, less what the counts alone get wrong.

    The means are known exactly, and differ by the signed area between the two distribution functions. That of the counts is
    off by as much as values in the outer, wide bins do not lie evenly; so is the distance. Where the two
    are far apart, the outermost values were cut off, and the counts are right.
    """
    found = wasserstein(edges, one, other)
    steps = np.concatenate([[0.0], np.cumsum(shares(one) - shares(other))])
    signed = float((np.diff(edges) * (steps[:-1] + steps[1:]) / 2).sum())
    wrong = abs(signed) - abs(shift)
    return found - wrong if abs(wrong) <= found / 2 else found


def _of_shares(cells: Cells) -> Measured:
    one, other = pooled(cells.baseline, cells.current)
    distance = jensen_shannon(one, other)
    (n, m), rows = cells.independent, (one.sum(), other.sum())
    statistic, degrees = chi_square(one * (n / rows[0]), other * (m / rows[1]))
    return Measured(
        statistic="jensen_shannon",
        effect=distance,
        noise=jensen_shannon_noise(int(((one + other) > 0).sum()), n, m),
        test="chi_square",
        p=chi_square_p(statistic, degrees),
        statistics=_shares(one, other) | {"chi_square": statistic},
    )


def _shares(one: Array, other: Array) -> dict[str, float]:
    return {
        "jensen_shannon": jensen_shannon(one, other),
        "psi": population_stability(one, other),
        "total_variation": total_variation(one, other),
    }


def _by_name(names: tuple[str, ...], held: Categories) -> Array:
    named = [held.counts.get(name, 0) for name in names]
    return np.array([*named, held.rows - sum(named)], dtype=np.float64)
