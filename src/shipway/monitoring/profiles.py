"""Summaries of logged predictions: counted by DuckDB in a few scans, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import duckdb
import msgspec

from shipway.core.drift.summaries import Summary
from shipway.core.profile import ColumnKind


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column of the view `predictions` that is summarised, as `name` in the summary.

    `source` is the view's column. `element` picks one of its values (from 0) where it holds a list.
    """

    name: str
    source: str
    kind: ColumnKind
    element: int | None = None


class Cells(msgspec.Struct, frozen=True, kw_only=True):
    """What values are counted by: the edges of numeric columns and the categories of others, by name."""

    edges: Mapping[str, tuple[float, ...]] = {}
    categories: Mapping[str, tuple[str, ...]] = {}


def cells_of(summary: Summary) -> Cells:
    """What a baseline was counted by, so that another sample can be counted alike."""
    raise NotImplementedError


def chosen_cells(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[Column],
    *,
    since: datetime,
    until: datetime,
) -> Cells:
    """Cells for a sample that has none yet, chosen from at most 20,000 of its rows."""
    raise NotImplementedError


def summarised(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[Column],
    cells: Cells,
    *,
    since: datetime,
    until: datetime,
) -> Summary:
    """The summary of the predictions from `since` up to `until`, both aware, in one scan.

    A column of which the view has nothing is left out.
    """
    raise NotImplementedError
