"""Whether segments are treated alike: rates of each, their ratios, and what chance explains of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from math import erfc, sqrt

import msgspec

from shipway.core import intervals
from shipway.core.intervals import Estimate

FOUR_FIFTHS = 0.8
"""A rate below four fifths of the best one is evidence of adverse impact (29 CFR 1607.4 D)."""


class Measure(StrEnum):
    """A rate that is compared between segments."""

    SELECTION_RATE = "selection_rate"
    """Of all predictions, those of the positive class. Needs no truth."""

    TRUE_POSITIVE_RATE = "true_positive_rate"
    """Of the truly positive, those predicted so."""

    FALSE_POSITIVE_RATE = "false_positive_rate"
    """Of the truly negative, those predicted positive: the lowest is the best."""

    ACCURACY = "accuracy"


class SegmentCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What was predicted in a segment: `selected` of `n` are positive; the others count labelled ones."""

    segment: str
    n: int
    selected: int
    true_positives: int = 0
    false_positives: int = 0
    true_negatives: int = 0
    false_negatives: int = 0


class SegmentRate(msgspec.Struct, frozen=True, kw_only=True):
    """One rate of a segment, of `n`.

    `ratio` is to the best segment's, 1 for the best itself; `p_value` of a difference from all other
    segments together, corrected for all comparisons (Holm). Both are None where too few are to compare.
    `is_unfair`: the ratio is too low, and chance does not explain it.
    """

    segment: str
    measure: Measure
    n: int
    rate: Estimate
    ratio: float | None = None
    p_value: float | None = None
    is_unfair: bool = False


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """When a segment is treated unfairly. Fewer than `min_samples` are not judged."""

    least_ratio: float = FOUR_FIFTHS
    alpha: float = 0.05
    min_samples: int = 100


class _Tally(msgspec.Struct, frozen=True):
    segment: str
    measure: Measure
    hits: int
    n: int

    @property
    def rate(self) -> float:
        return self.hits / self.n


_PARTS: dict[Measure, Callable[[SegmentCounts], tuple[int, int]]] = {
    Measure.SELECTION_RATE: lambda c: (c.selected, c.n),
    Measure.TRUE_POSITIVE_RATE: lambda c: (
        c.true_positives,
        c.true_positives + c.false_negatives,
    ),
    Measure.FALSE_POSITIVE_RATE: lambda c: (
        c.false_positives,
        c.false_positives + c.true_negatives,
    ),
    Measure.ACCURACY: lambda c: (
        c.true_positives + c.true_negatives,
        c.true_positives + c.true_negatives + c.false_positives + c.false_negatives,
    ),
}


def fairness(
    counts: Sequence[SegmentCounts], rules: Rules | None = None
) -> tuple[SegmentRate, ...]:
    """Every rate of every segment that has any, by measure; those of too few are shown, not judged."""
    rules = rules or Rules()
    tallies = [
        _Tally(one.segment, measure, hits, n)
        for measure, part in _PARTS.items()
        for one in counts
        for hits, n in [part(one)]
        if n
    ]
    judged = [tally for tally in tallies if tally.n >= rules.min_samples]
    tested = [tally for tally in judged if len(_others(tally, judged)) > 0]
    p_values = holm([_p_value(tally, _others(tally, judged)) for tally in tested])
    known = dict(zip(map(id, tested), p_values, strict=True))
    return tuple(_rate(tally, judged, known.get(id(tally)), rules) for tally in tallies)


def _others(tally: _Tally, judged: Sequence[_Tally]) -> list[_Tally]:
    return [one for one in judged if one.measure is tally.measure and one is not tally]


def _rate(
    tally: _Tally, judged: Sequence[_Tally], p_value: float | None, rules: Rules
) -> SegmentRate:
    ratio = None if p_value is None else _ratio(tally, _others(tally, judged))
    is_low = ratio is not None and ratio < rules.least_ratio
    return SegmentRate(
        segment=tally.segment,
        measure=tally.measure,
        n=tally.n,
        rate=intervals.share(tally.hits, tally.n),
        ratio=ratio,
        p_value=p_value,
        is_unfair=is_low and p_value is not None and p_value <= rules.alpha,
    )


def _ratio(tally: _Tally, others: Sequence[_Tally]) -> float | None:
    """To the best segment's rate; None where all rates are 0."""
    rates = [one.rate for one in others] + [tally.rate]
    if tally.measure is Measure.FALSE_POSITIVE_RATE:
        return min(rates) / tally.rate if tally.rate else 1.0
    return tally.rate / max(rates) if max(rates) else None


def _p_value(tally: _Tally, others: Sequence[_Tally]) -> float:
    """Of the two-proportion z-test, pooled, two-sided: the segment against all others."""
    hits, n = sum(one.hits for one in others), sum(one.n for one in others)
    pooled = (tally.hits + hits) / (tally.n + n)
    spread = pooled * (1 - pooled) * (1 / tally.n + 1 / n)
    if spread <= 0:
        return 1.0
    return erfc(abs(tally.rate - hits / n) / sqrt(2 * spread))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number (Holm, Scandinavian Journal of Statistics 6, 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - rank)))
        corrected[place] = largest
    return corrected
