"""The frames of a spool segment with their arrays still packed: to be put together by the thousand.

An array that is made for each value of each request costs more than all the rest of reading it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import msgspec
import numpy as np

from shipway.core.captures import Feedback, Role, Shape
from shipway.core.tensors import data_type_of
from shipway.wire.spool import HEAD_BYTES, MAGIC, Kind, payloads

Content = bytes | list[Any]
Packed = tuple[str, tuple[int, ...], Content]
"""One array: numpy's name of its type (`O` for texts and bytes), its shape, and its items.

Items are the raw buffer of numbers, or a list.
"""


class PackedBatch(NamedTuple):
    """Predictions of one shape as their frame holds them, one or many.

    `counts` are the rows of each prediction; `facts` what each says, in the order of `Told`. Arrays are in
    the order of the shape's fields, None for absent, with the rows of all predictions behind one another.
    """

    shape: Shape
    counts: Sequence[int]
    facts: Sequence[tuple[Any, ...]]
    arrays: list[Packed | None]

    @property
    def form(self) -> tuple[tuple[str, tuple[int, ...]] | None, ...]:
        """The type and shape of each array."""
        return tuple([a and (a[0], a[1]) for a in self.arrays])

    def has_lengths(self, lengths: Sequence[tuple[type, int] | None]) -> bool:
        """Whether its arrays hold so much."""
        return [a and (type(a[2]), len(a[2])) for a in self.arrays] == lengths

    def lengths(self) -> list[tuple[type, int] | None]:
        """What each array must hold to have the shape that it says.

        Raises:
            ValueError: it says no shape, or a type that is unknown.
        """
        return [a and _length(a[0], a[1]) for a in self.arrays]

    def sizes(self) -> list[int]:
        """How many items each array has, 0 for an absent one."""
        return [0 if a is None else prod(a[1]) for a in self.arrays]


_decode = msgspec.msgpack.Decoder(
    tuple[int, int, int, str, Role, int, str, str, str, list[Packed | None], list[Packed | None]]
).decode
_Columns = tuple[list[int], list[str], list[Role], list[int], list[str], list[str], list[str]]
_decode_batch = msgspec.msgpack.Decoder(
    tuple[int, int, list[int], _Columns, list[Packed | None], list[Packed | None]]
).decode
_decode_any = msgspec.msgpack.Decoder().decode
_KINDS = frozenset(Kind)


def segment_id(data: bytes) -> str | None:
    """The id of a segment in hexadecimal digits; None when the bytes are no segment."""
    if len(data) < HEAD_BYTES or not data.startswith(MAGIC):
        return None
    return data[len(MAGIC) : HEAD_BYTES].hex()


class Unreadable(NamedTuple):
    """A whole frame of a known kind that says nonsense: what comes after it may be read."""


Found = PackedBatch | Feedback | Unreadable | None


def packed_frames(data: bytes) -> Iterator[tuple[int, Found]]:
    """The frames of a segment in order, each with the position at which it ends; None for the others.

    It ends before the first frame that is torn or of an unknown kind, whatever the bytes are.
    """
    shapes: dict[int, Shape] = {}
    for end, payload in payloads(memoryview(data)):
        found: Found
        try:
            found = _frame(payload, shapes)
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError, RecursionError):
            if len(payload) < 2 or payload[1] not in _KINDS:
                return
            found = Unreadable()
        yield end, found


def _frame(payload: memoryview, shapes: dict[int, Shape]) -> PackedBatch | Feedback | None:
    # The first byte says that it is an array, the second is its kind.
    match payload[1]:
        case Kind.PREDICTION:
            _, number, *single, inputs, outputs = _decode(payload)
            shape, arrays = shapes[number], [*inputs, *outputs]
            _require_fields(shape, inputs, outputs)
            return PackedBatch(shape, [_rows(shape, arrays)], [tuple(single)], arrays)
        case Kind.BATCH:
            _, number, counts, told, inputs, outputs = _decode_batch(payload)
            shape, arrays = shapes[number], [*inputs, *outputs]
            _require_fields(shape, inputs, outputs)
            facts: list[Any] = list(zip(*told, strict=True))
            if len(facts) != len(counts) or min(counts, default=0) < 0:
                raise ValueError("a batch has other numbers of rows and of predictions")
            return PackedBatch(shape, counts, facts, arrays)
    return _other(payload, shapes)


def _other(payload: memoryview, shapes: dict[int, Shape]) -> Feedback | None:
    """What is no prediction.

    Raises:
        ValueError: a newer release wrote it: what cannot be read must not be taken for nothing.
    """
    kind, *rest = _decode_any(payload)
    match kind:
        case Kind.SHAPE:
            shapes[rest[0]] = msgspec.convert(rest[1], Shape)
            return None
        case Kind.FEEDBACK:
            return msgspec.convert(rest[0], Feedback)
        case Kind.END:
            return None
        case _:
            raise ValueError("the frame's kind is unknown")


def _require_fields(shape: Shape, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    if len(inputs) != len(shape.inputs) or len(outputs) != len(shape.outputs):
        raise ValueError("the frame has another number of fields than its shape")


def _rows(shape: Shape, arrays: Sequence[Packed | None]) -> int:
    """How many rows a prediction has, as `Prediction.rows` counts them."""
    if not shape.batchable:
        return 1
    return next((a[1][0] for a in arrays if a is not None and a[1]), 1)


def _length(dtype: str, shape: tuple[int, ...]) -> tuple[type, int]:
    if min(shape, default=0) < 0:
        raise ValueError("a dimension is negative")
    size = prod(shape)
    return (list, size) if dtype == "O" else (bytes, size * _itemsize(dtype))


@lru_cache(maxsize=256)
def _itemsize(dtype: str) -> int:
    if _DTYPE.fullmatch(dtype) is None:
        raise ValueError(f"`{dtype[:20]}` is no type of the log's arrays")
    try:
        kind = np.dtype(dtype)
        data_type_of(np.empty(0, kind))
    except TypeError as exc:
        raise ValueError(str(exc)) from exc
    return kind.itemsize


# Whatever else numpy would make of a text: records, dates, objects.
_DTYPE = re.compile(r"[<>|=]?[biufSU][1-9][0-9]{0,8}")
