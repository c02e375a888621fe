"""The verdict on each column of two samples: is it steady, did it drift, or is there too little data?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
import numpy as np

from shipway.core.drift.distances import shares
from shipway.core.drift.measured import Cells, Measured, cells_of, measured
from shipway.core.drift.onset import onset
from shipway.core.drift.repeats import design_effect
from shipway.core.drift.report import DriftReport, Finding, Verdict
from shipway.core.drift.rules import DriftRules
from shipway.core.drift.significance import holm, independent_rows
from shipway.core.drift.summaries import ColumnSummary, Summary
from shipway.core.drift.words import moved
from shipway.core.tensors import Array


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column of both samples; `measured` is None where there is too little data."""

    name: str
    baseline: ColumnSummary
    current: ColumnSummary
    cells: Cells
    measured: Measured | None


def compare(baseline: Summary, current: Summary, *, rules: DriftRules | None = None) -> DriftReport:
    """How the current sample differs from the baseline, column by column.

    Both must be counted between the same edges (`edges_of`) and by the same categories
    (`categories_of`). Columns that one of them lacks are left out, and named in the report.

    Raises:
        ValueError: a column's edges differ.
    """
    rules = rules or DriftRules()
    columns = [
        _column(name, ours, current.columns[name], rules)
        for name, ours in baseline.columns.items()
        if name in current.columns
    ]
    findings = _judged(columns, current.starts, rules)
    return DriftReport(
        verdict=overall([one.verdict for one in findings]),
        findings=findings,
        baseline_rows=baseline.rows,
        current_rows=current.rows,
        unknown=tuple(sorted(baseline.columns.keys() ^ current.columns.keys())),
    )


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on all: drifted where one did, too little data where none could be judged."""
    if Verdict.DRIFTED in verdicts:
        return Verdict.DRIFTED
    return Verdict.STEADY if Verdict.STEADY in verdicts else Verdict.TOO_LITTLE_DATA


def _column(
    name: str, baseline: ColumnSummary, current: ColumnSummary, rules: DriftRules
) -> Column:
    independent = (_independent(baseline, rules), _independent(current, rules))
    cells = cells_of(baseline, current, independent=independent)
    is_enough = min(independent) >= rules.minimum_rows
    return Column(
        name=name,
        baseline=baseline,
        current=current,
        cells=cells,
        measured=measured(baseline, current, cells) if is_enough else None,
    )


def _independent(column: ColumnSummary, rules: DriftRules) -> float:
    effect = design_effect(column.parts) if rules.allow_for_repeats else 1.0
    return independent_rows(column.values, effect)


def _judged(
    columns: Sequence[Column], starts: Sequence[datetime], rules: DriftRules
) -> tuple[Finding, ...]:
    # The family is all the columns that were tested: what was too little to test alarms nobody.
    tested = [(column.name, column.measured) for column in columns if column.measured]
    bounds = holm([each.p for _, each in tested], rules.alpha)
    alphas = {name: bound for (name, _), bound in zip(tested, bounds, strict=True)}
    return tuple(
        _finding(column, column.measured, starts, alpha=alphas[column.name], effect=rules.effect)
        if column.measured
        else _too_little(column, rules)
        for column in columns
    )


def _too_little(column: Column, rules: DriftRules) -> Finding:
    one, other = column.cells.independent
    return Finding(
        column=column.name,
        verdict=Verdict.TOO_LITTLE_DATA,
        words=f"{one:.0f} independent values in the baseline and {other:.0f} now; "
        f"each needs {rules.minimum_rows}",
        independent=column.cells.independent,
    )


def _finding(
    column: Column, found: Measured, starts: Sequence[datetime], *, alpha: float, effect: float
) -> Finding:
    threshold = found.threshold(effect)
    has_drifted = found.effect >= threshold and found.p <= alpha
    return Finding(
        column=column.name,
        verdict=Verdict.DRIFTED if has_drifted else Verdict.STEADY,
        statistic=found.statistic,
        effect=found.effect,
        threshold=threshold,
        test=found.test,
        p=found.p,
        alpha=alpha,
        statistics=found.statistics,
        words=moved(column.baseline, column.current, column.cells),
        since=_since(column, starts) if has_drifted else None,
        independent=column.cells.independent,
    )


def _since(column: Column, starts: Sequence[datetime]) -> datetime | None:
    if not starts or not column.current.parts or not _is_counted_alike(column):
        return None
    inside = _risen(column)
    usual = float(shares(column.cells.baseline)[inside].sum())
    parts = np.asarray(column.current.parts, dtype=np.float64)
    at = onset(parts[:, inside].sum(axis=1), parts.sum(axis=1), usual)
    return None if at is None else starts[at]


def _risen(column: Column) -> Array:
    """The cells whose share rose: the change of all of them together is the largest there is."""
    risen: Array = shares(column.cells.current) > shares(column.cells.baseline)
    return risen


def _is_counted_alike(column: Column) -> bool:
    ours, theirs = column.baseline.categories, column.current.categories
    return not (ours and theirs) or list(ours.counts) == list(theirs.counts)
