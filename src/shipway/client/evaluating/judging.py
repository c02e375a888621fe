"""From answers to findings: the metrics with their intervals, by slice, and against another version."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import numpy as np

from shipway.client.evaluating.judged import Judged, canonical_order
from shipway.client.evaluating.metrics import BETTER, values_of
from shipway.client.evaluating.resampling import (
    LEVEL,
    drawn,
    draws_for,
    interval,
    mcnemar_p_value,
    paired_p_value,
)
from shipway.client.evaluating.tallies import tally_of
from shipway.core.evaluations import Against, Difference, Measure, Slice, Task
from shipway.core.tensors import Array

FEW_ROWS = 30
MCNEMAR = "McNemar, mid-p"
BOOTSTRAP = "paired bootstrap"
OnDraw = Callable[[int], None]


class SliceColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column to judge by: `codes` [rows] are positions in `values`."""

    name: str
    values: tuple[str, ...]
    codes: Array


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a version's answers."""

    measures: tuple[Measure, ...]
    slices: tuple[Slice, ...]
    against: Against | None
    resamples: int
    notes: tuple[str, ...]


def verdict_of(
    judged: Judged,
    *,
    columns: tuple[SliceColumn, ...] = (),
    rival: tuple[str, Judged] | None = None,
    on_progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> Verdict:
    """The metrics over all rows and by slice, and what differs from the rival (its name, its answers).

    The order of the rows changes nothing.
    """
    order = canonical_order([judged] if rival is None else [judged, rival[1]])
    judged = judged.taken(order)
    draws = draws_for(judged.rows)

    def on_draw(done: int) -> None:
        on_progress("intervals", done, draws)

    if rival is None:
        measures, notes = measured(judged, on_draw=on_draw)
        against = None
    else:
        name, other = rival[0], rival[1].taken(order)
        measures, differences, notes = _compared(judged, other, on_draw=on_draw)
        against = Against(version=name, differences=differences)
    slices, slice_notes = _by_slice(judged, order, columns, on_progress)
    return Verdict(
        measures=measures,
        slices=slices,
        against=against,
        resamples=draws,
        notes=(*_averages(judged), *notes, *slice_notes),
    )


def _averages(judged: Judged) -> tuple[str, ...]:
    if judged.task is Task.REGRESSION:
        return ()
    if len(judged.classes) == 2:
        return (f"precision, recall and f1 are of the class `{judged.classes[1]}`.",)
    return ("precision, recall and f1 are means over the classes.",)


def measured(
    judged: Judged, *, on_draw: OnDraw = lambda done: None
) -> tuple[tuple[Measure, ...], tuple[str, ...]]:
    """Each metric with its interval, in the order of `BETTER`, and what could not be measured."""
    values, notes = values_of(judged)
    draws = draws_for(judged.rows)
    (replicates,) = drawn([tally_of(judged)], judged.rows, draws=draws, on_draw=on_draw)
    return _with_intervals(values, replicates), notes


def _with_intervals(
    values: Mapping[str, float], replicates: Mapping[str, Array]
) -> tuple[Measure, ...]:
    measures = []
    for name in (name for name in BETTER if name in values):
        low, high = interval(replicates[name], values[name])
        measures.append(
            Measure(name=name, value=values[name], low=low, high=high, better=BETTER[name])
        )
    return tuple(measures)


def _compared(
    judged: Judged, other: Judged, *, on_draw: OnDraw
) -> tuple[tuple[Measure, ...], tuple[Difference, ...], tuple[str, ...]]:
    values, notes = values_of(judged)
    other_values, _ = values_of(other)
    ours, theirs = drawn(
        [tally_of(judged), tally_of(other)],
        judged.rows,
        draws=draws_for(judged.rows),
        on_draw=on_draw,
    )
    differences = []
    for name in (name for name in BETTER if name in values and name in other_values):
        value = values[name] - other_values[name]
        replicates = ours[name] - theirs[name]
        test, p_value = BOOTSTRAP, paired_p_value(replicates)
        if name == "accuracy":
            test, p_value = MCNEMAR, _mcnemar(judged, other)
        low, high = interval(replicates, value)
        differences.append(
            Difference(
                name=name,
                value=value,
                low=low,
                high=high,
                p_value=p_value,
                test=test,
                verdict=verdict_on(name, value, p_value),
            )
        )
    return _with_intervals(values, ours), tuple(differences), notes


def _mcnemar(judged: Judged, other: Judged) -> float:
    ours, theirs = judged.answers == judged.truth, other.answers == other.truth
    return mcnemar_p_value(int(np.sum(ours & ~theirs)), int(np.sum(~ours & theirs)))


def verdict_on(name: str, value: float, p_value: float) -> str:
    """`better` or `worse` where chance would give such a difference in fewer than 5 % of cases.

    `same` says that no difference was shown, which few rows may be the reason of.
    """
    if value == 0 or p_value >= 1 - LEVEL:
        return "same"
    return "better" if (value > 0) == (BETTER[name] == "higher") else "worse"


def _by_slice(
    judged: Judged,
    order: Array,
    columns: tuple[SliceColumn, ...],
    on_progress: Callable[[str, int, int], None],
) -> tuple[tuple[Slice, ...], tuple[str, ...]]:
    slices: list[Slice] = []
    notes: list[str] = []
    total = sum(len(column.values) for column in columns)
    for column in columns:
        codes = column.codes[order]
        for code in sorted(range(len(column.values)), key=column.values.__getitem__):
            value = column.values[code]
            part = judged.taken(codes == code)
            measures, _ = measured(part)
            one = Slice(column=column.name, value=value, rows=part.rows, measures=measures)
            slices.append(one)
            on_progress("slices", len(slices), total)
    small = [f"{one.column}={one.value}" for one in slices if one.rows < FEW_ROWS]
    if small:
        shown = ", ".join(small[:5]) + (f" and {len(small) - 5} more" if len(small) > 5 else "")
        notes.append(f"Under {FEW_ROWS} rows, where intervals are too narrow: {shown}.")
    return tuple(slices), tuple(notes)
