"""Data quality: what is wrong with values whatever they mean, with the verdicts of drift."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from math import hypot, sqrt

import msgspec

from shipway.core.drift.repeats import design_effect
from shipway.core.drift.report import Verdict
from shipway.core.drift.significance import holm, shares_p
from shipway.core.drift.summaries import ColumnSummary, Summary
from shipway.core.drift.words import percent


class Check(StrEnum):
    """What is checked."""

    MISSING = "missing"
    INFINITE = "infinite"
    RANGE = "range"
    NEW_CATEGORIES = "new_categories"
    CONSTANT = "constant"
    SCHEMA = "schema"
    VOLUME = "volume"


class QualityRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a finding asks of a share of bad values.

    `effect` is by how much the share has to grow, `factor` by how many times the volume has to change, up
    or down. The others are as in `DriftRules`.
    """

    effect: float = 0.01
    factor: float = 2.0
    false_alarms_per_week: float = 0.02
    runs_per_week: float = 168.0
    minimum_rows: int = 100

    @property
    def alpha(self) -> float:
        """The chance of a false alarm that one run may spend; the volume spends as much as all else."""
        return self.false_alarms_per_week / max(1.0, self.runs_per_week) / 2


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """So many of so many."""

    part: float
    whole: float

    @property
    def value(self) -> float:
        """The share; 0 of nothing."""
        return self.part / self.whole if self.whole else 0.0


