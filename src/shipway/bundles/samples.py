"""Samples: example inputs of a model, read from a file or taken from a value in memory."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet

from shipway.bundles.formats.port import Sample
from shipway.bundles.tables import columns_of
from shipway.core.errors import InvalidRequest
from shipway.core.tensors import Array, data_type_of

MATRIX = "X"
"""The name of the one input of a sample without names."""

_EXAMPLE_ROWS = 8
_EXAMPLE_VALUES = 200_000
_READABLE = "Give a CSV, Parquet, JSON (records), `.npy` or `.npz` file."


def read_sample(path: Path, *, drop: Sequence[str] = ()) -> Sample:
    """The sample in a CSV, Parquet, JSON, `.npy` or `.npz` file, told apart by content.

    `drop` names columns that are no inputs, such as the target. JSON may be records, an object of
    columns, a matrix, or one record per line.

    Raises:
        InvalidRequest: it is missing, empty, ragged, damaged, or of another kind.
    """
    content = _content(path)
    origin = f"Sample `{path}`"
    try:
        if content.startswith(b"PAR1"):
            value: Any = parquet.read_table(pa.BufferReader(content))
        elif content.startswith((b"\x93NUMPY", b"PK\x03\x04")):
            value = _numpy(content)
        else:
            value = _text(content, origin=origin)
    except (pa.ArrowException, OSError, EOFError, ValueError, BadZipFile) as exc:
        raise InvalidRequest(
            f"{origin} cannot be read: {_one_line(exc)}.", next_step=_READABLE, path=str(path)
        ) from exc
    sample = _sample(value, drop=drop, origin=origin)
    return msgspec.structs.replace(sample, source=str(path), sha256=sha256(content).hexdigest())


def sample_of(value: object, *, drop: Sequence[str] = ()) -> Sample:
    """The sample in a pandas or polars frame, an Arrow table, an array, a dict or a list of records.

    A dict of 1-D arrays is a table; with a higher dimension in it, it is named tensors. A bare
    array is the tensor `X`.

    Raises:
        InvalidRequest: it has no rows, differing row counts, or a type that no model takes.
    """
    return _sample(value, drop=drop, origin="The sample")


def example_rows(sample: Sample) -> dict[str, Array]:
    """Up to 8 rows of a sample as the examples of a bundle, fewer when rows are large.

    Rows with an infinite number are passed over where others exist: JSON cannot hold them.
    """
    usable = np.ones(sample.rows, dtype=bool)
    for array in sample.inputs.values():
        if array.dtype.kind == "f":
            usable &= ~np.isinf(array).reshape(sample.rows, -1).any(axis=1)
    sizes = (array.size // sample.rows for array in sample.inputs.values())
    most = max(1, min(_EXAMPLE_ROWS, _EXAMPLE_VALUES // max(1, sum(sizes))))
    chosen = np.flatnonzero(usable)[:most] if usable.any() else np.arange(1)
    return {name: array[chosen] for name, array in sample.inputs.items()}


def delimiter_of(first_line: bytes) -> str:
    """What parts the columns of a CSV file: of comma, semicolon and tab the most frequent in its first line."""
    return max((",", ";", "\t"), key=lambda mark: first_line.count(mark.encode()))


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise InvalidRequest(
            f"Sample `{path}` cannot be read: {exc.strerror}.", next_step=_READABLE, path=str(path)
        ) from exc
    if not content.strip():
        raise InvalidRequest(f"Sample `{path}` is empty.", next_step=_READABLE, path=str(path))
    return content


def _numpy(content: bytes) -> object:
    loaded = np.load(io.BytesIO(content), allow_pickle=False)
    return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded}


def _text(content: bytes, *, origin: str) -> object:
    if b"\0" in content[:4096]:
        raise InvalidRequest(f"{origin} is a binary file of no known kind.", next_step=_READABLE)
    if content.lstrip()[:1] in b"[{":
        return _json(content)
    return _csv(content)


def _json(content: bytes) -> object:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError:
        lines = content.splitlines()
        if len(lines) < 2 or not lines[0].rstrip().endswith(b"}"):
            raise
        return [msgspec.json.decode(line) for line in lines if line.strip()]


def _csv(content: bytes) -> pa.Table:
    table = _csv_table(content, {})
    # Dates stay the text they were: a model that takes dates as text saw the file's own spelling.
    dates = {field.name: pa.string() for field in table.schema if pa.types.is_temporal(field.type)}
    return _csv_table(content, dates) if dates else table


def _csv_table(content: bytes, types: dict[str, pa.DataType]) -> pa.Table:
    delimiter = delimiter_of(content.split(b"\n", 1)[0])
    return csv.read_csv(
        pa.BufferReader(content),
        parse_options=csv.ParseOptions(delimiter=delimiter),
        convert_options=csv.ConvertOptions(
            column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )


def _sample(value: object, *, drop: Sequence[str], origin: str) -> Sample:
    if isinstance(value, Sample):
        return _without(value, drop=drop, origin=origin)
    if isinstance(value, np.ndarray) and value.dtype.names is None:
        return _tensors({MATRIX: value}, drop=drop, origin=origin)
    if isinstance(value, Mapping):
        arrays = {str(name): _array_of(item, name=name) for name, item in value.items()}
        if any(array.ndim != 1 for array in arrays.values()):
            return _tensors(arrays, drop=drop, origin=origin)
        _check_rows(arrays, origin=origin)
        return Sample(inputs=_dropped(arrays, drop=drop, origin=origin), is_table=True)
    if isinstance(value, list) and not (value and isinstance(value[0], Mapping)):
        return _tensors({MATRIX: _array_of(value, name=MATRIX)}, drop=drop, origin=origin)
    return Sample(
        inputs=columns_of(_table(value, origin=origin), drop=drop, origin=origin), is_table=True
    )


def _without(sample: Sample, *, drop: Sequence[str], origin: str) -> Sample:
    inputs = _dropped(sample.inputs, drop=drop, origin=origin)
    return msgspec.structs.replace(sample, inputs=inputs)


def _dropped(arrays: dict[str, Array], *, drop: Sequence[str], origin: str) -> dict[str, Array]:
    missing = next((name for name in drop if name not in arrays), None)
    if missing is not None:
        raise InvalidRequest(
            f"{origin} has no input `{missing}` to drop.",
            next_step=f"Its inputs are: {', '.join(f'`{name}`' for name in arrays)}.",
        )
    return {name: array for name, array in arrays.items() if name not in drop}


def _array_of(value: object, *, name: object) -> Array:
    """One array of a dict: nulls become NaN or None as in a column, text becomes objects."""
    try:
        # `{"a": {"0": 1, "1": 2}}` is how pandas writes a frame as JSON unless told otherwise.
        value = list(value.values()) if isinstance(value, Mapping) else value
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
        if array.ndim == 1 and array.dtype.kind in "OUMm":
            return columns_of(
                pa.table({str(name): pa.array(list(array))}), drop=(), origin="The sample"
            )[str(name)]
        if array.dtype.kind == "U":
            array = array.astype(object)
        data_type_of(array)
    except (pa.ArrowException, TypeError, ValueError) as exc:
        raise InvalidRequest(
            f"Input `{name}` of the sample is no array of one type: {_one_line(exc)}.",
            next_step="Give numbers, booleans or text, all rows of the same length.",
            column=str(name),
        ) from exc
    return array


def _tensors(arrays: dict[str, Array], *, drop: Sequence[str], origin: str) -> Sample:
    arrays = {
        name: _array_of(array, name=name)
        for name, array in _dropped(arrays, drop=drop, origin=origin).items()
    }
    _check_rows(arrays, origin=origin)
    return Sample(inputs=arrays, is_table=False)


def _check_rows(arrays: dict[str, Array], *, origin: str) -> None:
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if not counts or min(counts.values()) == 0:
        raise InvalidRequest(
            f"{origin} has no rows.", next_step="Give at least one row of the model's inputs."
        )
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"`{name}` {count}" for name, count in counts.items())
        raise InvalidRequest(
            f"{origin} has inputs of different row counts: {listed}.",
            next_step="Give every input the same number of rows.",
        )


def _table(value: object, *, origin: str) -> pa.Table:
    try:
        if isinstance(value, pa.Table):
            return value
        if isinstance(value, list):
            return _records(value)
        if isinstance(value, np.ndarray):
            return pa.table({name: value[name] for name in value.dtype.names or ()})
        if type(value).__module__.partition(".")[0] == "pandas":
            return pa.Table.from_pandas(value, preserve_index=False)
        if hasattr(value, "__arrow_c_stream__"):
            return pa.table(value)
    except (pa.ArrowException, ValueError) as exc:
        raise InvalidRequest(
            f"{origin} is no table of one type per column: {_one_line(exc)}.",
            next_step="Give every column values of one type.",
        ) from exc
    raise InvalidRequest(
        f"{origin} is a `{type(value).__name__}`, which cannot be read as rows of inputs.",
        next_step="Give a pandas or polars frame, a numpy array, a dict of arrays, or a path.",
    )


def _records(rows: list[Any]) -> pa.Table:
    names = dict.fromkeys(name for row in rows if isinstance(row, Mapping) for name in row)
    odd = next((row for row in rows if not isinstance(row, Mapping)), None)
    if odd is not None:
        raise ValueError(f"a row is `{odd!r:.60}`, not a record")
    return pa.table({str(name): pa.array([row.get(name) for row in rows]) for name in names})


def _one_line(exc: BaseException) -> str:
    return str(exc).strip().partition("\n")[0].rstrip(".")
