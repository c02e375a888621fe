"""Whether data is sound: what is missing, infinite, out of range, new or constant that was not before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from shipway.core.drift.repeats import design_effect
from shipway.core.drift.rules import DriftRules
from shipway.core.drift.significance import holm, shares_p
from shipway.core.drift.summaries import ColumnSummary, Summary

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
    """That a fault of a column became more frequent. `current` and `reference` are (faulty, all) values.

    `p` is of Fisher's test, `alpha` what it has to reach among all the claims that were tested.
    """

    column: str
    fault: Fault
    current: tuple[int, int]
    reference: tuple[int, int]
    p: float
    alpha: float = 0.0
    least_share: float = LEAST_SHARE

    @property
    def rise(self) -> float:
        """By how much the share of faulty values rose."""
        return _share(self.current) - _share(self.reference)

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
    effects = design_effect(theirs.parts), design_effect(ours.parts)
    for fault, now, before in _counted(ours, theirs):
        p = shares_p(_fewer(now, effects[0]), _fewer(before, effects[1]))
        yield Claim(column=name, fault=fault, current=now, reference=before, p=p)


def _counted(
    ours: ColumnSummary, theirs: ColumnSummary
) -> Iterator[tuple[Fault, tuple[int, int], tuple[int, int]]]:
    yield Fault.MISSING, (theirs.missing, theirs.rows), (ours.missing, ours.rows)
    if theirs.infinite or ours.infinite:
        yield Fault.INFINITE, (theirs.infinite, theirs.rows), (ours.infinite, ours.rows)
    if ours.numbers and theirs.numbers:
        now, before = _outside(theirs), _outside(ours)
        # The range ends at two values of the reference itself, so as much again lies beyond it.
        yield Fault.OUT_OF_RANGE, now, (before[0] + 2, before[1] + 2)
    if ours.categories and theirs.categories and ours.categories.counts:
        # Good and Turing: what was seen once is about as frequent as what was not seen at all.
        once = sum(count == 1 for count in ours.categories.counts.values())
        yield (
            Fault.NEW_CATEGORY,
            (theirs.categories.other, theirs.values),
            (
                ours.categories.other + once,
                ours.values,
            ),
        )
    if theirs.values and not _is_constant(ours):
        same = theirs.values if _is_constant(theirs) else 0
        yield Fault.CONSTANT, (same, theirs.values), (_most_frequent(ours), ours.values)


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
    def lowest(self) -> float:
        """Fewer rows than half of the fewest earlier ones are a claim of their own."""
        return min(self.earlier) / 2 if self.earlier else 0.0

    @property
    def highest(self) -> float:
        """As are more than twice the most."""
        return 2.0 * max(self.earlier, default=0)

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
