"""One column's counts in SQL, and the reading of what they gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from shipway.core.drift.summaries import Categories, ColumnSummary, Numbers
from shipway.core.profile import ColumnKind
from shipway.core.tensors import Array
from shipway.monitoring.columns import Column, expression_of

MARK = "="
"""Stands before every category that is counted, so that none is taken for DuckDB's name of all others, ''."""


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """How a column is counted: `projected` is its value, `aggregates` go over that under the name `alias`."""

    column: Column
    alias: str
    projected: str
    aggregates: tuple[str, ...]
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


def count_of_numbers(column: Column, kind: str, *, alias: str, edges: Sequence[float]) -> Count:
    """Counts between edges, with the range and moments of the finite values.

    A value that arrived as a FLOAT is compared with the edges as FLOATs: else 0.7, which is a little
    less as a FLOAT, would leave the bin that begins with 0.7.
    """
    value = expression_of(column, kind)
    is_single = not value.endswith("::DOUBLE")
    bounds = bounds_of(edges, is_single=is_single)
    # With an exponent, as DuckDB takes 0.99 for a DECIMAL and rounds it.
    listed = ", ".join(f"{bound:.17e}" for bound in sorted(set(bounds)))
    type_ = "FLOAT" if is_single else "DOUBLE"
    return Count(
        column=column,
        alias=alias,
        # NaN counts as missing, so it is made NULL; the infinite are neither.
        projected=f"{value} AS {alias}_raw, "
        f"CASE WHEN isfinite({alias}_raw) THEN {alias}_raw END AS {alias}",
        aggregates=(
            f"histogram({alias}, [{listed}]::{type_}[])",
            f"count({alias}_raw) FILTER (isinf({alias}_raw))",
            f"min({alias})::DOUBLE",
            f"max({alias})::DOUBLE",
            f"avg({alias})",
            f"stddev_pop({alias})",
        ),
        edges=tuple(edges),
        bounds=bounds,
    )


def count_of_categories(
    column: Column, kind: str, *, alias: str, categories: Sequence[str]
) -> Count:
    """Counts of the named categories, and of all values."""
    listed = ", ".join(literal(MARK + name) for name in categories)
    return Count(
        column=column,
        alias=alias,
        projected=f"'{MARK}' || {expression_of(column, kind)} AS {alias}",
        aggregates=(f"count({alias})", f"histogram_exact({alias}, [{listed}]::VARCHAR[])"),
        categories=tuple(categories),
    )


def bounds_of(edges: Sequence[float], *, is_single: bool) -> tuple[float, ...]:
    """The upper bounds, each included, of the cells below and between edges.

    Bins hold their lower edge and not their upper one, but for the last: the bounds are the numbers just
    before each edge, and the last edge itself.
    """
    kind = np.float32 if is_single else np.float64
    exact = np.asarray(edges, dtype=kind)
    before = np.nextafter(exact[:-1], kind(-np.inf))
    return tuple(float(bound) for bound in (*before, exact[-1]))


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def summary_of_column(
    count: Count, rows: Sequence[int], values: Sequence[Sequence[Any]], *, buckets: int
) -> ColumnSummary:
    """The summary of a column from what its aggregates gave for each bucket that has rows.

    `rows` are the rows of each of those, and `values` begin with the bucket's number.
    """
    if count.column.kind is ColumnKind.NUMERIC:
        return _of_numbers(count, rows, values, buckets=buckets)
    return _of_categories(count, rows, values, buckets=buckets)


def _of_numbers(
    count: Count, rows: Sequence[int], values: Sequence[Sequence[Any]], *, buckets: int
) -> ColumnSummary:
    parts = np.zeros((buckets, len(count.edges) + 1), dtype=np.int64)
    for bucket, histogram, *_ in values:
        parts[bucket] = cells(count.bounds, histogram or {})
    infinite = sum(each[2] for each in values)
    total = int(parts.sum())
    return ColumnSummary(
        kind=count.column.kind,
        rows=sum(rows),
        missing=sum(rows) - infinite - total,
        infinite=infinite,
        numbers=_numbers(count, parts, values) if total else None,
        parts=_tuples(parts) if total else (),
    )


def cells(bounds: Sequence[float], histogram: Mapping[float, int]) -> Array:
    """The counts of the cells from a histogram by upper bound, which has one more for the values above."""
    counts = list(histogram.values())
    unique = sorted(set(bounds))
    # Two edges may be the same FLOAT: the bin between them is empty then.
    upto = dict(zip(unique, np.cumsum(counts[: len(unique)]), strict=False))
    steps = [0, *(upto.get(bound, 0) for bound in bounds), sum(counts)]
    return np.diff(np.array(steps, dtype=np.int64))


def _numbers(count: Count, parts: Array, values: Sequence[Sequence[Any]]) -> Numbers:
    held = [(int(parts[each[0]].sum()), *each[3:]) for each in values if parts[each[0]].sum()]
    sizes, lows, highs, means, stds = (
        np.array(each, dtype=np.float64) for each in zip(*held, strict=True)
    )
    mean = float(np.average(means, weights=sizes))
    # The variance of all is the mean variance of the buckets and the variance of their means.
    variance = float(np.average(stds**2 + (means - mean) ** 2, weights=sizes))
    return Numbers(
        edges=count.edges,
        counts=tuple(parts.sum(axis=0).tolist()),
        minimum=float(lows.min()),
        maximum=float(highs.max()),
        mean=mean,
        std=variance**0.5,
    )


def _of_categories(
    count: Count, rows: Sequence[int], values: Sequence[Sequence[Any]], *, buckets: int
) -> ColumnSummary:
    parts = np.zeros((buckets, len(count.categories) + 1), dtype=np.int64)
    for bucket, held, histogram in values:
        named = [(histogram or {}).get(MARK + name, 0) for name in count.categories]
        parts[bucket] = [*named, held - sum(named)]
    *named, other = parts.sum(axis=0).tolist()
    total = sum(named) + other
    return ColumnSummary(
        kind=count.column.kind,
        rows=sum(rows),
        missing=sum(rows) - total,
        categories=Categories(counts=dict(zip(count.categories, named, strict=True)), other=other),
        parts=_tuples(parts) if total else (),
    )


def _tuples(parts: Array) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, parts.tolist()))
