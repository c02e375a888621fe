"""Predictions and feedback as frames of a spool segment, which gateways append and control reads.

A segment is `MAGIC`, 16 random bytes that name it, and frames. A frame is its payload's length and CRC-32
(little-endian, 4 bytes each) and the payload, a MessagePack array that begins with its `Kind`. What all
predictions of one version have in common is a frame of its own, before the first of them. A segment
whose last frame is `END` is sealed. A process that dies in the middle of a frame leaves a torn tail: what
comes before it is whole. Predictions of one version that have the same dtypes and are written together
share a frame, `BATCH`, in which each of their fields is one array.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum, unique
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
import numpy as np

from shipway.core.captures import Feedback, Prediction, Shape
from shipway.core.tensors import Array

MAGIC = b"SHIPSPL1"
ID_BYTES = 16
HEAD_BYTES = len(MAGIC) + ID_BYTES
FRAME_HEAD = struct.Struct("<II")
LONGEST_FRAME = 1 << 30
"""A length beyond this is a torn or foreign one."""


@unique
class Kind(IntEnum):
    """What a frame holds."""

    SHAPE = 0
    PREDICTION = 1
    FEEDBACK = 2
    END = 3
    BATCH = 4


def _plain(value: Any) -> Any:
    """What stands in a frame for an object that MessagePack does not know."""
    return value.item() if isinstance(value, np.generic) else str(value)


_encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode
_PREDICTION, _BATCH = int(Kind.PREDICTION), int(Kind.BATCH)
_END_START = _encode((Kind.END, 0))[:2]
_PLAIN_KINDS = {np.dtype(kind): np.dtype(kind).str for kind in "?bBhHiIlLefd"}


def segment_head(segment_id: bytes) -> bytes:
    """The first bytes of a segment; its id is 16 bytes."""
    return MAGIC + segment_id


def frame(payload: bytes) -> bytes:
    """A payload with its length and checksum."""
    return FRAME_HEAD.pack(len(payload), crc32(payload)) + payload


def shape_payload(number: int, shape: Shape) -> bytes:
    """The payload that gives a shape its number in this segment."""
    return _encode((Kind.SHAPE, number, shape))


def prediction_payload(number: int, prediction: Prediction) -> bytes:
    """The payload of a prediction whose shape has that number in this segment."""
    shape = prediction.shape
    told = (
        prediction.at_us,
        prediction.request_id,
        prediction.role,
        prediction.latency_us,
        prediction.principal,
        prediction.segment,
        prediction.key,
    )
    inputs, outputs = prediction.inputs, prediction.outputs
    return encode_prediction(
        number,
        told,
        packed([field.name for field in shape.inputs], inputs),
        packed([field.name for field in shape.outputs], outputs),
    )


Told = tuple[int, str, int, int, str, str, str]
"""What a prediction says beside its arrays: `at_us`, `request_id`, `role`, `latency_us`, `principal`,
`segment` and `key`."""


def encode_prediction(
    number: int, told: Told, inputs: Sequence[Any], outputs: Sequence[Any]
) -> bytes:
    """The payload of a prediction that was never made a `Prediction`; arrays as `packed` gives them."""
    return _encode((_PREDICTION, number, *told, inputs, outputs))


def batch_payload(number: int, batch: Batch) -> bytes:
    """The payload of several predictions of one shape."""
    return _encode((_BATCH, number, *batch))


class Batch(NamedTuple):
    """Predictions whose arrays stand behind one another, field by field.

    `rows` says how many each prediction has, `told` has what they say, item by item; arrays are as
    `packed` gives them.
    """

    rows: Sequence[int]
    told: Sequence[Sequence[Any]]
    inputs: Sequence[Any]
    outputs: Sequence[Any]


def feedback_payload(feedback: Feedback) -> bytes:
    """The payload of one feedback."""
    return _encode((Kind.FEEDBACK, feedback))


def end_payload(frames: int) -> bytes:
    """The payload that seals a segment of so many frames before it."""
    return _encode((Kind.END, frames))


def packed(names: Sequence[str], arrays: Mapping[str, Array]) -> list[Any]:
    """The arrays of these names as a frame has them, None for one that is missing."""
    return [None if (array := arrays.get(name)) is None else _packed(array) for name in names]


def _packed(array: Array) -> tuple[str, tuple[int, ...], Any]:
    kind = _PLAIN_KINDS.get(array.dtype)
    if kind is not None:
        return kind, array.shape, array.tobytes()
    if array.dtype.hasobject:
        return "O", array.shape, array.ravel().tolist()
    return array.dtype.str, array.shape, array.tobytes()


def joined(arrays: Sequence[Array], rows: Sequence[int]) -> Array:
    """The arrays behind one another; `rows` is how many each has.

    Raises:
        TypeError, ValueError: one has another number of rows, or they differ in dtype or inner shape.
    """
    if [len(array) for array in arrays] != rows:
        raise ValueError("an array has another number of rows")
    return np.concatenate(arrays, dtype=arrays[0].dtype, casting="no")


def mended(data: bytes) -> bytes:
    """A segment whose writer died, as if it had been sealed: without its torn tail, and with an end.

    Of the same bytes the same each time. Empty where no frame is whole.
    """
    if len(data) < HEAD_BYTES or not data.startswith(MAGIC):
        return b""
    good, frames, is_sealed = HEAD_BYTES, 0, False
    for end, payload in payloads(memoryview(data)):
        good, is_sealed = end, payload[:2] == _END_START
        frames += not is_sealed
    if not frames:
        return b""
    return data[:good] if is_sealed else data[:good] + frame(end_payload(frames))


def payloads(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The whole payloads of a segment in order, each with the position at which it ends."""
    at = HEAD_BYTES
    while at + FRAME_HEAD.size <= len(data):
        length, check = FRAME_HEAD.unpack_from(data, at)
        end = at + FRAME_HEAD.size + length
        if length > LONGEST_FRAME or end > len(data):
            return
        payload = data[at + FRAME_HEAD.size : end]
        if crc32(payload) != check:
            return
        yield end, payload
        at = end
