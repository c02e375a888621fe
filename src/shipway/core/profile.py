"""The baseline profile: what the values of a sample look like, to compare later traffic with."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

import msgspec
import numpy as np

from shipway.core.tensors import Array, DataType, data_type_of

QUANTILES_PCT = (1, 5, 25, 50, 75, 95, 99)
MAX_BINS = 20
MAX_CATEGORIES = 50


class ColumnKind(StrEnum):
    """Which statistics a column has."""

    NUMERIC = "numeric"
    BOOLEAN = "boolean"
    CATEGORICAL = "categorical"


class Histogram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Counts between edges: bin i holds edges[i] <= value < edges[i + 1], the last both ends.

    A bin of one value has two equal edges: of a constant column, or of a largest value that fills one.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class NumericProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Statistics of the finite values. `std` is the population's; `quantiles` are keyed by percent."""

    minimum: float
    maximum: float
    mean: float
    std: float
    quantiles: dict[str, float]
    histogram: Histogram
    infinite: int = 0


class ColumnProfile(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One column. `count` includes the `missing` values.

    `numeric` is None when no value is finite. `categories` are the most frequent texts (or `true`
    and `false`) in falling order, and `other` counts the rest.
    """

    kind: ColumnKind
    dtype: DataType
    count: int
    missing: int
    missing_rate: float
    numeric: NumericProfile | None = None
    categories: dict[str, int] | None = None
    other: int = 0
    distinct: int | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The profile of a whole sample, by column in input order."""

    schema: int = 1
    rows: int
    columns: dict[str, ColumnProfile]


def column_profile(values: Array) -> ColumnProfile:
    """The profile of one column, an array of any shape whose elements are its values."""
    flat = values.ravel()
    dtype = data_type_of(flat)
    if dtype is DataType.BOOL:
        return _boolean(flat)
    return _numeric(flat, dtype=dtype) if dtype.is_numeric else _categorical(flat, dtype=dtype)


def _boolean(values: Array) -> ColumnProfile:
    yes = int(values.sum())
    return ColumnProfile(
        kind=ColumnKind.BOOLEAN,
        dtype=DataType.BOOL,
        count=values.size,
        missing=0,
        missing_rate=0.0,
        categories={"false": values.size - yes, "true": yes},
    )


def _numeric(values: Array, *, dtype: DataType) -> ColumnProfile:
    wide = values.astype(np.float64)
    missing = int(np.isnan(wide).sum())
    finite = wide[np.isfinite(wide)]
    infinite = wide.size - missing - finite.size
    return ColumnProfile(
        kind=ColumnKind.NUMERIC,
        dtype=dtype,
        count=wide.size,
        missing=missing,
        missing_rate=_rate(missing, wide.size),
        numeric=_statistics(finite, infinite=infinite) if finite.size else None,
    )


def _statistics(finite: Array, *, infinite: int) -> NumericProfile:
    quantiles = np.quantile(finite, [percent / 100 for percent in QUANTILES_PCT])
    # Scaled, so that the squares of very large values do not overflow.
    scale = float(np.abs(finite).max()) or 1.0
    return NumericProfile(
        minimum=float(finite.min()),
        maximum=float(finite.max()),
        mean=float((finite / scale).mean()) * scale,
        std=float((finite / scale).std()) * scale,
        quantiles={str(p): float(q) for p, q in zip(QUANTILES_PCT, quantiles, strict=True)},
        histogram=histogram_of(finite),
        infinite=infinite,
    )


def histogram_of(finite: Array) -> Histogram:
    """The histogram of finite values in at most 20 bins of about equal count.

    Bins of equal count, not width, keep every bin filled however skewed the column is, which is what
    a later comparison (PSI) needs. Ties merge bins: `[1, 1, 1, 9]` has two edges, 1 and 9. Where the
    largest value fills a bin alone it has its own, so that 0 and 1 are told apart: `[0, 0, 1, 1]` has
    the edges 0, 1, 1.
    """
    steps = np.quantile(finite, np.linspace(0, 1, MAX_BINS + 1), method="lower")
    edges = np.unique(steps)
    if steps[-2] == steps[-1]:
        edges = np.append(edges, edges[-1])
    counts, _ = np.histogram(finite, bins=edges)
    return Histogram(edges=tuple(map(float, edges)), counts=tuple(map(int, counts)))


def _categorical(values: Array, *, dtype: DataType) -> ColumnProfile:
    seen = Counter(item for item in values.tolist() if item is not None)
    missing = values.size - seen.total()
    # By falling count, then by name: ties must not depend on row order.
    ranked = sorted(seen.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_CATEGORIES]
    top = {str(item): count for item, count in ranked} if dtype is DataType.STRING else None
    return ColumnProfile(
        kind=ColumnKind.CATEGORICAL,
        dtype=dtype,
        count=values.size,
        missing=missing,
        missing_rate=_rate(missing, values.size),
        categories=top,
        other=seen.total() - sum((top or {}).values()),
        distinct=len(seen),
    )


def _rate(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
