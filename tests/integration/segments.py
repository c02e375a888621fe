"""Spool segments read back as predictions and feedback, with the reader that control has."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import numpy as np

from shipway.core.captures import Feedback, Prediction
from shipway.wire.packed import PackedBatch, Unreadable, packed_frames, segment_id
from shipway.wire.spool import HEAD_BYTES, end_payload, payloads

END_START = end_payload(0)[:2]


class Segment(NamedTuple):
    """What a segment's bytes say. `good_bytes` is how far they make sense."""

    id: str
    predictions: list[Prediction]
    feedback: list[Feedback]
    good_bytes: int
    is_sealed: bool


def read_segment(data: bytes) -> Segment | None:
    """What the bytes say; None when they are no segment."""
    name = segment_id(data)
    if name is None:
        return None
    predictions, feedback, good, is_sealed = [], [], HEAD_BYTES, False
    frames = zip(packed_frames(data), payloads(memoryview(data)), strict=False)
    for (end, found), (_, payload) in frames:
        assert not isinstance(found, Unreadable)
        if isinstance(found, PackedBatch):
            predictions += predictions_of(found)
        elif found is not None:
            feedback.append(found)
        good, is_sealed = end, payload[:2] == END_START
    return Segment(name, predictions, feedback, good, is_sealed)


def predictions_of(batch: PackedBatch) -> list[Prediction]:
    shape = batch.shape
    names = [field.name for field in (*shape.inputs, *shape.outputs)]
    arrays = {
        name: unpacked(*packed)
        for name, packed in zip(names, batch.arrays, strict=True)
        if packed is not None
    }
    if len(batch.facts) == 1:
        return [made(batch, 0, arrays)]
    ends = list(accumulate(batch.counts))
    assert all(len(array) == ends[-1] for array in arrays.values())
    return [
        made(batch, place, {name: array[end - count : end] for name, array in arrays.items()})
        for place, (count, end) in enumerate(zip(batch.counts, ends, strict=True))
    ]


def made(batch: PackedBatch, place: int, arrays) -> Prediction:
    at_us, request_id, role, latency_us, principal, segment, key = batch.facts[place]
    shape = batch.shape
    return Prediction(
        shape=shape,
        at_us=at_us,
        request_id=request_id,
        role=role,
        latency_us=latency_us,
        principal=principal,
        segment=segment,
        key=key,
        inputs={f.name: arrays[f.name] for f in shape.inputs if f.name in arrays},
        outputs={f.name: arrays[f.name] for f in shape.outputs if f.name in arrays},
    )


def unpacked(dtype: str, shape, content):
    if dtype == "O":
        array = np.empty(len(content), dtype=object)
        array[:] = content
        return array.reshape(shape)
    return np.frombuffer(content, dtype=dtype).reshape(shape)
