"""What happened to a column, in words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shipway.core.drift.distances import shares
from shipway.core.drift.measured import Cells
from shipway.core.drift.summaries import ColumnSummary, Numbers

OTHER = "all other categories"


def moved(baseline: ColumnSummary, current: ColumnSummary, cells: Cells) -> str:
    """How the current values differ, as one clause: "mean rose from 41 to 74"."""
    ours, theirs = baseline.numbers, current.numbers
    if ours and theirs:
        return _numbers(ours, theirs)
    return _categories(baseline, cells)


def percent(share: float) -> str:
    """A share as people write it: 60 %, 0.4 %."""
    return f"{100 * share:.3g} %"


def _numbers(ours: Numbers, theirs: Numbers) -> str:
    mean = _change("mean", ours.mean, theirs.mean)
    if abs(theirs.mean - ours.mean) >= abs(theirs.std - ours.std) / 2:
        return mean
    return f"{_change('standard deviation', ours.std, theirs.std)}; {mean}"


def _categories(baseline: ColumnSummary, cells: Cells) -> str:
    before, after = shares(cells.baseline), shares(cells.current)
    # Of two that moved alike, the one that was more frequent.
    most = int(np.argmax(np.abs(after - before).round(9)))
    named = tuple(baseline.categories.counts) if baseline.categories else ()
    name = f"`{named[most]}`" if most < len(named) else OTHER
    return _change(f"share of {name}", before[most], after[most], write=percent)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _change(
    what: str, before: float, after: float, *, write: Callable[[float], str] = _number
) -> str:
    if write(before) == write(after):
        return f"{what} stayed at {write(before)}"
    return f"{what} {'rose' if after > before else 'fell'} from {write(before)} to {write(after)}"
