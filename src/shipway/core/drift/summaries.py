"""What is known of a sample: counts of its values, column by column, and never the values themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from shipway.core.profile import ColumnKind, ColumnProfile, Profile

FEW_BINS = 10
"""Fewer bins than this mean a column of few different numbers: `profile.histogram_of` makes more of others."""


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """The finite values of a numeric column.

    `counts` has two more cells than there are bins: below the first edge, each bin i of
    edges[i] <= value < edges[i + 1] (the last holds its upper edge too), above the last edge.
    `minimum`, `maximum`, `mean` and `std` (the population's) are of the values, 0 of none.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    minimum: float = 0.0
    maximum: float = 0.0
    mean: float = 0.0
    std: float = 0.0

    @property
    def rows(self) -> int:
        """How many values there are."""
        return sum(self.counts)

    @property
    def is_few(self) -> bool:
        """Whether the column has few different values, so that its bins are as good as categories."""
        return len(self.edges) <= FEW_BINS


class Categories(msgspec.Struct, frozen=True, kw_only=True):
    """How often each named category occurs; `other` counts the values of all that are not named."""

    counts: Mapping[str, int]
    other: int = 0

    @property
    def rows(self) -> int:
        """How many values there are."""
        return sum(self.counts.values()) + self.other


class ColumnSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a sample: `numbers` or `categories`, None where it had no value.

    `rows` includes the `missing` and the `infinite` ones. `parts` are the same cells for each bucket of
    time, in time's order: of `numbers.counts`, or of the categories in their order and then `other`.
    Empty where the rows have no time.
    """

    kind: ColumnKind
    rows: int
    missing: int = 0
    infinite: int = 0
    numbers: Numbers | None = None
    categories: Categories | None = None
    parts: tuple[tuple[int, ...], ...] = ()

    @property
    def values(self) -> int:
        """How many values can be compared: those that are neither missing nor infinite."""
        held = self.numbers or self.categories
        return held.rows if held else 0


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A sample, by column.

    `rows` counts its rows. `since` and `until` bound their times, None for a sample without any (the
    baseline of a bundle). `starts` are when the buckets of time of the columns' `parts` begin.
    """

    rows: int
    columns: Mapping[str, ColumnSummary]
    since: datetime | None = None
    until: datetime | None = None
    starts: tuple[datetime, ...] = ()


def summary_of(profile: Profile) -> Summary:
    """The summary that a bundle's baseline profile holds."""
    columns = {name: _column(column) for name, column in profile.columns.items()}
    return Summary(rows=profile.rows, columns=columns)


def edges_of(summary: Summary) -> dict[str, tuple[float, ...]]:
    """The edges of a summary's numeric columns: another sample must be counted between the same ones."""
    return {
        name: column.numbers.edges for name, column in summary.columns.items() if column.numbers
    }


def categories_of(summary: Summary) -> dict[str, tuple[str, ...]]:
    """The named categories of a summary's columns, which another sample must be counted by."""
    return {
        name: tuple(column.categories.counts)
        for name, column in summary.columns.items()
        if column.categories
    }


def _column(profile: ColumnProfile) -> ColumnSummary:
    return ColumnSummary(
        kind=profile.kind,
        rows=profile.count,
        missing=profile.missing,
        infinite=profile.numeric.infinite if profile.numeric else 0,
        numbers=_numbers(profile),
        categories=_categories(profile),
    )


def _numbers(profile: ColumnProfile) -> Numbers | None:
    if (numeric := profile.numeric) is None:
        return None
    return Numbers(
        edges=numeric.histogram.edges,
        counts=(0, *numeric.histogram.counts, 0),
        minimum=numeric.minimum,
        maximum=numeric.maximum,
        mean=numeric.mean,
        std=numeric.std,
    )


def _categories(profile: ColumnProfile) -> Categories | None:
    if profile.categories is None:
        return None
    return Categories(counts=profile.categories, other=profile.other)
