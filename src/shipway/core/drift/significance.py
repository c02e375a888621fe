"""How probable differences are when nothing changed: the one place of the core that imports SciPy.

It is imported with the first question: a replica imports all of the core, and has no SciPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from shipway.core.tensors import Array


def kolmogorov_smirnov_p(distance: float, one: float, other: float) -> float:
    """The chance of this distance or a larger one between two samples of the same distribution.

    Kolmogorov's limit at sqrt(n m / (n + m)) times the distance, which is on the safe side: its tail
    2 exp(-2 x^2) bounds the chance for samples of two sizes too (Wei and Dudley, "Two-sample
    Dvoretzky-Kiefer-Wolfowitz inequalities", 2012), where the common corrections for small samples give
    less than the exact chance. For 0.3 and 100 values each it is 0.000247; exact is 0.000225.
    """
    from scipy.special import kolmogorov

    return float(kolmogorov(sqrt(one * other / (one + other)) * distance))


def chi_square_p(statistic: float, degrees: int) -> float:
    """The chance of this statistic or a larger one; 1 without any degree of freedom.

    For 6.667 and one degree it is 0.0098.
    """
    from scipy.stats import chi2

    return float(chi2.sf(statistic, degrees)) if degrees else 1.0


def rise_p(now: tuple[int, int], before: tuple[int, int]) -> float:
    """The chance that the first of two shares, each (part, whole), exceeds the other this much or more by chance.

    Fisher's exact test, one-sided. For 9 of 10 after 1 of 10 it is 0.00055.
    """
    from scipy.stats import hypergeom

    (part, whole), (other_part, other_whole) = now, before
    return float(hypergeom.sf(part - 1, whole + other_whole, part + other_part, whole))


def normal_p(z: float) -> float:
    """The chance of a standard normal value above `z`: 0.025 for 1.96."""
    from scipy.stats import norm

    return float(norm.sf(z))


def student_p(value: float, degrees: float) -> float:
    """The chance of a value of Student's distribution this far from 0, either way: 0.05 for 2.571 and 5."""
    from scipy.stats import t

    return float(2 * t.sf(abs(value), degrees))


def typical_chi_square(degrees: Array) -> Array:
    """The median of chi-square's distributions, by Wilson and Hilferty, 1931: 0.471 for one degree.

    Exact is 0.455 there, and the error is less with more degrees.
    """
    return degrees * (1 - 2 / (9 * degrees)) ** 3


def holm(ps: Sequence[float], alpha: float) -> tuple[float, ...]:
    """What each p-value has to reach, so that the chance of any false alarm among all is `alpha` at most.

    Holm, "A simple sequentially rejective multiple test procedure", 1979: the smallest is held against
    alpha / n, the next against alpha / (n - 1), until one fails; all that are larger fail with it, and
    are given its bound. It assumes nothing of how the tests hang together. With alpha 0.05, of
    [0.03, 0.001] the bounds are [0.05, 0.025].
    """
    bounds = [0.0] * len(ps)
    left, bound = len(ps), 0.0
    failed = False
    for index in sorted(range(len(ps)), key=lambda at: ps[at]):
        if not failed:
            bound = alpha / left
            left -= 1
            failed = ps[index] > bound
        bounds[index] = bound
    return tuple(bounds)


def independent_rows(rows: float, effect: float) -> float:
    """How many independent rows so many are worth, given their design effect (Kish, 1965)."""
    return rows / max(1.0, effect)
