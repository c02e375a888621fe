"""Summaries of logged predictions: read by DuckDB in a few scans, counted batch by batch, in bounded memory.

DuckDB could count by itself, with `histogram` and a GROUP BY; this takes a third of its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

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
from shipway.monitoring.columns import Column, Typed, code_of, is_single, typed, value_of
from shipway.monitoring.tallies import CategoryTally, NumberTally, Tally

BUCKETS = 24
"""Into how many buckets of time a window is split: hours of a day."""

COLUMNS_AT_ONCE = 100
BATCH_ROWS = 50_000
"""Both bound the memory of a scan: 20 MB of single-precision floats."""

SAMPLED_ROWS = 20_000
STRANGERS = 5

_IN_WINDOW = "_at >= $since AND _at < $until"
_EPOCH, _MICRO = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


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
    equally full.
    """
    found = {}
    for some in _scans(typed(connection, columns)):
        listed = ", ".join(f"{value_of(each)} AS c{at}" for at, each in enumerate(some))
        sample = connection.execute(
            f"SELECT * FROM (SELECT {listed} FROM predictions WHERE {_IN_WINDOW}) "
            f"USING SAMPLE reservoir({SAMPLED_ROWS} ROWS) REPEATABLE (7)",
            {"since": since, "until": until},
        ).fetchnumpy()
        for at, each in enumerate(some):
            kind = each.column.kind
            found[each.column.name] = column_profile(_plain(sample[f"c{at}"], kind))
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
    width = max((until - since) / BUCKETS, _MICRO)
    found: dict[str, ColumnSummary] = {}
    counted = [column for column in columns if _is_counted(column, cells)]
    for some in _scans(typed(connection, counted)):
        tallies = [_tally(each, cells) for each in some]
        _add(tallies, connection, _query(some, cells, since, width), since=since, until=until)
        found |= {
            each.column.name: tally.summary() for each, tally in zip(some, tallies, strict=True)
        }
    return Summary(
        rows=_rows(connection, since=since, until=until),
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
    found = [value_of(each) for each in typed(connection, [column])]
    if not found:
        return ()
    (names,) = connection.execute(
        f"SELECT approx_top_k(value, {STRANGERS}) FROM (SELECT {found[0]} AS value FROM predictions "
        f"WHERE {_IN_WINDOW}) WHERE NOT list_contains($known, value)",
        {"since": since, "until": until, "known": list(known)},
    ).fetchall()[0]
    return tuple(names or ())


def _scans(columns: Sequence[Typed]) -> Iterator[Sequence[Typed]]:
    for at in range(0, len(columns), COLUMNS_AT_ONCE):
        yield columns[at : at + COLUMNS_AT_ONCE]


def _is_counted(column: Column, cells: Cells) -> bool:
    return column.name in (cells.edges if column.kind is ColumnKind.NUMERIC else cells.categories)


def _tally(typed: Typed, cells: Cells) -> Tally:
    column = typed.column
    if column.kind is ColumnKind.NUMERIC:
        edges = cells.edges[column.name]
        return NumberTally(edges, is_single=is_single(typed), buckets=BUCKETS)
    return CategoryTally(cells.categories[column.name], kind=column.kind, buckets=BUCKETS)


def _query(columns: Sequence[Typed], cells: Cells, since: datetime, width: timedelta) -> str:
    start, step = (since - _EPOCH) // _MICRO, width // _MICRO
    bucket = f"least((epoch_us(_at) - {start}) // {step}, {BUCKETS - 1})::INTEGER"
    values = [code_of(each, cells.categories.get(each.column.name, ())) for each in columns]
    return f"SELECT {', '.join([bucket, *values])} FROM predictions WHERE {_IN_WINDOW}"


def _add(
    tallies: Sequence[Tally],
    connection: duckdb.DuckDBPyConnection,
    query: str,
    *,
    since: datetime,
    until: datetime,
) -> None:
    reader = connection.execute(query, {"since": since, "until": until}).to_arrow_reader(BATCH_ROWS)
    for batch in reader:
        # The expressions leave no NULL, so no value is copied.
        buckets, *values = (column.to_numpy() for column in batch.columns)
        for tally, column in zip(tallies, values, strict=True):
            tally.add(buckets, column)


def _rows(connection: duckdb.DuckDBPyConnection, *, since: datetime, until: datetime) -> int:
    query = f"SELECT count(*) FROM predictions WHERE {_IN_WINDOW}"
    return int(connection.execute(query, {"since": since, "until": until}).fetchall()[0][0])


def _plain(values: Array, kind: ColumnKind) -> Array:
    """Missing values as column profiles know them: NaN among numbers, None among texts."""
    if kind is ColumnKind.NUMERIC:
        numbers: Array = np.ma.filled(values.astype(np.float64), np.nan)
        return numbers
    texts = np.array(np.ma.getdata(values), dtype=object)
    texts[np.ma.getmaskarray(values)] = None
    return texts
