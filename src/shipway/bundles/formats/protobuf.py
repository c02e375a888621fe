"""Just enough of protobuf's wire format to tell an ONNX model from other bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

# The field numbers of ModelProto in onnx.proto.
_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
_GRAPH = 7
_IR_VERSION_TAG = 0x08
_NEWEST_IR = 64
_VARINT, _BYTES = 0, 2


def looks_like_onnx(path: Path) -> bool:
    """Whether the file opens with an IR version, and goes on with fields of an ONNX model."""
    with path.open("rb") as file:
        head = file.read(2)
        if len(head) < 2 or head[0] != _IR_VERSION_TAG or not 0 < head[1] <= _NEWEST_IR:
            return False
        numbers = []
        for number, _ in _fields(file, path.stat().st_size):
            if number not in _FIELDS:
                return False
            numbers.append(number)
    return bool(numbers)


def ends_early(path: Path) -> bool:
    """Whether a field of the model reaches past the end of the file, or there is no graph."""
    size = path.stat().st_size
    with path.open("rb") as file:
        found = list(_fields(file, size))
    return _GRAPH not in {number for number, _ in found} or any(end > size for _, end in found)


def _fields(file: IO[bytes], size: int) -> Iterator[tuple[int, int]]:
    """Number and end of each top-level field; stops at the first that reaches past the end."""
    file.seek(0)
    while file.tell() < size:
        tag = _varint(file)
        if tag is None:
            return
        number, kind = tag >> 3, tag & 7
        value = _varint(file) if kind in (_VARINT, _BYTES) else None
        if value is None:
            yield (0 if kind not in (_VARINT, _BYTES) else number), size + 1
            return
        end = file.tell() + (value if kind == _BYTES else 0)
        yield number, end
        if end > size:
            return
        file.seek(end)


def _varint(file: IO[bytes]) -> int | None:
    value = shift = 0
    while byte := file.read(1):
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
        if shift > 63:
            return None
    return None
