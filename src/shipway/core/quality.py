"""Whether data is sound: what is missing, infinite, out of range, new or constant that was not before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from math import sqrt

import msgspec

from shipway.core.drift.repeats import design_effect
from shipway.core.drift.rules import DriftRules
from shipway.core.drift.significance import holm, rise_p
from shipway.core.drift.summaries import Categories, ColumnSummary, Summary

_SPREADS = 3
"""So many standard deviations of its count make a name clearly more frequent than another."""

LEAST_SHARE = 0.01
"""A fault in fewer of the values, over what is usual, is not worth a word."""


class Fault(StrEnum):
    """What can be wrong with the values of a column."""

    MISSING = "missing"
    INFINITE = "infinite"
    OUT_OF_RANGE = "out of range"
    NEW_CATEGORY = "new category"
    CONSTANT = "constant"
    """All values are the same one, and were not."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """That a fault of a column became more frequent. `current` are (faulty, all) values.

    `usual` is the share to be expected where nothing changed. `p` is of Fisher's test, `alpha` what it has to
    reach among all the claims that were tested.
    """

    column: str
    fault: Fault
    current: tuple[int, int]
    usual: float
    p: float
    alpha: float = 0.0
    least_share: float = LEAST_SHARE

    @property
    def rise(self) -> float:
        """By how much the share of faulty values rose."""
        return _share(self.current) - self.usual

    @property
    def holds(self) -> bool:
        """Whether it is large enough to matter, and too unlikely to be chance."""
        return self.rise >= self.least_share and self.p <= self.alpha


def claims(
    reference: Summary, current: Summary, *, rules: DriftRules, least_share: float = LEAST_SHARE
) -> tuple[Claim, ...]:
    """Every fault of every column that both samples have, with what its test says.

    Columns with fewer rows than the rules' minimum on either side are left out.
    """
    tested = [
        claim
        for name, theirs in current.columns.items()
        if (ours := reference.columns.get(name)) is not None
        and min(ours.rows, theirs.rows) >= rules.minimum_rows
        for claim in _tested(name, ours, theirs)
    ]
    alphas = holm([claim.p for claim in tested], rules.alpha)
    return tuple(
        msgspec.structs.replace(claim, alpha=alpha, least_share=least_share)
        for claim, alpha in zip(tested, alphas, strict=True)
    )


def _tested(name: str, ours: ColumnSummary, theirs: ColumnSummary) -> Iterator[Claim]:
    now_effect, effect = design_effect(theirs.parts), design_effect(ours.parts)
    for fault, now, before in _counted(ours, theirs):
        usual = _as_for_others(fault, ours, _fewer(before, effect), effect)
        p = rise_p(_fewer(now, now_effect), usual)
        yield Claim(column=name, fault=fault, current=now, usual=_share(usual), p=p)


def _counted(
    ours: ColumnSummary, theirs: ColumnSummary
) -> Iterator[tuple[Fault, tuple[int, int], tuple[int, int]]]:
    yield Fault.MISSING, (theirs.missing, theirs.rows), (ours.missing, ours.rows)
    if theirs.infinite or ours.infinite:
        yield Fault.INFINITE, (theirs.infinite, theirs.rows), (ours.infinite, ours.rows)
    if ours.numbers and theirs.numbers:
        yield Fault.OUT_OF_RANGE, _outside(theirs), _outside(ours)
    if ours.categories and theirs.categories and ours.categories.counts:
        now, before = theirs.categories.other, ours.categories.other
        yield Fault.NEW_CATEGORY, (now, theirs.values), (before, ours.values)
    if theirs.values and not _is_constant(ours):
        same = theirs.values if _is_constant(theirs) else 0
        yield Fault.CONSTANT, (same, theirs.values), (_most_frequent(ours), ours.values)


def _as_for_others(
    fault: Fault, ours: ColumnSummary, before: tuple[int, int], effect: float
) -> tuple[int, int]:
    """What to expect of others: a range or list of names fits the values that it was made of better than any others.

    Added to the counts of independent values: however often it was sent, the range ends at one value.

    Of m others, k lie outside of the range of n with the chance (k + 1) C(n + m - k - 2, n - 2) / C(n + m, n), whatever
    the distribution; ties make it less. Its tail is that of Fisher's test against 1 of n: of ten others, 1 or more
    are outside of the range of 100 with the chance 0.174.

    For names it is Good and Turing's estimate, the values of names that were seen once ("The population frequencies
    of species", 1953), and 2 more, as it varies itself.
    """
    part, whole = before
    if fault is Fault.OUT_OF_RANGE:
        part += 1
    if fault is Fault.NEW_CATEGORY and ours.categories is not None:
        part += 2 + _doubtful(ours.categories, effect)
    return min(part, whole), whole


def _doubtful(held: Categories, effect: float) -> int:
    """How many independent values have a name by chance: they were seen once, or hardly more often than the least named.

    The latter where not all have a name: of 200 names that are alike, the 50 most frequent of a sample are
    so by chance, and hold less of any other.
    """
    named = [max(1, round(count / effect)) for count in held.counts.values() if count]
    if not held.other:
        return sum(count == 1 for count in named)
    least = min(named, default=0)
    return sum(count for count in named if count - _SPREADS * sqrt(count) <= least)


def _outside(column: ColumnSummary) -> tuple[int, int]:
    numbers = column.numbers
    assert numbers is not None
    return numbers.counts[0] + numbers.counts[-1], numbers.rows


def _is_constant(column: ColumnSummary) -> bool:
    if column.numbers is not None:
        return column.numbers.minimum == column.numbers.maximum
    held = column.categories
    return held is not None and not held.other and sum(map(bool, held.counts.values())) == 1


def _most_frequent(column: ColumnSummary) -> int:
    """How often the most frequent value, or bin, occurs."""
    if column.numbers is not None:
        return max(column.numbers.counts)
    return max(column.categories.counts.values(), default=0) if column.categories else 0


def _fewer(counts: tuple[int, int], effect: float) -> tuple[int, int]:
    """The counts that independent rows would have given."""
    part, whole = (round(count / effect) for count in counts)
    return min(part, whole), whole


def _share(counts: tuple[int, int]) -> float:
    return counts[0] / counts[1] if counts[1] else 0.0


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows came in a window, and in `earlier` ones at the same time of day."""

    rows: int
    earlier: tuple[int, ...]

    @property
    def ratio(self) -> float:
        """How far from all earlier ones is odd: twofold, or as far as these are apart.

        Days that differ fivefold would else be odd every other week.
        """
        return max(2.0, max(self.earlier) / max(1, min(self.earlier))) if self.earlier else 2.0

    @property
    def lowest(self) -> float:
        """Fewer rows than the fewest earlier ones over the ratio are a claim of their own; 25 for 50, 60 and 70."""
        return min(self.earlier, default=0) / self.ratio

    @property
    def highest(self) -> float:
        """As are more than the most, times the ratio."""
        return max(self.earlier, default=0) * self.ratio

    def can_judge(self, *, least_windows: int, least_rows: int) -> bool:
        """Whether there were enough windows, with enough rows in each, to know what is usual."""
        return len(self.earlier) >= least_windows and min(self.earlier) >= least_rows

    @property
    def is_odd(self) -> bool:
        """Whether there are far fewer or far more than at any earlier time."""
        return not self.lowest <= self.rows <= self.highest


def overall_volume(rows: int, earlier: Sequence[int]) -> Volume:
    """The volume, without windows from before the endpoint had any callers."""
    first = next((at for at, count in enumerate(earlier) if count), len(earlier))
    return Volume(rows=rows, earlier=tuple(earlier[first:]))
