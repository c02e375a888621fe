"""Held-out data in batches: the inputs, the label and the slice columns, from a file or from memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet

from shipway.bundles.samples import delimiter_of, read_sample, sample_of
from shipway.bundles.tables import columns_of
from shipway.core.errors import InvalidRequest
from shipway.core.tensors import Array, DataType

_CHUNK_BYTES = 1024 * 1024
_MOST_WHOLE_BYTES = 2 * 1024**3
_NEXT_STEP = "Give a Parquet or CSV file whose columns are the model's inputs and the label."

_ARROW_OF = {
    DataType.BOOL: pa.bool_(),
    DataType.UINT8: pa.uint8(),
    DataType.UINT16: pa.uint16(),
    DataType.UINT32: pa.uint32(),
    DataType.UINT64: pa.uint64(),
    DataType.INT8: pa.int8(),
    DataType.INT16: pa.int16(),
    DataType.INT32: pa.int32(),
    DataType.INT64: pa.int64(),
    DataType.FP16: pa.float64(),
    DataType.FP32: pa.float64(),
    DataType.FP64: pa.float64(),
    DataType.STRING: pa.string(),
    DataType.BYTES: pa.string(),
}


class HeldOut(msgspec.Struct, frozen=True, kw_only=True):
    """Data that a model was not trained on. `rows` is 0 where the file does not say it beforehand.

    `stamp` is of a file as it was before its digest was taken.
    """

    origin: str
    sha256: str
    names: tuple[str, ...]
    rows: int
    source: Path | Mapping[str, Array]
    stamp: tuple[int, ...] = ()

    def batches(
        self, wanted: Mapping[str, DataType], *, most_rows: int
    ) -> Iterator[dict[str, Array]]:
        """The rows of these columns, at most so many at a time, in the file's order.

        A CSV file's columns are read as the given types, so that its first rows do not decide them.

        Raises:
            InvalidRequest: the file is damaged, a value is not of its column's type, or the file is
                not the one any more whose digest was taken.
        """
        if not isinstance(self.source, Path):
            yield from _from_memory(self.source, wanted, most_rows)
            return
        yield from _from_file(self.source, wanted, most_rows, origin=self.origin)
        if _stamp_of(self.source) != self.stamp:
            raise InvalidRequest(
                f"{self.origin} was changed while it was read.",
                next_step="Evaluate again once nothing writes to it.",
            )

    def rows_said(self, before: int, batch: Mapping[str, Array]) -> str:
        """The rows of a batch that comes after so many, in words, the first row being 1."""
        rows = len(next(iter(batch.values())))
        return f"rows {before + 1} to {before + rows} of {self.origin}"


def held_out(data: Any) -> HeldOut:
    """The data in a path (Parquet, CSV, JSON, `.npz`), a frame, a dict of arrays, or records.

    Parquet and CSV files are read in batches each time that they are asked for; others are held whole.

    Raises:
        InvalidRequest: it is missing, empty, or no table.
    """
    if not isinstance(data, str | Path):
        return _in_memory(dict(sample_of(data).inputs), origin=f"a {type(data).__name__}")
    path = Path(data)
    origin = path.name
    stamp = _stamp_of(path)
    head, digest = _head_and_digest(path)
    if head.startswith(b"PAR1"):
        held = _parquet(path, origin=origin, digest=digest)
        return msgspec.structs.replace(held, stamp=stamp)
    if head.startswith((b"\x93NUMPY", b"PK\x03\x04")) or head.lstrip()[:1] in b"[{":
        _require_small(path)
        held = _in_memory(dict(read_sample(path).inputs), origin=origin)
        return msgspec.structs.replace(held, sha256=digest)
    return msgspec.structs.replace(_csv(path, origin=origin, digest=digest), stamp=stamp)


def _stamp_of(path: Path) -> tuple[int, ...]:
    """What changes when a file is written or replaced; nothing for one that is not there."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _head_and_digest(path: Path) -> tuple[bytes, str]:
    hashed = sha256()
    try:
        with path.open("rb") as stream:
            head = stream.read(_CHUNK_BYTES)
            hashed.update(head)
            while chunk := stream.read(_CHUNK_BYTES):
                hashed.update(chunk)
    except OSError as exc:
        raise InvalidRequest(
            f"The data `{path}` cannot be read: {exc.strerror}.", next_step=_NEXT_STEP
        ) from exc
    if not head.strip():
        raise InvalidRequest(f"The data `{path}` is empty.", next_step=_NEXT_STEP)
    return head, hashed.hexdigest()