class QualityFinding(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one check of one column, or of the whole sample where `column` is empty.

    `effect` has to reach `threshold`, and `p` to be at most `alpha`. For shares of bad values the effect is by how
    much the share grew; for the volume by how many times it changed.
    """

    check: Check
    column: str
    verdict: Verdict
    words: str
    effect: float = 0.0
    threshold: float = 0.0
    p: float = 1.0
    alpha: float = 0.0
    numbers: Mapping[str, float] = {}


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """The shares of bad values, before and now, of independent rows each."""

    check: Check
    column: str
    before: Share
    now: Share


WHAT = {
    Check.MISSING: "missing values",
    Check.INFINITE: "infinite values",
    Check.RANGE: "values outside of the baseline's range",
    Check.NEW_CATEGORIES: "values in none of the baseline's categories",
    Check.CONSTANT: "values that are the same as the most frequent one",
    Check.SCHEMA: "requests refused for what was in them",
}


def checked(
    baseline: Summary,
    current: Summary,
    *,
    refused: tuple[Share, Share] | None = None,
    rules: QualityRules | None = None,
) -> tuple[QualityFinding, ...]:
    """What is wrong with the current values, and what was looked at and is not.

    Both samples must be counted alike, as for `drift.verdicts.compare`. `refused` are the shares of requests that
    were refused for what was in them, before and now.
    """
    rules = rules or QualityRules()
    compared = [
        one
        for name, ours in baseline.columns.items()
        if name in current.columns
        for one in compared_shares(name, ours, current.columns[name])
    ]
    if refused:
        before, now = refused
        compared.append(Compared(check=Check.SCHEMA, column="", before=before, now=now))
    return _judged(compared, rules)


def compared_shares(name: str, ours: ColumnSummary, theirs: ColumnSummary) -> Iterator[Compared]:
    """The shares of a column's bad values, by every check that applies to it."""
    worth = 1 / design_effect(ours.parts), 1 / design_effect(theirs.parts)
    for check, share_of in _SHARES.items():
        before, now = share_of(ours), share_of(theirs)
        if before is not None and now is not None:
            expected = Share(part=before.part + _unseen(check, ours), whole=before.whole)
            yield Compared(
                check=check,
                column=name,
                before=_scaled(expected, worth[0]),
                now=_scaled(now, worth[1]),
            )
    yield from _constant(name, ours, theirs)


def _missing(column: ColumnSummary) -> Share:
    return Share(part=column.missing, whole=column.rows)


def _infinite(column: ColumnSummary) -> Share | None:
    return Share(part=column.infinite, whole=column.rows) if column.numbers else None


def _out_of_range(column: ColumnSummary) -> Share | None:
    if (numbers := column.numbers) is None:
        return None
    return Share(part=numbers.counts[0] + numbers.counts[-1], whole=numbers.rows)


def _unnamed(column: ColumnSummary) -> Share | None:
    held = column.categories
    # Of a column whose categories are not named, all values are in none of them.
    return Share(part=held.other, whole=held.rows) if held and held.counts else None


_SHARES: dict[Check, Callable[[ColumnSummary], Share | None]] = {
    Check.MISSING: _missing,
    Check.INFINITE: _infinite,
    Check.RANGE: _out_of_range,
    Check.NEW_CATEGORIES: _unnamed,
}


def _unseen(check: Check, baseline: ColumnSummary) -> float:
    """How many values more of another sample of the same kind the baseline would not know.

    About 2 / n of all values lie outside of the range of n values: one beyond each end. As many as occurred
    once are of categories that did not occur (Good, "The population frequencies of species", 1953).
    """
    if check is Check.RANGE:
        return 2.0
    if check is Check.NEW_CATEGORIES and baseline.categories:
        return float(sum(count == 1 for count in baseline.categories.counts.values()))
    return 0.0


def _constant(name: str, ours: ColumnSummary, theirs: ColumnSummary) -> Iterator[Compared]:
    """A column of one value that had several: its most frequent cell was not always all of it."""
    counts, now = _counts(ours), _counts(theirs)
    if max(counts, default=0) < sum(counts) and now and max(now) == sum(now) and _is_one(theirs):
        before = Share(part=max(counts), whole=sum(counts))
        yield Compared(
            check=Check.CONSTANT,
            column=name,
            before=before,
            now=Share(part=sum(now), whole=sum(now)),
        )


def _counts(column: ColumnSummary) -> tuple[int, ...]:
    if column.numbers:
        return column.numbers.counts
    held = column.categories
    return (*held.counts.values(), held.other) if held else ()


def _is_one(column: ColumnSummary) -> bool:
    if column.numbers:
        return column.numbers.minimum == column.numbers.maximum
    return column.categories is not None and not column.categories.other


def _scaled(share: Share, by: float) -> Share:
    return Share(part=share.part * by, whole=share.whole * by)


def _judged(compared: list[Compared], rules: QualityRules) -> tuple[QualityFinding, ...]:
    enough = [min(one.before.whole, one.now.whole) >= rules.minimum_rows for one in compared]
    tested = [one for one, is_enough in zip(compared, enough, strict=True) if is_enough]
    ps = [_p(one) for one in tested]
    bounds = iter(zip(ps, holm(ps, rules.alpha), strict=True))
    return tuple(
        _finding(one, *next(bounds), rules) if is_enough else _too_little(one, rules)
        for one, is_enough in zip(compared, enough, strict=True)
    )


def _p(one: Compared) -> float:
    # Most shares are 0 before and now, and nothing need be computed.
    if one.now.value <= one.before.value:
        return 1.0
    before, now = ((round(each.part), round(each.whole)) for each in (one.before, one.now))
    return shares_p(before, now)


def _finding(one: Compared, p: float, alpha: float, rules: QualityRules) -> QualityFinding:
    before, now = one.before, one.now
    all_ = (before.part + now.part) / (before.whole + now.whole)
    noise = sqrt(all_ * (1 - all_) * (1 / before.whole + 1 / now.whole))
    grown, threshold = now.value - before.value, hypot(rules.effect, noise)
    is_bad = grown >= threshold and p <= alpha
    return QualityFinding(
        check=one.check,
        column=one.column,
        verdict=Verdict.DRIFTED if is_bad else Verdict.STEADY,
        words=f"share of {WHAT[one.check]}: {percent(now.value)}, before {percent(before.value)}",
        effect=grown,
        threshold=threshold,
        p=p,
        alpha=alpha,
        numbers={"before": before.value, "now": now.value},
    )


def _too_little(one: Compared, rules: QualityRules) -> QualityFinding:
    rows = min(one.before.whole, one.now.whole)
    return QualityFinding(
        check=one.check,
        column=one.column,
        verdict=Verdict.TOO_LITTLE_DATA,
        words=f"{rows:.0f} independent rows; it needs {rules.minimum_rows}",
    )
