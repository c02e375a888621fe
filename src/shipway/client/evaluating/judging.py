"""From answers to findings: the metrics with their intervals, by slice, and against another version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from shipway.client.evaluating.judged import Judged, canonical_order
from shipway.client.evaluating.metrics import BETTER, values_of
from shipway.client.evaluating.resampling import (
    SIGNIFICANCE,
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


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """How often the rows are drawn, and who hears of each time."""

    draws: int
    on_draw: Callable[[int], None] = lambda done: None


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
    draws: int | None = None,
    on_progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> Verdict:
    """The metrics over all rows and by slice, and what differs from the rival (its name, its answers).

    Every interval is of so many `draws`, by default as many as `draws_for` has it. The order of the
    rows changes nothing.
    """
    order = canonical_order([judged] if rival is None else [judged, rival[1]])
    judged = judged.taken(order)
    draws = draws_for(judged.rows) if draws is None else draws
    drawing = Drawing(draws=draws, on_draw=lambda done: on_progress("intervals", done, draws))
    if rival is None:
        measures, notes = _measured(judged, drawing)
        against = None
    else:
        other = rival[1].taken(order)
        measures, differences, notes = _compared(judged, other, drawing)
        against = Against(version=rival[0], differences=differences)
    slices, slice_notes = _by_slice(
        judged, [(c, c.codes[order]) for c in columns], draws, on_progress
    )
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


def _measured(judged: Judged, drawing: Drawing) -> tuple[tuple[Measure, ...], tuple[str, ...]]:
    """Each metric with its interval, in the order of `BETTER`, and what could not be measured."""
    values, notes = values_of(judged)
    (replicates,) = drawn(
        [tally_of(judged)], judged.rows, draws=drawing.draws, on_draw=drawing.on_draw
    )
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
    judged: Judged, other: Judged, drawing: Drawing
) -> tuple[tuple[Measure, ...], tuple[Difference, ...], tuple[str, ...]]:
    values, notes = values_of(judged)
    other_values, _ = values_of(other)
    ours, theirs = drawn(
        [tally_of(judged), tally_of(other)],
        judged.rows,
        draws=drawing.draws,
        on_draw=drawing.on_draw,
    )
    shared = [name for name in BETTER if name in values and name in other_values]
    tests = {name: (BOOTSTRAP, paired_p_value(ours[name] - theirs[name])) for name in shared}
    if "accuracy" in tests:
        tests["accuracy"] = (MCNEMAR, _mcnemar(judged, other))
    differences = tuple(
        _difference(name, values[name] - other_values[name], ours[name] - theirs[name], tests[name])
        for name in shared
    )
    return _with_intervals(values, ours), differences, notes


def _difference(
    name: str, value: float, replicates: Array, tested: tuple[str, float]
) -> Difference:
    low, high = interval(replicates, value)
    test, p_value = tested
    return Difference(
        name=name,
        value=value,
        low=low,
        high=high,
        p_value=p_value,
        test=test,
        verdict=verdict_on(name, value, p_value),
    )


def _mcnemar(judged: Judged, other: Judged) -> float:
    ours, theirs = judged.answers == judged.truth, other.answers == other.truth
    return mcnemar_p_value(int(np.sum(ours & ~theirs)), int(np.sum(~ours & theirs)))


def verdict_on(name: str, value: float, p_value: float) -> str:
    """`better` or `worse` where chance would give such a difference in fewer than 5 % of cases.

    `same` says that no difference was shown, which few rows may be the reason of.
    """
    if value == 0 or p_value >= SIGNIFICANCE:
        return "same"
    return "better" if (value > 0) == (BETTER[name] == "higher") else "worse"


def _by_slice(
    judged: Judged,
    columns: Sequence[tuple[SliceColumn, Array]],
    draws: int,
    on_progress: Callable[[str, int, int], None],
) -> tuple[tuple[Slice, ...], tuple[str, ...]]:
    """The slices in the order of the columns, then of their values; `columns` with ordered codes."""
    slices: list[Slice] = []
    total = sum(len(column.values) for column, _ in columns)
    for column, codes in columns:
        for code in sorted(range(len(column.values)), key=column.values.__getitem__):
            part = judged.taken(codes == code)
            measures, _ = _measured(part, Drawing(draws=draws))
            value = column.values[code]
            slices.append(Slice(column=column.name, value=value, rows=part.rows, measures=measures))
            on_progress("slices", len(slices), total)
    small = [f"{one.column}={one.value}" for one in slices if one.rows < FEW_ROWS]
    return tuple(slices), _few_rows_note(small)


def _few_rows_note(small: Sequence[str]) -> tuple[str, ...]:
    if not small:
        return ()
    more = f" and {len(small) - 5} more" if len(small) > 5 else ""
    return (
        f"Under {FEW_ROWS} rows, where intervals are too narrow: {', '.join(small[:5])}{more}.",
    )
