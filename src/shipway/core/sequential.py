"""Tests whose verdict holds however often one looks, and on whatever schedule one stops.

Each gives an e-value: a number that no lucky streak of a harmless candidate takes above `1 / alpha` more
often than in a share `alpha` of all releases, over all looks together (Ville's inequality; Howard,
Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences",
Annals of Statistics 2021). An ordinary test, looked at four times a second, would sooner or later cry wolf.
All are closed forms of counts, so nothing need be kept between two looks. Logarithms are natural.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, inf, lgamma, log, sqrt

RATIOS = tuple(1.1 * 1.5**power for power in range(14))
"""How many times the odds of a hit may have grown: bets are laid on each of these, 1.1 to 214."""

_LOG_RATIOS = tuple(log(ratio) for ratio in RATIOS)

PRIOR = 30.0
"""How firmly a mixture believes in the planned share, in observations; it learns from more."""

SCALE = 0.1
"""The size of a difference that intervals are sharpest for, in standard deviations of one outcome."""


def log_excess(hits: int, trials: int, share: float) -> float:
    """The log e-value against "each trial is a hit with a probability of `share` at most".

    A mixture of likelihood ratios (Robbins, "Statistical methods related to the law of the iterated
    logarithm", 1970), each for odds `r` times those of `share`: r^hits / (1 + share * (r - 1))^trials.
    For one hit in one trial and share 1/2, r = 1.1 and 1.65 alone would give the mean of 1.1/1.05 and
    1.65/1.325, that is 1.146.
    """
    logs = [
        hits * log_ratio - trials * log(1 + share * (ratio - 1))
        for ratio, log_ratio in zip(RATIOS, _LOG_RATIOS, strict=True)
    ]
    return log_mean(logs)


def log_mismatch(cells: Iterable[tuple[int, int]], share: float) -> float:
    """The log e-value against "in each cell, an observation is the candidate's with that probability".

    Cells are counts of (candidate, primary). Each cell's share has a Beta prior about `share`, worth `PRIOR` observations, of its own; the
    product of their Bayes factors is an e-value, as an observation touches one of them (Lindon and
    Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022, with two arms). It only
    asks who was given what, so a mix that changes with the time of day is no mismatch. For one cell
    of (1, 0) it is 0: the prior expects that share.
    """
    if not 0 < share < 1:
        return 0.0
    a, b = PRIOR * share, PRIOR * (1 - share)
    base, log_share, log_rest = _log_beta(a, b), log(share), log(1 - share)
    return sum(
        _log_beta(a + mine, b + other) - base - mine * log_share - other * log_rest
        for mine, other in cells
    )


def half_width(variance: float, scale: float, alpha: float) -> float:
    """Half of a confidence sequence's interval about a mean whose estimate has this variance.

    The normal mixture of Robbins, as mSPRT uses it (Johari, Pekelis and Walsh, "Always valid inference",
    2017): s² the variance, t the scale: sqrt(s²(s² + t²)/t² * (2 log(1/alpha) + log((s² + t²)/s²))).
    With s = t = 1 and alpha = 0.05: sqrt(2 * (5.991 + 0.693)) = 3.656. It needs means that are about
    normal, so it is asked after some samples only (Waudby-Smith et al., "Time-uniform central limit
    theory", 2024). 0 where nothing varies.
    """
    if variance <= 0 or scale <= 0:
        return 0.0
    both, square = variance + scale**2, scale**2
    return sqrt(variance * (both / square) * (2 * log(1 / alpha) + log(both / variance)))


def log_nonzero(difference: float, variance: float, scale: float) -> float:
    """The log e-value against "the mean is zero", by the same mixture as `half_width`.

    It reaches log(1/alpha) where `difference` reaches `half_width`: with s = t = 1 and a difference of
    3.656 it is 2.996 = log(20).
    """
    if variance <= 0 or scale <= 0:
        return inf if difference else 0.0
    both, square = variance + scale**2, scale**2
    return 0.5 * log(variance / both) + square / both * (difference**2 / (2 * variance))


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def log_mean(logs: list[float]) -> float:
    """The log of the mean of e-values, which is an e-value; of [0, log 3] it is log 2."""
    most = max(logs)
    return most + log(sum(exp(one - most) for one in logs) / len(logs))
