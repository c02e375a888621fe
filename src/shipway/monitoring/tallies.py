"""Running counts of one column: batches of its values go in, a summary comes out, and no value is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from shipway.core.drift.summaries import Categories, ColumnSummary, Numbers
from shipway.core.profile import ColumnKind
from shipway.core.tensors import Array

MISSING = -1
OTHER = 0


class Tally(Protocol):
    """Counts of one column so far."""

    def add(self, buckets: Array, values: Array) -> None:
        """Counts a batch: the bucket of time of each row, and its value."""

    def summary(self) -> ColumnSummary:
        """The summary of all that was added."""


class NumberTally:
    """Counts between edges, with the range and moments of the finite values.

    Values that come as single-precision floats are compared with edges of the same kind: else 0.7,
    which is a little less in single precision, would leave the bin that begins with 0.7.
    """

    def __init__(self, edges: Sequence[float], *, is_single: bool, buckets: int) -> None:
        self._edges = tuple(edges)
        self._exact = np.asarray(edges, dtype=np.float32 if is_single else np.float64)
        self._parts = np.zeros((buckets, len(edges) + 1), dtype=np.int64)
        self._missing = self._infinite = 0
        self._low, self._high = np.inf, -np.inf
        # Moments about the middle edge: about 0, the squares of large values would swallow their differences.
        self._middle = float(self._exact[len(edges) // 2])
        self._sum = self._squares = 0.0

    def add(self, buckets: Array, values: Array) -> None:
        """Counts a batch of floats; NaN is missing."""
        is_finite = np.isfinite(values)
        if not is_finite.all():
            missing = int(np.isnan(values).sum())
            self._missing += missing
            self._infinite += len(values) - missing - int(is_finite.sum())
            buckets, values = buckets[is_finite], values[is_finite]
        if len(values):
            self._count(buckets, values)
            self._measure(values)

    def summary(self) -> ColumnSummary:
        """The summary of all that was added."""
        counts = self._parts.sum(axis=0)
        total = int(counts.sum())
        return ColumnSummary(
            kind=ColumnKind.NUMERIC,
            rows=total + self._missing + self._infinite,
            missing=self._missing,
            infinite=self._infinite,
            numbers=self._numbers(counts, total) if total else None,
            parts=_tuples(self._parts) if total else (),
        )

    def _count(self, buckets: Array, values: Array) -> None:
        cells = np.searchsorted(self._exact, values, side="right")
        # The last bin holds its upper edge.
        cells[values == self._exact[-1]] = len(self._exact) - 1
        _tally(self._parts, buckets, cells)

    def _measure(self, values: Array) -> None:
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))
        with np.errstate(over="ignore"):
            away = np.subtract(values, self._middle, dtype=np.float64)
            self._sum += float(away.sum())
            # Not np.dot: its threads wait busily between two batches, and take as much time again.
            self._squares += float(np.square(away, out=away).sum())

    def _numbers(self, counts: Array, total: int) -> Numbers:
        away = self._sum / total
        variance = max(0.0, self._squares / total - away * away)
        # Squares of values above 1e154 overflow; the largest number stands for their spread.
        mean, std = np.nan_to_num([self._middle + away, np.sqrt(variance)])
        return Numbers(
            edges=self._edges,
            counts=tuple(counts.tolist()),
            minimum=self._low,
            maximum=self._high,
            mean=float(mean),
            std=float(std),
        )


class CategoryTally:
    """Counts of named categories, and of all others together."""

    def __init__(self, names: Sequence[str], *, kind: ColumnKind, buckets: int) -> None:
        self._names, self._kind = tuple(names), kind
        self._parts = np.zeros((buckets, len(names) + 2), dtype=np.int64)

    def add(self, buckets: Array, values: Array) -> None:
        """Counts a batch of codes: each category's place from 1, or `OTHER`, or `MISSING`."""
        _tally(self._parts, buckets, values - MISSING)

    def summary(self) -> ColumnSummary:
        """The summary of all that was added."""
        missing, other, *named = self._parts.sum(axis=0).tolist()
        has_any = bool(other + sum(named))
        return ColumnSummary(
            kind=self._kind,
            rows=missing + other + sum(named),
            missing=missing,
            categories=Categories(counts=dict(zip(self._names, named, strict=True)), other=other),
            parts=_tuples(np.roll(self._parts[:, 1:], -1, axis=1)) if has_any else (),
        )


def _tally(parts: Array, buckets: Array, cells: Array) -> None:
    wide = parts.shape[1]
    parts += np.bincount(buckets * wide + cells, minlength=parts.size).reshape(parts.shape)


def _tuples(parts: Array) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, parts.tolist()))
