"""Rows and columns of plain values, as JSON and CSV have them, become a model's named arrays.

What the dialects without typed tensors share. Values keep their natural kind here: the validator of
the signature decides what is allowed, and names the column and the row.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from shipway.core.errors import InvalidRequest
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import Array

_decoder = msgspec.json.Decoder()
_NOT_FINITE = (b"NaN", b"Infinity")
_BASE64 = "b64"


def json_of(body: bytes) -> Any:
    """The value of a JSON body.

    `NaN` and `Infinity`, which Python's own `json` writes and RFC 8259 has not, are read too.

    Raises:
        InvalidRequest: it is not JSON; the byte is named.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        if any(word in body for word in _NOT_FINITE):
            return _lenient(body)
        raise InvalidRequest(f"The body is not JSON: {exc}.", position=str(exc)) from exc


def _lenient(body: bytes) -> Any:
    try:
        value = json.loads(body)
        if b"\\ud" in body.lower():  # half a pair of surrogates is no text, and cannot be answered
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest(f"The body is not JSON: {exc}.", position=str(exc)) from exc


def object_of(body: bytes) -> dict[str, Any]:
    """The JSON object of a body, `{"b64": …}` within it replaced by the bytes that it stands for.

    Raises:
        InvalidRequest: it is not JSON, not an object, or holds malformed base64.
    """
    value = json_of(body)
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.", path="$")
    return with_bytes(value) if b'"b64"' in body else value


