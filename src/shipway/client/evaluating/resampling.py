"""Intervals and tests: the bootstrap of rows, and McNemar's test of two versions on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log

import numpy as np

from shipway.client.evaluating.tallies import Tally
from shipway.core.tensors import Array

SEED = 20_260_101
"""The same rows give the same intervals."""

MOST_DRAWS = 1000
FEWEST_DRAWS = 200
_ROWS_DRAWN = 100_000_000
SIGNIFICANCE = 0.05
"""Intervals are of 95 %, and chance finds a difference in one of twenty cases."""


def draws_for(rows: int) -> int:
    """How often to draw: 1,000 times up to 100,000 rows, then fewer, but never under 200."""
    return max(FEWEST_DRAWS, min(MOST_DRAWS, _ROWS_DRAWN // max(rows, 1)))


def drawn(
    tallies: Sequence[Tally],
    rows: int,
    *,
    draws: int,
    on_draw: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Array]]:
    """For each tally its metrics in `draws` samples of the rows, with replacement, as [draws].

    All tallies see the same samples, so that their differences are paired.
    """
    random = np.random.default_rng(SEED)
    found: list[list[dict[str, float]]] = [[] for _ in tallies]
    for done in range(draws):
        counts = np.bincount(random.integers(0, rows, rows), minlength=rows).astype(float)
        for values, tally in zip(found, tallies, strict=True):
            values.append(tally(counts))
        on_draw(done + 1)
    return [
        {name: np.array([one[name] for one in values]) for name in values[0]} for values in found
    ]


def interval(replicates: Array, value: float) -> tuple[float, float]:
    """The 95 % percentile interval of a metric (Efron), widened where it would miss the value itself.

    Draws in which the metric is not defined do not count. Sums of absolute values, such as the
    calibration error, come out larger in draws than in the rows themselves.
    """
    known = replicates[np.isfinite(replicates)]
    if not known.size:
        return value, value
    low, high = np.quantile(known, [SIGNIFICANCE / 2, 1 - SIGNIFICANCE / 2])
    return min(float(low), value), max(float(high), value)


def paired_p_value(differences: Array) -> float:
    """Two-sided: twice the smaller share of draws on either side of no difference, at most 1."""
    known = differences[np.isfinite(differences)]
    if not known.size or not known.any():
        return 1.0
    # One draw more on each side: a share of 0 of B draws is evidence of 1 in B + 1, not of 0.
    below = (np.count_nonzero(known <= 0) + 1) / (known.size + 1)
    above = (np.count_nonzero(known >= 0) + 1) / (known.size + 1)
    return float(min(1.0, 2 * min(below, above)))


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """McNemar's test with the mid-p value (Fagerland, Lydersen and Laake, 2013), two-sided.

    `only_first` rows were right in the first version alone, `only_second` in the second alone. Under no
    difference either is as likely, so the smaller is binomial with 1/2: twice its lower tail, of which
    the observed value counts half. Of 1 and 7 (their example): exact 0.070, mid-p 0.039.
    """
    total, fewer = only_first + only_second, min(only_first, only_second)
    if total == 0:
        return 1.0
    factorials = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, total + 1)))))
    upto = np.arange(fewer + 1)
    chances = np.exp(
        factorials[total] - factorials[upto] - factorials[total - upto] - total * log(2)
    )
    return float(min(1.0, 2 * chances.sum() - chances[-1]))
