"""The binary stream between gateway and replica."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipway.core.errors import InvalidInput, InvalidRequest
from shipway.wire.frames import (
    Failure,
    FrameReader,
    Kind,
    Pong,
    decode_failure,
    decode_pong,
    decode_tensors,
    encode_plain,
    encode_tensors,
)

DTYPES = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
arrays = hnp.arrays(
    st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
)
texts = st.lists(st.none() | st.text(max_size=5), max_size=5).map(
    lambda items: np.array([*items, None], dtype=object)[:-1]
)


@given(st.dictionaries(st.text(max_size=5), arrays | texts, max_size=4), st.integers(0, 2**31))
def test_tensors_survive_the_stream(tensors, timeout_ms):
    data = b"".join(encode_tensors(Kind.INFER, 7, tensors, timeout_ms=timeout_ms))
    (frame,) = FrameReader().feed(data)
    received, received_timeout = decode_tensors(frame.body)
    assert (frame.kind, frame.stream, received_timeout) == (Kind.INFER, 7, timeout_ms)
    assert list(received) == list(tensors)
    for name, array in tensors.items():
        assert received[name].dtype == array.dtype
        np.testing.assert_array_equal(received[name], array)


@given(st.lists(st.integers(1, 40), max_size=60))
def test_frames_do_not_depend_on_how_the_bytes_arrive(cuts):
    tensors = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    data = b"".join(encode_tensors(Kind.RESULT, 1, tensors)) + encode_plain(Kind.PING, 2)
    reader, frames, start = FrameReader(), [], 0
    for cut in [*cuts, len(data)]:
        frames += reader.feed(data[start : start + cut])
        start += cut
    frames += reader.feed(data[start:])
    assert [(frame.kind, frame.stream) for frame in frames] == [(Kind.RESULT, 1), (Kind.PING, 2)]


def test_received_arrays_are_aligned_and_writable():
    data = b"".join(encode_tensors(Kind.INFER, 1, {"abc": np.zeros(3), "d": np.zeros(5, "f4")}))
    (frame,) = FrameReader().feed(data)
    for array in decode_tensors(frame.body)[0].values():
        assert array.flags.aligned
        assert array.flags.writeable


def test_errors_keep_their_type_and_facts():
    error = InvalidInput("No.", next_step="Do.", column="age", row=3)
    (frame,) = FrameReader().feed(encode_plain(Kind.FAIL, 1, Failure.of(error)))
    received = decode_failure(frame.body)
    assert type(received) is InvalidInput
    assert received.details == {"column": "age", "row": 3}


def test_pong_survives():
    (frame,) = FrameReader().feed(encode_plain(Kind.PONG, 1, Pong("r1", ready=True, busy_s=0.5)))
    assert decode_pong(frame.body) == Pong("r1", ready=True, busy_s=0.5)


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff" + bytes(5), b"\x05\x00\x00\x00\x63" + bytes(4), b"\x00" * 9]
)
def test_impossible_frame_is_refused(data):
    with pytest.raises(InvalidRequest):
        list(FrameReader().feed(data))


@given(st.binary(max_size=64))
def test_malformed_tensor_body_is_refused_or_read(body):
    with contextlib.suppress(InvalidRequest):
        decode_tensors(memoryview(bytearray(body)))
