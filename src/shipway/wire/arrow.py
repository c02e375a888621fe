"""Arrow IPC and Parquet bodies: tables become a model's inputs, outputs become tables.

The one module of the data plane that uses pyarrow (decision 0006); import it when such a body has
come, not before. Bodies are bounded by what they say that they become, before they become it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shipway.core.errors import BodyTooLarge, InvalidInput, InvalidRequest
from shipway.core.inference import InferenceResponse
from shipway.core.signature import Signature
from shipway.core.tensors import Array
from shipway.wire.arrow_sizes import declared_size
from shipway.wire.parquet_sizes import MAX_PAGES, pages_of
from shipway.wire.rows import inputs_of_table, require_distinct

DECODED_LIMIT_BYTES = 128 * 1024 * 1024
"""A table that becomes larger than this is refused."""

CELL_BYTES = 8
TEXT_CELL_BYTES = 64
"""What a cell counts at least, so that columns without data of their own are bounded too."""

_FILE_MAGIC = b"ARROW1"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


_DAMAGE = (
    pa.ArrowException,
    ValueError,
    OSError,
    IndexError,
    OverflowError,
    MemoryError,
    RecursionError,
)


class Kind(StrEnum):
    """A form of table, by its media type."""

    STREAM = "application/vnd.apache.arrow.stream"
    FILE = "application/vnd.apache.arrow.file"
    PARQUET = "application/vnd.apache.parquet"


def inputs_of_arrow(body: bytes, kind: Kind, signature: Signature) -> dict[str, Array]:
    """The inputs in a table.

    Raises:
        InvalidRequest: it is damaged, or not of that kind, or has a column twice.
        InvalidInput: a column's type has no Open Inference data type.
        BodyTooLarge: it becomes larger than `DECODED_LIMIT_BYTES`.
    """
    try:
        table = _parquet(body) if kind is Kind.PARQUET else _ipc(body, kind)
        table.validate(full=True)  # else an offset or an index could point outside its buffer
        _require_cells(table)
        require_distinct(table.column_names)
        columns = [_array(name, table.column(name)) for name in table.column_names]
    except _DAMAGE as exc:
        raise InvalidRequest(f"The body is not {kind}: {_short(exc)}.") from exc
    return inputs_of_table(table.column_names, columns, signature)


def encode_arrow(response: InferenceResponse, kind: Kind) -> bytes:
    """The outputs as a table; an output of several dimensions is a column of fixed-size lists.

    Raises:
        InvalidRequest: the outputs differ in their numbers of rows.
    """
    columns = {name: _column(array) for name, array in response.outputs.items()}
    if len({len(column) for column in columns.values()}) > 1:
        raise InvalidRequest("The model's outputs differ in their numbers of rows.")
    metadata = {"model_name": response.model, "model_version": response.version}
    table = pa.table(columns).replace_schema_metadata(metadata)
    sink = io.BytesIO()
    if kind is Kind.PARQUET:
        pq.write_table(table, sink)
        return sink.getvalue()
    opened = pa.ipc.new_stream if kind is Kind.STREAM else pa.ipc.new_file
    with opened(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _ipc(body: bytes, kind: Kind) -> Any:
    """A file is read as the stream that it holds: its footer could point anywhere."""
    if kind is Kind.FILE:
        if not (body.startswith(_FILE_MAGIC) and body.endswith(_FILE_MAGIC)):
            raise ValueError("it does not begin and end with ARROW1")
        body = body[len(_FILE_MAGIC) + 2 :]  # two bytes of padding
    elif not body.endswith(_END_OF_STREAM):
        raise ValueError("the mark of its end is missing")
    _require_modest(body)
    with pa.ipc.open_stream(body) as reader:
        return reader.read_all()


def _require_modest(body: bytes) -> None:
    total = 0
    reader = pa.ipc.MessageReader.open_stream(body)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        data = memoryview(message.body) if message.body is not None else memoryview(b"")
        rows, size = declared_size(memoryview(message.metadata), data)
        total += max(size, rows * CELL_BYTES)
        _require_bounded(total)


def _parquet(body: bytes) -> Any:
    _require_modest_pages(body)
    with pq.ParquetFile(pa.BufferReader(body), memory_map=False) as file:
        metadata = file.metadata
        _require_bounded(metadata.num_rows * max(1, metadata.num_columns) * CELL_BYTES)
        texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
    # Texts stay dictionaries where they are: one long text in a million rows is one text.
    with pq.ParquetFile(pa.BufferReader(body), read_dictionary=texts) as file:
        return file.read(use_threads=False)


def _require_modest_pages(body: bytes) -> None:
    total = 0
    for number, page in enumerate(pages_of(body)):
        if page.shares_prefixes:
            raise ValueError("texts in DELTA_BYTE_ARRAY encoding are not read")
        if number >= MAX_PAGES:
            raise ValueError(f"it has more than {MAX_PAGES} pages")
        total += page.size_bytes
        _require_bounded(total)


def _require_cells(table: Any) -> None:
    if not table.num_rows or not table.num_columns:
        raise InvalidRequest("The table has no columns or no rows.")
    sizes = (TEXT_CELL_BYTES if _is_text(field.type) else CELL_BYTES for field in table.schema)
    _require_bounded(table.num_rows * sum(sizes))


def _require_bounded(size_bytes: int) -> None:
    if not 0 <= size_bytes <= DECODED_LIMIT_BYTES:
        raise BodyTooLarge(
            f"The table becomes larger than {DECODED_LIMIT_BYTES} bytes.",
            next_step="Send it in parts.",
            limit_bytes=DECODED_LIMIT_BYTES,
        )


def _is_text(kind: Any) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _array(name: str, column: Any) -> Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _of_dictionary(name, column)
    if pa.types.is_null(kind):
        return np.full(len(column), None, dtype=object)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.asarray(column.to_numpy())
    if _is_text(kind):
        return _objects(column.to_pylist())
    if pa.types.is_fixed_size_list(kind):
        return _of_lists(name, column)
    raise InvalidInput(
        f"Column `{name}` is of the Arrow type `{kind}`, which no model takes.",
        next_step="Send numbers, booleans, text, or fixed-size lists of them.",
        column=name,
        row=None,
        rule="dtype",
        value=None,
    )


def _of_dictionary(name: str, column: Any) -> Array:
    """The values of a dictionary column; equal texts are the same object, not copies."""
    whole = column.combine_chunks()  # one dictionary, where batches repeat or extend it
    parts = []
    for chunk in whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]:
        values = _array(name, pa.chunked_array([chunk.dictionary])).astype(object)
        with_null = np.append(values, np.array([None], dtype=object))
        indices = chunk.indices.cast(pa.int64()).fill_null(len(values)).to_numpy()
        parts.append(with_null[indices])
    return np.concatenate(parts)


def _of_lists(name: str, column: Any) -> Array:
    if column.null_count:
        raise InvalidInput(
            f"Column `{name}` has a list that is null.",
            column=name, row=None, rule="not null", value=None,
        )  # fmt: skip
    chunk = column.combine_chunks()
    width = column.type.list_size
    _require_bounded(len(column) * max(1, width) * CELL_BYTES)
    values = _array(name, pa.chunked_array([chunk.flatten()]))
    return values.reshape(len(column), width, *values.shape[1:])


def _column(array: Array) -> Any:
    if array.ndim < 2:
        flat = array.reshape(-1)
        return pa.array(flat.tolist() if flat.dtype == object else flat)
    inner = _column(array.reshape(-1, *array.shape[2:]))
    return pa.FixedSizeListArray.from_arrays(inner, array.shape[1])


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _short(exc: BaseException, most: int = 200) -> str:
    text = str(exc).split("\n", maxsplit=1)[0].rstrip(".") or type(exc).__name__
    return text if len(text) <= most else f"{text[:most]}…"