def with_bytes(value: Any) -> Any:
    """The value, each `{"b64": …}` in it replaced by its bytes.

    Raises:
        InvalidRequest: malformed base64.
    """
    if isinstance(value, list):
        return [with_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and isinstance(value.get(_BASE64), str):
        try:
            return base64.b64decode(value[_BASE64], validate=True)
        except (binascii.Error, ValueError) as exc:
            raise InvalidRequest(f"A `b64` value is not base64: {exc}.", path=_BASE64) from exc
    return {name: with_bytes(item) for name, item in value.items()}


def inputs_of_rows(rows: Any, signature: Signature) -> dict[str, Array]:
    """The inputs that a list of rows stands for.

    A row is an object of values by input name, a list of values in the order of the signature's
    columns, or the value itself when there is one input. A model of one matrix takes rows by
    any names too, in their order.

    Raises:
        InvalidRequest: no list, an empty one, or rows that differ in kind or length.
    """
    if not isinstance(rows, list) or not rows:
        raise InvalidRequest("Rows must be a list of at least one row.", path="instances")
    named = [isinstance(row, dict) for row in rows]
    if all(named):
        names = list(dict.fromkeys(name for row in rows for name in row))
        columns = [array_of([row.get(name) for row in rows], name) for name in names]
        return inputs_of_table(names, columns, signature)
    if any(named):
        raise InvalidRequest("Some rows are objects and some are not.", path="instances")
    if len(signature.inputs) == 1:
        only = signature.inputs[0].name
        return {only: array_of(rows, only)}
    return _by_position(rows, signature)


def inputs_of_columns(columns: Any, signature: Signature) -> dict[str, Array]:
    """The inputs that an object of columns or tensors stands for; a bare list is the only input.

    Raises:
        InvalidRequest: neither, or ragged.
    """
    if isinstance(columns, dict):
        arrays = [array_of(values, name) for name, values in columns.items()]
        return inputs_of_table(list(columns), arrays, signature)
    if isinstance(columns, list):
        return inputs_of_rows(columns, signature)
    raise InvalidRequest("Inputs must be an object of columns, or a list.", path="inputs")


def inputs_of_split(frame: Any, signature: Signature) -> dict[str, Array]:
    """The inputs of a frame as pandas' `split` orientation has it: `{"columns", "data"}`.

    Without `columns`, the values are in the order of the signature's.

    Raises:
        InvalidRequest: it is not of that form.
    """
    if not isinstance(frame, dict) or not isinstance(frame.get("data"), list):
        raise InvalidRequest(
            'A split frame is {"columns": […], "data": [[…], …]}.', path="dataframe_split"
        )
    names = frame.get("columns")
    if names is None:
        return inputs_of_rows(frame["data"], signature)
    if not isinstance(names, list):
        raise InvalidRequest("`columns` must be a list.", path="dataframe_split.columns")
    names = [str(name) for name in names]
    require_distinct(names)
    rows = _equal_rows(frame["data"], len(names))
    columns = [array_of([row[at] for row in rows], name) for at, name in enumerate(names)]
    return inputs_of_table(names, columns, signature)


def inputs_of_table(
    names: Sequence[str], columns: Sequence[Array], signature: Signature
) -> dict[str, Array]:
    """The inputs that named columns stand for: themselves, or the columns of the only matrix.

    Raises:
        InvalidRequest: columns of a matrix differ in length.
    """
    matrix = matrix_of(signature)
    is_matrix = list(names) == [getattr(matrix, "name", None)] and columns[0].ndim != 1
    if matrix is None or is_matrix or matrix.shape[1] not in (-1, len(names)):
        return dict(zip(names, columns, strict=True))
    if any(column.ndim != 1 or len(column) != len(columns[0]) for column in columns):
        raise InvalidRequest("The columns differ in their numbers of rows.", path="columns")
    return {matrix.name: np.stack(columns, axis=1)}


def matrix_of(signature: Signature) -> Field | None:
    """The only input of a model that takes one numeric matrix [rows, features], else None."""
    fields = signature.inputs
    if signature.layout is Layout.COLUMNS or len(fields) != 1:
        return None
    only = fields[0]
    return only if len(only.shape) == 2 and only.dtype.is_numeric else None


def require_distinct(names: Sequence[str]) -> None:
    """Refuses a column that is there twice.

    Raises:
        InvalidRequest: one is; it is named.
    """
    if len(set(names)) != len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise InvalidRequest(f"Column `{twice}` appears twice.", path="columns", name=twice)


def array_of(values: Any, name: str) -> Array:
    """The array of nested lists of JSON values; text, nulls and mixed kinds make an object array.

    Raises:
        InvalidRequest: the lists are ragged.
    """
    try:
        # Text first to objects: numpy would make every element as wide as the longest of them.
        if holds_text(values):
            return np.array(values, dtype=object)
        return np.array(values)
    except (ValueError, OverflowError) as exc:
        raise InvalidRequest(
            f"The values of `{name}` are ragged: {exc}.", path=f"inputs.{name}", name=name
        ) from exc


def holds_text(value: Any) -> bool:
    """Whether text or bytes are among the values of nested lists."""
    if isinstance(value, list):
        return any(map(holds_text, value))
    return isinstance(value, str | bytes)


def _by_position(rows: list[Any], signature: Signature) -> dict[str, Array]:
    fields = signature.inputs
    if signature.layout is not Layout.COLUMNS:
        raise InvalidRequest(
            f"The model has {len(fields)} tensors; a row must name them.",
            next_step=f"Send objects with {', '.join(f'`{f.name}`' for f in fields)}.",
            path="instances",
        )
    rows = _equal_rows(rows, len(fields))
    return {f.name: array_of([row[at] for row in rows], f.name) for at, f in enumerate(fields)}


def _equal_rows(rows: list[Any], width: int) -> list[list[Any]]:
    for at, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width:
            size = f"{len(row)} values" if isinstance(row, list) else "no list"
            raise InvalidRequest(f"Row {at} is {size}; it must be {width} values.", row=at)
    return rows


def one_row(values: Mapping[str, Any], signature: Signature) -> dict[str, Array]:
    """The inputs of one row whose values are named, each with or without the dimension of rows.

    Raises:
        InvalidRequest: ragged.
    """
    ranks = {field.name: len(field.shape) for field in signature.inputs}
    inputs: dict[str, Array] = {}
    for name, value in values.items():
        array = array_of(value, name)
        inputs[name] = array[np.newaxis] if array.ndim < ranks.get(name, 1) else array
    return inputs
