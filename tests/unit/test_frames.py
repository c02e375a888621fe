"""The binary stream between gateway and replica."""

import contextlib
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipway.core.errors import InvalidInput, InvalidRequest
from shipway.core.telemetry import Times
from shipway.wire.frames import (
    Failure,
    FrameReader,
    Kind,
    Pong,
    decode_failed,
    decode_failure,
    decode_pong,
    decode_request,
    decode_result,
    decode_tensors,
    encode_plain,
    encode_tensors,
    encode_times,
)

DTYPES = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]
arrays = hnp.arrays(
    st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
)
texts = st.lists(st.none() | st.text(max_size=5), max_size=5).map(
    lambda items: np.array([*items, None], dtype=object)[:-1]
)

MOST = 2**32 - 1


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


TIMES = st.builds(
    Times,
    queue_s=st.floats(0, 4000),
    run_s=st.floats(0, 4000),
    call_rows=st.integers(0, 2**31),
    batches=st.integers(0, 99),
    batch_rows=st.integers(0, 2**40),
)


def result(tensors, times):
    data = b"".join(encode_tensors(Kind.RESULT, 1, tensors, times=times))
    (frame,) = FrameReader().feed(data)
    return frame.body


@given(st.dictionaries(st.text(max_size=5), arrays | texts, max_size=3), TIMES)
def test_times_survive_behind_any_tensors(tensors, times):
    received, told = decode_result(result(tensors, encode_times(times)))
    assert list(received) == list(tensors)
    assert told is not None
    assert (told.queue_s, told.run_s) == pytest.approx((times.queue_s, times.run_s), abs=1e-6)
    assert (told.call_rows, told.batches) == (times.call_rows, times.batches)
    assert told.batch_rows == times.batch_rows


def test_answer_of_a_replica_without_times_is_read_and_has_none():
    tensors, times = decode_result(result({"x": np.zeros(3)}, b""))
    assert times is None
    assert list(tensors) == ["x"]


class HeaderBefore(msgspec.Struct, array_like=True):
    """The header that peers read before it had a `trace`."""

    tensors: list[tuple[str, str, tuple[int, ...], int]]
    timeout_ms: int = 0


def test_peers_of_an_earlier_version_pass_over_what_is_new():
    data = b"".join(
        encode_tensors(Kind.INFER, 1, {"x": np.zeros(2)}, timeout_ms=5, trace="ab" * 16)
    )
    (frame,) = FrameReader().feed(data)
    length = int.from_bytes(frame.body[:4], "little")
    assert msgspec.msgpack.decode(frame.body[4 : 4 + length], type=HeaderBefore).timeout_ms == 5
    assert decode_request(frame.body)[1:] == (5, "ab" * 16)
    assert list(decode_tensors(result({"x": np.zeros(2)}, encode_times(Times(1, 2))))[0]) == ["x"]


def test_endless_times_are_told_as_the_longest():
    _, times = decode_result(result({}, encode_times(Times(1e9, 1e9, 2**40))))
    assert times == Times((2**32 - 1) / 1e6, (2**32 - 1) / 1e6, 2**32 - 1)


@pytest.mark.parametrize(
    ("said", "kept"),
    [((math.nan, math.nan), (0, 0)), ((-1, -math.inf, -1, -1, -1), (0, 0, 0, 0, 0)),
     ((math.inf, 1e300, 2**60, 2**60, 2**60), (MOST / 1e6, MOST / 1e6, MOST, MOST, 2**40))],
)  # fmt: skip
def test_times_of_a_failure_are_bounded_whatever_a_model_says(said, kept):
    failure = Failure.of(InvalidInput("no"), Times(*said))
    (frame,) = FrameReader().feed(encode_plain(Kind.FAIL, 9, failure))
    assert decode_failed(frame.body)[1] == Times(*kept)


def test_rows_of_calls_are_bounded_whatever_a_model_says():
    _, times = decode_result(result({}, encode_times(Times(1, 1, 1, 1, 2**60))))
    assert times == Times(1, 1, 1, 1, 2**40)


def test_failure_carries_its_times():
    failure = Failure.of(InvalidInput("no"), Times(0.5, 0.25, 3, 1, 3))
    (frame,) = FrameReader().feed(encode_plain(Kind.FAIL, 9, failure))
    error, times = decode_failed(frame.body)
    assert isinstance(error, InvalidInput)
    assert times == Times(0.5, 0.25, 3, 1, 3)
