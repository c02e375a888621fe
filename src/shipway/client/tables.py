"""What people hold (frames, arrays, dicts, records) as the named arrays that an endpoint takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.client.answers import TensorInfo
from shipway.core.errors import InvalidRequest
from shipway.core.tensors import NUMPY_OF, Array, DataType

_NEXT_STEP = "Pass a DataFrame, a numpy array, a dict of columns, or a list of records."


def inputs_of(data: Any, expected: Sequence[TensorInfo]) -> dict[str, Array]:
    """The arrays to send for `data`, in the dtypes that the endpoint expects where that loses nothing.

    A bare array feeds the only input, or is split by column when the endpoint takes as many columns
    as the array is wide. Names that the endpoint does not know are sent too: it answers for them.

    Raises:
        InvalidRequest: `data` is of a kind that has no meaning here, or its columns differ in length.
    """
    named = _named(data, expected)
    kinds = {info.name: DataType(info.datatype) for info in expected}
    return {name: _as_kind(_array(name, value), kinds.get(name)) for name, value in named.items()}


def _named(data: Any, expected: Sequence[TensorInfo]) -> dict[str, Any]:
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        return {str(name): data[name].to_numpy() for name in data.columns}
    if isinstance(data, Mapping):
        return {str(name): value for name, value in data.items()}
    if isinstance(data, np.ndarray):
        return _from_array(data, expected)
    if isinstance(data, Sequence) and not isinstance(data, str | bytes) and len(data) > 0:
        if all(isinstance(row, Mapping) for row in data):
            return _from_records(data)
        return _from_array(_array("data", data), expected)
    if isinstance(data, Sequence) and len(data) == 0:
        raise InvalidRequest("There are no rows to predict.", next_step=_NEXT_STEP)
    raise InvalidRequest(f"`{type(data).__name__}` is not data to predict.", next_step=_NEXT_STEP)


def _from_records(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {str(name): [row.get(name) for row in rows] for name in names}


def _from_array(array: Array, expected: Sequence[TensorInfo]) -> dict[str, Any]:
    if len(expected) == 1:
        only = expected[0]
        as_row = array.ndim == 1 and len(only.shape) == 2
        return {only.name: array[np.newaxis, :] if as_row else array}
    table = np.atleast_2d(array)
    if table.ndim == 2 and table.shape[1] == len(expected):
        return {info.name: table[:, index] for index, info in enumerate(expected)}
    raise InvalidRequest(
        f"An array of shape {list(array.shape)} does not fit {len(expected)} inputs.",
        next_step="Pass a dict with one array per input: "
        + ", ".join(f"`{info.name}`" for info in expected[:20])
        + ".",
    )


def _array(name: str, value: Any) -> Array:
    if np.isscalar(value) or value is None:
        value = [value]
    try:
        array = np.asarray(value)
    except ValueError as exc:
        raise InvalidRequest(
            f"`{name}` is not a rectangular array: {exc}.", next_step=_NEXT_STEP, column=name
        ) from exc
    return _nulls_as_none(array) if array.dtype.kind in "OUS" else array


def _nulls_as_none(array: Array) -> Array:
    """An object array in which NaN, pandas' NA and NaT are None (they alone differ from themselves)."""
    flat = [None if _is_null(item) else item for item in array.ravel()]
    result = np.empty(len(flat), dtype=object)
    result[:] = flat
    return result.reshape(array.shape)


def _is_null(item: Any) -> bool:
    if item is None or type(item).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(item, float) and item != item


def _as_kind(array: Array, kind: DataType | None) -> Array:
    """The array in the expected dtype when no value changes; unchanged otherwise (the gateway says why)."""
    if kind is None or array.dtype == NUMPY_OF[kind]:
        return _settled(array)
    if not kind.is_numeric:
        return array.astype(object) if array.dtype.kind in "US" else array
    if array.dtype.kind == "O":
        return _numbers(array, kind)
    cast = array.astype(NUMPY_OF[kind], casting="unsafe") if array.dtype.kind in "biuf" else array
    return cast if cast is not array and _same(cast, array, kind) else array


def _same(cast: Array, array: Array, kind: DataType) -> bool:
    if kind.is_float:
        return True
    with np.errstate(invalid="ignore"):
        return bool(np.array_equal(cast, array))


def _numbers(array: Array, kind: DataType) -> Array:
    if any(isinstance(item, str | bytes) for item in array.ravel()):
        return array
    if kind.is_float:
        return array.astype(NUMPY_OF[kind])
    nullless = all(item is not None for item in array.ravel())
    return array.astype(NUMPY_OF[kind]) if nullless else array.astype(np.float64)


def _settled(array: Array) -> Array:
    """An object array of plain numbers as the numbers' own dtype."""
    if array.dtype.kind != "O":
        return array
    items = [item for item in array.ravel() if item is not None]
    if items and all(isinstance(item, bool | int | float) for item in items):
        return array.astype(np.float64) if len(items) < array.size else np.array(array.tolist())
    return array
