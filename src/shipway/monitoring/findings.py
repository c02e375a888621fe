"""What a comparison found, with what people want to see of it: distributions, and the statistic over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise

import numpy as np

from shipway.core.drift.distances import shares
from shipway.core.drift.measured import Cells, aligned, measured
from shipway.core.drift.report import DriftReport, Finding, Verdict
from shipway.core.drift.rules import DriftRules
from shipway.core.drift.summaries import ColumnSummary, Summary
from shipway.core.monitor_runs import Bars, MonitorFinding, MonitorVerdict, Point
from shipway.core.tensors import Array

LEAST_ROWS = 20
"""A bucket of time with fewer values says nothing of its distribution."""

MOST_BARS = 24
_VERDICTS = {
    Verdict.DRIFTED: MonitorVerdict.FIRING,
    Verdict.STEADY: MonitorVerdict.STEADY,
    Verdict.TOO_LITTLE_DATA: MonitorVerdict.INCONCLUSIVE,
}


def verdict_of(verdict: Verdict) -> MonitorVerdict:
    """A verdict of a comparison as a monitor's."""
    return _VERDICTS[verdict]


def drift_findings(
    report: DriftReport, baseline: Summary, current: Summary, *, rules: DriftRules, nearest: int
) -> tuple[MonitorFinding, ...]:
    """Every column that drifted, the largest effect first, and the `nearest` of the steady ones."""
    steady = [one for one in report.findings if one.verdict is Verdict.STEADY]
    close = sorted(steady, key=lambda one: one.threshold - one.effect)[:nearest]
    chosen = [*sorted(report.drifted, key=_size, reverse=True), *close]
    return tuple(_finding(one, baseline, current, rules) for one in chosen)


def _size(found: Finding) -> float:
    """How far beyond its threshold: what two statistics of different scales have in common."""
    return found.effect / found.threshold if found.threshold else found.effect


def _finding(
    found: Finding, baseline: Summary, current: Summary, rules: DriftRules
) -> MonitorFinding:
    ours, theirs = baseline.columns[found.column], current.columns[found.column]
    return MonitorFinding(
        feature=found.column,
        what="drift",
        verdict=verdict_of(found.verdict),
        words=f"`{found.column}`: {found.words}.",
        numbers={"effect": found.effect, "p": found.p, "alpha": found.alpha, **found.statistics},
        statistic=found.statistic,
        threshold=found.threshold,
        since=found.since,
        series=tuple(_series(found, ours, theirs, current, effect=rules.effect)),
        bars=bars_of(ours, theirs),
    )


def _series(
    found: Finding,
    baseline: ColumnSummary,
    current: ColumnSummary,
    window: Summary,
    *,
    effect: float,
) -> Iterator[Point]:
    """The statistic of each bucket of time against the whole of the baseline."""
    if not current.parts or window.until is None:
        return
    usual = aligned(baseline, baseline)
    per_row = found.independent[1] / current.values
    for (at, until), counts in zip(_spans(window.starts, window.until), current.parts, strict=True):
        part = _in_cells(baseline, current, counts)
        rows = int(part.sum())
        if rows < LEAST_ROWS:
            yield Point(at=at, until=until, rows=rows)
            continue
        independent = (found.independent[0], rows * per_row)
        cells = Cells(baseline=usual, current=part, independent=independent)
        seen = measured(baseline, current, cells)
        limit = seen.threshold(effect)
        yield Point(at=at, until=until, value=seen.effect, limit=limit, rows=rows)


def _spans(starts: Sequence[datetime], until: datetime) -> Iterator[tuple[datetime, datetime]]:
    return zip(starts, (*starts[1:], until), strict=True)


def _in_cells(baseline: ColumnSummary, current: ColumnSummary, counts: Sequence[int]) -> Array:
    """A bucket's counts in the baseline's cells."""
    part: Array = np.array(counts, dtype=np.float64)
    theirs, ours = current.categories, baseline.categories
    if theirs is None or ours is None or list(theirs.counts) == list(ours.counts):
        return part
    by_name = dict(zip(theirs.counts, part[:-1], strict=True))
    named = [float(by_name.get(name, 0)) for name in ours.counts]
    return np.array([*named, part.sum() - sum(named)])


def bars_of(baseline: ColumnSummary, current: ColumnSummary) -> Bars | None:
    """Both distributions over the baseline's cells; None where the baseline has no values."""
    if baseline.numbers is None and baseline.categories is None:
        return None
    labels = _labels(baseline)
    both = [shares(aligned(baseline, one)) for one in (baseline, current)]
    if len(labels) > MOST_BARS:
        labels, both = _folded(labels, both)
    one, other = (tuple(float(share) for share in side) for side in both)
    return Bars(labels=labels, reference=one, current=other)


def _labels(column: ColumnSummary) -> tuple[str, ...]:
    if column.numbers is None:
        return (*(column.categories.counts if column.categories else ()), "(other)")
    edges = [f"{edge:.4g}" for edge in column.numbers.edges]
    inside = (f"{low} to {high}" for low, high in pairwise(edges))
    return (f"< {edges[0]}", *inside, f"> {edges[-1]}")


def _folded(labels: tuple[str, ...], both: Sequence[Array]) -> tuple[tuple[str, ...], list[Array]]:
    """The bars that hold most on either side, in their order, and one for the rest."""
    most = np.sort(np.argsort(-np.maximum(*both), kind="stable")[: MOST_BARS - 1])
    kept = tuple(labels[at] for at in most)
    return (*kept, "(rest)"), [np.append(side[most], 1 - side[most].sum()) for side in both]
