"""Summaries of logged predictions: counted by DuckDB in a few scans, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import msgspec
import numpy as np

from shipway.core.drift.summaries import (
    ColumnSummary,
    Summary,
    categories_of,
    edges_of,
    summary_of,
)
from shipway.core.profile import ColumnKind, Profile, column_profile
from shipway.core.tensors import Array
from shipway.monitoring.columns import Column, expression_of, is_there, types_of
from shipway.monitoring.counting import (
    Count,
    count_of_categories,
    count_of_numbers,
    summary_of_column,
)

BUCKETS = 24
"""Into how many buckets of time a window is split: hours of a day."""

COLUMNS_AT_ONCE = 100
"""How many columns one scan counts: its aggregates need memory."""

SAMPLED_ROWS = 20_000
STRANGERS = 5

_IN_WINDOW = "_at >= $since AND _at < $until"


class Cells(msgspec.Struct, frozen=True, kw_only=True):
    """What values are counted by: the edges of numeric columns and the categories of others, by name."""

    edges: Mapping[str, tuple[float, ...]] = {}
    categories: Mapping[str, tuple[str, ...]] = {}


def cells_of(summary: Summary) -> Cells:
    """What a baseline was counted by, so that another sample can be counted alike."""
    return Cells(edges=edges_of(summary), categories=categories_of(summary))


def chosen_cells(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[Column],
    *,
    since: datetime,
    until: datetime,
) -> Cells:
    """Cells for a sample that has none yet, chosen from at most 20,000 of its rows.

    They need not be exact: a test is right whatever the edges are, and best where the bins are about
    equally full. The same rows give the same cells.
    """
    found: dict[str, Any] = {}
    for some, kinds in _scans(connection, columns):
        for column, values in zip(
            some, _sampled(connection, some, kinds, since, until), strict=True
        ):
            found[column.name] = column_profile(values)
    return cells_of(summary_of(Profile(rows=SAMPLED_ROWS, columns=found)))


def summarised(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[Column],
    cells: Cells,
    *,
    since: datetime,
    until: datetime,
) -> Summary:
    """The summary of the predictions from `since` up to `until`, both aware, a scan for each 100 columns.

    Columns that the view or `cells` lacks are left out. Memory does not grow with the rows.
    """
    width = max((until - since) / BUCKETS, timedelta(microseconds=1))
    rows, found = 0, dict[str, ColumnSummary]()
    for some, kinds in _scans(connection, [c for c in columns if _is_counted(c, cells)]):
        counts = [
            _count(column, kind, cells, alias=f"c{at}")
            for at, (column, kind) in enumerate(zip(some, kinds, strict=True))
        ]
        held = connection.execute(
            _query(counts), {"since": since, "until": until, **_steps(since, width)}
        ).fetchall()
        rows = sum(each[1] for each in held)
        found |= dict(_read(counts, held))
    return Summary(
        rows=rows,
        columns=found,
        since=since,
        until=until,
        starts=tuple(since + width * at for at in range(BUCKETS)),
    )


def strangers(
    connection: duckdb.DuckDBPyConnection,
    column: Column,
    known: Sequence[str],
    *,
    since: datetime,
    until: datetime,
) -> tuple[str, ...]:
    """About the five most frequent values of a text column that are not among the known ones."""
    value = expression_of(column, types_of(connection)[column.source])
    (names,) = connection.execute(
        f"SELECT approx_top_k(value, {STRANGERS}) FROM (SELECT {value} AS value FROM predictions "
        f"WHERE {_IN_WINDOW}) WHERE NOT list_contains($known, value)",
        {"since": since, "until": until, "known": list(known)},
    ).fetchall()[0]
    return tuple(names or ())


def _scans(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[Column]
) -> Iterator[tuple[tuple[Column, ...], tuple[str, ...]]]:
    types = types_of(connection)
    there = [column for column in columns if is_there(column, types)]
    for at in range(0, len(there), COLUMNS_AT_ONCE):
        some = tuple(there[at : at + COLUMNS_AT_ONCE])
        yield some, tuple(types[column.source] for column in some)


def _is_counted(column: Column, cells: Cells) -> bool:
    return column.name in (cells.edges if column.kind is ColumnKind.NUMERIC else cells.categories)


def _count(column: Column, kind: str, cells: Cells, *, alias: str) -> Count:
    if column.kind is ColumnKind.NUMERIC:
        return count_of_numbers(column, kind, alias=alias, edges=cells.edges[column.name])
    categories = cells.categories[column.name]
    return count_of_categories(column, kind, alias=alias, categories=categories)


def _query(counts: Sequence[Count]) -> str:
    aggregates = ", ".join(each for count in counts for each in count.aggregates)
    projected = ", ".join(count.projected for count in counts)
    bucket = f"least((epoch_us(_at) - $start) // $step, {BUCKETS - 1})"
    return (
        f"SELECT bucket, count(*), {aggregates} FROM (SELECT {bucket} AS bucket, {projected} "
        f"FROM predictions WHERE {_IN_WINDOW}) GROUP BY bucket ORDER BY bucket"
    )


def _steps(since: datetime, width: timedelta) -> dict[str, int]:
    epoch, micro = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
    return {"start": (since - epoch) // micro, "step": width // micro}


def _read(
    counts: Sequence[Count], held: Sequence[Sequence[Any]]
) -> Iterator[tuple[str, ColumnSummary]]:
    rows, at = [each[1] for each in held], 2
    for count in counts:
        upto = at + len(count.aggregates)
        values = [(each[0], *each[at:upto]) for each in held]
        yield count.column.name, summary_of_column(count, rows, values, buckets=BUCKETS)
        at = upto


def _sampled(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[Column],
    kinds: Sequence[str],
    since: datetime,
    until: datetime,
) -> Iterator[Array]:
    values = ", ".join(
        f"{expression_of(column, kind)} AS c{at}"
        for at, (column, kind) in enumerate(zip(columns, kinds, strict=True))
    )
    found = connection.execute(
        f"SELECT * FROM (SELECT {values} FROM predictions WHERE {_IN_WINDOW}) "
        f"USING SAMPLE reservoir({SAMPLED_ROWS} ROWS) REPEATABLE (7)",
        {"since": since, "until": until},
    ).fetchnumpy()
    for at, column in enumerate(columns):
        yield _plain(found[f"c{at}"], column.kind)


def _plain(values: Array, kind: ColumnKind) -> Array:
    """Missing values as column profiles know them: NaN among numbers, None among texts."""
    if kind is ColumnKind.NUMERIC:
        numbers: Array = np.ma.filled(values.astype(np.float64), np.nan)
        return numbers
    texts = np.array(np.ma.getdata(values), dtype=object)
    texts[np.ma.getmaskarray(values)] = None
    return texts
