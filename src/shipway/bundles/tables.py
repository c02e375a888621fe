"""Arrow tables become columns: the one place that says how nulls and types of a file are read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shipway.core.errors import InvalidRequest
from shipway.core.tensors import Array


def columns_of(table: pa.Table, *, drop: Iterable[str], origin: str) -> dict[str, Array]:
    """The columns of a table as 1-D arrays, in order, without `drop` and without a frame's index.

    Integers and booleans with nulls become FP64 with NaN, dates and times ISO text. `origin` names
    the table in errors.

    Raises:
        InvalidRequest: no rows or columns, a name twice, a name in `drop` that is not there, or a
            column whose type is no model input (lists, structs).
    """
    names = table.column_names
    _check_names(names, drop=set(drop), origin=origin)
    kept = [name for name in names if name not in set(drop) and not _is_index(name)]
    if table.num_rows == 0 or not kept:
        what = "rows" if table.num_rows == 0 else "columns"
        raise InvalidRequest(
            f"{origin} has no {what}.", next_step="Give at least one row of the model's inputs."
        )
    return {name: _array(table.column(name), name=name, origin=origin) for name in kept}


def _is_index(name: str) -> bool:
    # What pandas writes for a frame's own index: a nameless CSV column, a reserved Parquet name.
    return name == "" or (name.startswith("__index_level_") and name.endswith("__"))


def _check_names(names: list[str], *, drop: set[str], origin: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidRequest(
            f"{origin} has the column `{twice}` twice.", next_step="Rename one of them."
        )
    missing = sorted(drop - set(names))
    if missing:
        raise InvalidRequest(
            f"{origin} has no column `{missing[0]}` to drop.",
            next_step=f"Its columns are: {', '.join(f'`{name}`' for name in names[:30])}.",
        )


def _array(column: pa.ChunkedArray, *, name: str, origin: str) -> Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _array(column.cast(kind.value_type), name=name, origin=origin)
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_decimal(kind):
        column, kind = column.cast(pa.float64()), pa.float64()
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind):
        return _numbers(column)
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        return _objects(pc.cast(column, pa.string()))
    if _is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _objects(column)
    raise InvalidRequest(
        f"Column `{name}` of {origin} has the type `{kind}`, which is no column of a model's inputs.",
        next_step="Drop it, or give tensors as `.npy` or `.npz`.",
        column=name,
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _numbers(column: pa.ChunkedArray) -> Array:
    if column.null_count and not pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
    array: Array = column.to_numpy()
    return np.ascontiguousarray(array)


def _objects(column: pa.ChunkedArray) -> Array:
    array = np.empty(len(column), dtype=object)
    array[:] = column.to_pylist()
    return array