def _require_small(path: Path) -> None:
    if path.stat().st_size > _MOST_WHOLE_BYTES:
        raise InvalidRequest(
            f"`{path}` is too large to be held in memory.",
            next_step="Write it as Parquet or CSV, which is read in batches.",
        )


def _in_memory(columns: dict[str, Array], *, origin: str) -> HeldOut:
    hashed = sha256()
    for name, array in columns.items():
        content = msgspec.json.encode(array.tolist()) if array.dtype == object else array.tobytes()
        hashed.update(f"{name}:{array.dtype}:{array.shape}:".encode())
        hashed.update(content)
    return HeldOut(
        origin=origin,
        sha256=hashed.hexdigest(),
        names=tuple(columns),
        rows=len(next(iter(columns.values()))),
        source=columns,
    )


def _parquet(path: Path, *, origin: str, digest: str) -> HeldOut:
    try:
        with parquet.ParquetFile(path) as file:
            names, rows = tuple(file.schema_arrow.names), file.metadata.num_rows
    except (pa.ArrowException, OSError) as exc:
        raise _unreadable(origin, exc) from exc
    if rows == 0:
        raise _no_rows(origin)
    return _in_file(path, origin=origin, digest=digest, names=names, rows=rows)


def _csv(path: Path, *, origin: str, digest: str) -> HeldOut:
    names = _csv_names(path, origin=origin)
    return _in_file(path, origin=origin, digest=digest, names=names, rows=0)


def _in_file(path: Path, *, origin: str, digest: str, names: Sequence[str], rows: int) -> HeldOut:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidRequest(
            f"{origin} has the column `{twice}` twice.", next_step="Rename one of them."
        )
    return HeldOut(origin=origin, sha256=digest, names=tuple(names), rows=rows, source=path)


def _csv_names(path: Path, *, origin: str) -> tuple[str, ...]:
    with path.open("rb") as stream:
        first = stream.readline(_CHUNK_BYTES)
    if b"\0" in first:
        raise InvalidRequest(f"{origin} is a binary file of no known kind.", next_step=_NEXT_STEP)
    try:
        header = csv.read_csv(
            pa.BufferReader(first), parse_options=csv.ParseOptions(delimiter=delimiter_of(first))
        )
    except pa.ArrowException as exc:
        raise _unreadable(origin, exc) from exc
    return tuple(header.column_names)


def _from_file(
    path: Path, wanted: Mapping[str, DataType], most_rows: int, *, origin: str
) -> Iterator[dict[str, Array]]:
    try:
        for batch in _record_batches(path, wanted, most_rows):
            for start in range(0, batch.num_rows, most_rows):
                table = pa.Table.from_batches([batch.slice(start, most_rows)])
                yield columns_of(table, drop=(), origin=origin)
    except (pa.ArrowException, OSError) as exc:
        raise _unreadable(origin, exc) from exc


def _record_batches(
    path: Path, wanted: Mapping[str, DataType], most_rows: int
) -> Iterator[pa.RecordBatch]:
    names = list(wanted)
    with path.open("rb") as stream:
        first = stream.readline(_CHUNK_BYTES)
    if first.startswith(b"PAR1"):
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(most_rows, columns=names)
        return
    with csv.open_csv(
        path,
        parse_options=csv.ParseOptions(delimiter=delimiter_of(first)),
        convert_options=csv.ConvertOptions(
            include_columns=names,
            column_types={name: _ARROW_OF[kind] for name, kind in wanted.items()},
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    ) as reader:
        yield from reader


def _from_memory(
    columns: Mapping[str, Array], wanted: Mapping[str, DataType], most_rows: int
) -> Iterator[dict[str, Array]]:
    rows = len(next(iter(columns.values())))
    for start in range(0, rows, most_rows):
        yield {name: columns[name][start : start + most_rows] for name in wanted}


def _no_rows(origin: str) -> InvalidRequest:
    return InvalidRequest(f"{origin} has no rows.", next_step="Give at least one row.")


def _unreadable(origin: str, exc: BaseException) -> InvalidRequest:
    reason = str(exc).strip().partition("\n")[0].rstrip(".")
    return InvalidRequest(f"{origin} cannot be read: {reason}.", next_step=_NEXT_STEP)


def matrix_of(columns: Mapping[str, Array], names: Sequence[str]) -> Array:
    """Columns side by side, as the one matrix that a model of bare arrays takes."""
    return np.stack([columns[name] for name in names], axis=1)
