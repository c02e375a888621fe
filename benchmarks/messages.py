"""Requests as bytes, and answers as the class that they decide for.

The few protobuf messages of the Open Inference gRPC protocol are written by hand, so that the
measuring side needs no gRPC library. Source: the wire format of Protocol Buffers, and
`grpc_predict_v2.proto` of the Open Inference protocol for the field numbers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

Field = tuple[int, int | bytes]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def rest_body(kind: str, row: list[float]) -> bytes:
    """One row of JSON: `rows` ({"inputs": [[…]]}) or `open-inference`."""
    if kind == "rows":
        return json.dumps({"inputs": [row]}).encode()
    tensor = {"name": "X", "shape": [1, len(row)], "datatype": "FP32", "data": row}
    return json.dumps({"inputs": [tensor]}).encode()


def decided(answer: bytes) -> int:
    """The class that a JSON answer decides for: its label, or the largest of its scores.

    Raises:
        ValueError: the answer holds no numbers.
    """
    return _class_of(list(_numbers(json.loads(answer))))


def grpc_body(model: str, row: list[float]) -> bytes:
    """A ModelInferRequest of one row with raw contents, in its gRPC frame."""
    tensor = _text(1, "X") + _text(2, "FP32") + _field(3, _varint(1) + _varint(len(row)))
    raw = np.array(row, np.float32).tobytes()
    request = _text(1, model) + _field(5, tensor) + _field(7, raw)
    return struct.pack(">BI", 0, len(request)) + request


def grpc_decided(frame: bytes) -> int:
    """The class that a framed ModelInferResponse decides for, from its first output.

    Raises:
        ValueError: the frame holds no output.
    """
    fields = list(_fields(frame[5:]))
    tensors = [value for number, value in fields if number == 5 and isinstance(value, bytes)]
    raws = [value for number, value in fields if number == 6 and isinstance(value, bytes)]
    if not tensors:
        raise ValueError(f"no output in {frame[:80]!r}")
    tensor = dict(_fields(tensors[0]))
    datatype = str(tensor[2], "ascii") if isinstance(tensor[2], bytes) else ""
    if raws:
        return _class_of(np.frombuffer(raws[0], _DTYPES[datatype]).tolist())
    contents = tensor[5]
    return _class_of(_typed(contents if isinstance(contents, bytes) else b""))


_DTYPES = {"INT64": np.int64, "INT32": np.int32, "FP32": np.float32, "FP64": np.float64}


def _class_of(values: list[float]) -> int:
    if not values:
        raise ValueError("an answer without numbers")
    return int(values[0]) if len(values) == 1 else int(np.argmax(values))


def _numbers(answer: Any) -> Iterator[float]:
    """The first output's numbers, whatever the server wraps them in."""
    if isinstance(answer, dict):
        for key in ("outputs", "predictions", "data"):
            if key in answer:
                yield from _numbers(answer[key])
                return
        if answer:
            yield from _numbers(next(iter(answer.values())))
    elif isinstance(answer, list):
        is_tensors = bool(answer) and isinstance(answer[0], dict)
        for item in answer[:1] if is_tensors else answer:
            yield from _numbers(item)
    elif isinstance(answer, int | float):
        yield answer


def _varint(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def _fields(data: bytes) -> Iterator[Field]:
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield key >> 3, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if size is None:
            size, at = _read_varint(data, at)
        yield key >> 3, data[at : at + size]
        at += size


def _typed(contents: bytes) -> list[float]:
    """Numbers of InferTensorContents: 2 int32, 3 int64, 6 fp32, 7 fp64; repeated fields are packed."""
    values: list[float] = []
    for number, value in _fields(contents):
        if isinstance(value, int):
            values.append(value)
        elif number in (2, 3):
            at = 0
            while at < len(value):
                item, at = _read_varint(value, at)
                values.append(item)
        elif number in (6, 7):
            values += np.frombuffer(value, np.float32 if number == 6 else np.float64).tolist()
    return values
