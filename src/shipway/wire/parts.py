"""One batch's outputs as the RESULT frames of its requests, each with its own rows.

What all requests of a size have in common is made once: a batch of 64 rows costs little more than
one answer. Tensors are not copied; the frames are buffers that point into them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shipway.core.tensors import Array, DataType, data_type_of
from shipway.wire.frames import Kind, encode_header, encode_tensors, head_of, raw_bytes

Buffers = list[bytes | memoryview]


class RowFrames:
    """Cuts frames from outputs that have one entry per row; see `core.batching.follows_rows`."""

    def __init__(self, outputs: Mapping[str, Array]) -> None:
        """Raises what an array raises that cannot travel (TypeError: its dtype has no data type)."""
        self._outputs = {str(name): array for name, array in outputs.items()}
        self._headers: dict[int, tuple[bytes, int]] = {}
        types = {name: data_type_of(array) for name, array in self._outputs.items()}
        self._is_numeric = all(dtype.is_numeric for dtype in types.values())
        self._raw = (
            [_Raw(name, array, types[name]) for name, array in self._outputs.items()]
            if self._is_numeric
            else []
        )

    def frame(self, stream: int, start: int, stop: int, *, times: bytes = b"") -> Buffers:
        """The RESULT frame that carries the rows from `start` to before `stop`, and encoded times."""
        if not self._is_numeric:
            mine = {name: array[start:stop] for name, array in self._outputs.items()}
            return encode_tensors(Kind.RESULT, stream, mine, times=times)
        header, size = self._header(stop - start)
        buffers: Buffers = [head_of(Kind.RESULT, stream, size + len(times)), header]
        for raw in self._raw:
            raw.append_to(buffers, start, stop)
        buffers.append(times)
        return buffers

    def _header(self, rows: int) -> tuple[bytes, int]:
        known = self._headers.get(rows)
        if known is None:
            header = encode_header([raw.entry(rows) for raw in self._raw])
            size = len(header) + sum(raw.padded(rows) for raw in self._raw)
            known = self._headers[rows] = header, size
        return known


class _Raw:
    """The bytes of one numeric output."""

    __slots__ = ("_bytes", "_name", "_row_bytes", "_shape", "_type")

    def __init__(self, name: str, array: Array, dtype: DataType) -> None:
        self._name, self._type, self._shape = name, dtype.value, array.shape[1:]
        self._bytes = raw_bytes(array, dtype)
        self._row_bytes: int = len(self._bytes) // max(1, array.shape[0])

    def entry(self, rows: int) -> tuple[str, str, tuple[int, ...], int]:
        return self._name, self._type, (rows, *self._shape), rows * self._row_bytes

    def padded(self, rows: int) -> int:
        size = rows * self._row_bytes
        return size + -size % 8

    def append_to(self, buffers: Buffers, start: int, stop: int) -> None:
        first, last = start * self._row_bytes, stop * self._row_bytes
        buffers.append(self._bytes[first:last])
        if pad := -(last - first) % 8:
            buffers.append(bytes(pad))


def joined(frames: Sequence[Buffers]) -> bytes:
    """The frames as one piece of bytes: their one copy, for one write."""
    return b"".join([buffer for frame in frames for buffer in frame])
