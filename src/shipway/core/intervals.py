"""Intervals around what was measured: 95 % of them hold the true value."""

from __future__ import annotations

from math import sqrt

import msgspec

Z = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A measured value with its 95 % interval; `low` and `high` are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


def share(hits: int, n: int) -> Estimate:
    """The share of hits, with Wilson's score interval (Wilson, JASA 22, 1927); `n` is not 0.

    It holds for few samples and for shares near 0 and 1, where the textbook interval does not. 8 of 10
    are 0.8, within 0.4902 to 0.9433.
    """
    value, square = hits / n, Z * Z
    middle = (value + square / (2 * n)) / (1 + square / n)
    half = Z / (1 + square / n) * sqrt(value * (1 - value) / n + square / (4 * n * n))
    return Estimate(value=value, low=max(0.0, middle - half), high=min(1.0, middle + half))


def mean(value: float, variance: float | None, n: int) -> Estimate:
    """A mean of `n` with its interval by the central limit theorem; none below 2 values.

    `variance` is the sample's, None where there are too few. A mean of 10 with a variance of 4 over 100
    values lies within 9.608 to 10.392.
    """
    if variance is None or n < 2:
        return Estimate(value=value)
    half = Z * sqrt(max(0.0, variance) / n)
    return Estimate(value=value, low=value - half, high=value + half)


def variance(estimate: Estimate, n: int) -> float:
    """The sample's variance that `mean` made an interval of; 0 where there is none."""
    if estimate.low is None or estimate.high is None:
        return 0.0
    return float(n * ((estimate.high - estimate.low) / (2 * Z)) ** 2)


def root(square: Estimate) -> Estimate:
    """The root of a mean of squares: the interval's ends are the roots of the square's."""
    if square.low is None or square.high is None:
        return Estimate(value=sqrt(square.value))
    low = sqrt(max(0.0, square.low))
    return Estimate(value=sqrt(square.value), low=low, high=sqrt(square.high))


def area(value: float, positives: int, negatives: int) -> Estimate:
    """The area under the ROC curve with the interval of Hanley and McNeil (Radiology 143, 1982).

    0.8 of 50 positives and 50 negatives lies within 0.7128 to 0.8872.
    """
    both_higher = value / (2 - value)
    both_lower = 2 * value * value / (1 + value)
    spread = (
        value * (1 - value)
        + (positives - 1) * (both_higher - value * value)
        + (negatives - 1) * (both_lower - value * value)
    )
    half = Z * sqrt(max(0.0, spread) / (positives * negatives))
    return Estimate(value=value, low=max(0.0, value - half), high=min(1.0, value + half))
