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


class PackedPrediction(NamedTuple):
    """A prediction as its frame holds it; arrays are in the order of the shape's fields, None for absent."""

    shape: Shape
    at_us: int
    request_id: str
    role: Role
    latency_us: int
    principal: str
    segment: str
    key: str
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

    @property
    def rows(self) -> int:
        """How many rows it has, as `Prediction.rows` counts them."""
        if not self.shape.batchable:
            return 1
        return next((a[1][0] for a in self.arrays if a is not None and a[1]), 1)


_decode = msgspec.msgpack.Decoder(
    tuple[int, int, int, str, Role, int, str, str, str, list[Packed | None], list[Packed | None]]
).decode
_decode_any = msgspec.msgpack.Decoder().decode


def segment_id(data: bytes) -> str | None:
    """The id of a segment in hexadecimal digits; None when the bytes are no segment."""
    if len(data) < HEAD_BYTES or not data.startswith(MAGIC):
        return None
    return data[len(MAGIC) : HEAD_BYTES].hex()


def packed_frames(data: bytes) -> Iterator[tuple[int, PackedPrediction | Feedback | None]]:
    """The frames of a segment in order, each with the position at which it ends; None for the others.

    It ends before the first frame that cannot be read, whatever the bytes are.
    """
    shapes: dict[int, Shape] = {}
    for end, payload in payloads(memoryview(data)):
        try:
            found = _frame(payload, shapes)
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError, RecursionError):
            return
        yield end, found


def _frame(payload: memoryview, shapes: dict[int, Shape]) -> PackedPrediction | Feedback | None:
    # The first byte says that it is an array, the second is its kind.
    if payload[1] == Kind.PREDICTION:
        _, number, at_us, request_id, role, latency_us, *caller, inputs, outputs = _decode(payload)
        shape = shapes[number]
        if len(inputs) != len(shape.inputs) or len(outputs) != len(shape.outputs):
            raise ValueError("the frame has another number of fields than its shape")
        facts = (at_us, request_id, role, latency_us, *caller)
        return PackedPrediction._make((shape, *facts, [*inputs, *outputs]))
    kind, *rest = _decode_any(payload)
    if kind == Kind.SHAPE:
        shapes[rest[0]] = msgspec.convert(rest[1], Shape)
    if kind == Kind.FEEDBACK:
        return msgspec.convert(rest[0], Feedback)
    return None


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
