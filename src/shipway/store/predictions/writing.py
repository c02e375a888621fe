"""Tables as Parquet files: zstd, and for each column the encoding that makes it smallest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shipway.core.errors import StoreUnavailable
from shipway.store.objects.faults import translated_faults
from shipway.store.predictions.tables import in_order

ROW_GROUP_ROWS = 131_072
_GROUP_BYTES = 64 * 1024 * 1024
"""Of the rows in memory: with hundreds of columns, a row group has fewer rows."""

_SAMPLE_ROWS = 16_384
_LEAST_SAMPLE = 2048
"""Of fewer rows no column's encodings are compared: the file is small, and merged soon."""

_OPTIONS: dict[str, Any] = {"compression": "zstd", "compression_level": 3}
_USUAL = {
    "_at": "DELTA_BINARY_PACKED",
    "_arrived": "DELTA_BINARY_PACKED",
    "_request_id": "DELTA_LENGTH_BYTE_ARRAY",
}


def write_table(table: pa.Table, path: Path) -> None:
    """Writes the rows as one file."""
    write_tables([table], path)


def write_tables(tables: Iterable[pa.Table], path: Path) -> None:
    """Writes tables of one schema, of which there is at least one, as one file.

    In memory is one row group at a time; its rows are put in the order of `_at`.

    Raises:
        StoreUnavailable: it cannot be written, or what is merged cannot be read.
    """
    groups = _row_groups(tables)
    first = next(groups)
    encodings = _encodings(first)
    with (
        translated_faults(str(path.parent)),
        pq.ParquetWriter(path, first.schema, **_OPTIONS, **encodings) as writer,
    ):
        writer.write_table(first, row_group_size=ROW_GROUP_ROWS)
        for group in groups:
            writer.write_table(group, row_group_size=ROW_GROUP_ROWS)


def batches_of(paths: Iterable[Path], schema: pa.Schema | None = None) -> Iterator[pa.Table]:
    """The rows of files in turn, a bounded part of them at a time.

    With a `schema`, columns of it that a file does not have are null.

    Raises:
        StoreUnavailable: one of them is damaged, or cannot be read.
    """
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group)
                    yield table if schema is None else _completed(table, schema)
        except (pa.ArrowException, OSError) as exc:
            reason = (str(exc).splitlines() or [type(exc).__name__])[0][:300].rstrip(".")
            raise StoreUnavailable(
                f"File `{path}` of the prediction log cannot be read: {reason}.",
                next_step="Put it back from a backup.",
            ) from exc


def _completed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    kept: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        kept.append(table)
        rows, size = rows + len(table), size + table.nbytes
        if rows >= ROW_GROUP_ROWS or size >= _GROUP_BYTES:
            yield in_order(pa.concat_tables(kept))
            kept, rows, size = [], 0, 0
    if kept:
        yield in_order(pa.concat_tables(kept))


def _encodings(table: pa.Table) -> dict[str, Any]:
    """What the writer is told of the columns: which have a dictionary, and how the others are encoded."""
    sample = table.slice(0, _SAMPLE_ROWS)
    best = {
        _leaf(field): name
        for field in table.schema
        if (
            name := _best(sample.select([field.name]))
            if len(sample) >= _LEAST_SAMPLE
            else _USUAL.get(field.name)
        )
        is not None
    }
    with_dictionary = [_leaf(field) for field in table.schema if _leaf(field) not in best]
    return {"use_dictionary": with_dictionary or False, "column_encoding": best or None}


def _best(column: pa.Table) -> str | None:
    """The encoding that makes a column smallest; None for a dictionary."""
    field = column.schema.field(0)
    named = {
        name: _size(column, _leaf(field), name) for name in (None, *_encodings_for(field.type))
    }
    return min(named, key=lambda name: named[name])


def _size(column: pa.Table, leaf: str, encoding: str | None) -> int:
    sink = pa.BufferOutputStream()
    chosen = {"column_encoding": {leaf: encoding}} if encoding else {}
    pq.write_table(column, sink, use_dictionary=encoding is None, **_OPTIONS, **chosen)
    return int(sink.tell())


def _leaf(field: pa.Field) -> str:
    """The name of a column's values inside the file."""
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)


def _encodings_for(kind: pa.DataType) -> tuple[str, ...]:
    kind = kind.value_type if pa.types.is_list(kind) else kind
    if pa.types.is_floating(kind):
        return ("PLAIN", "BYTE_STREAM_SPLIT")
    if pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
        return ("PLAIN", "DELTA_BINARY_PACKED")
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return ("PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY")
    return ()
