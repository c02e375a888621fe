"""Spool segments: what is written is read again, and a torn tail costs nothing that comes before it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.captures import Feedback, Prediction, Role, Shape, columns_of
from shipway.core.signature import Field
from shipway.core.tensors import DataType
from shipway.wire.spool import (
    Batch,
    batch_payload,
    end_payload,
    feedback_payload,
    frame,
    joined,
    mended,
    packed,
    prediction_payload,
    segment_head,
    shape_payload,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from segments import read_segment

SHAPE = Shape(
    environment="dev",
    endpoint="churn",
    model="churn",
    version=3,
    inputs=(Field(name="age", dtype=DataType.FP64), Field(name="plan", dtype=DataType.STRING)),
    outputs=(Field(name="label", dtype=DataType.INT64),),
)
PREDICTION = Prediction(
    shape=SHAPE,
    at_us=1_700_000_000_000_000,
    request_id="r-1",
    role=Role.CANDIDATE,
    latency_us=250,
    principal="key:ab",
    segment="eu",
    key="customer 7",
    inputs={"age": np.array([1.5, np.nan]), "plan": np.array(["a", None], dtype=object)},
    outputs={"label": np.array([0, 1])},
)
FEEDBACK = Feedback(
    environment="dev", endpoint="churn", at_us=5, request_id="r-1", label="1", row=0
)


def segment():
    parts = (
        shape_payload(0, SHAPE),
        prediction_payload(0, PREDICTION),
        feedback_payload(FEEDBACK),
        end_payload(3),
    )
    return segment_head(b"\1" * 16) + b"".join(frame(part) for part in parts)


def test_what_is_written_is_read_again():
    read = read_segment(segment())
    assert (read.id, read.is_sealed, read.good_bytes) == ("01" * 16, True, len(segment()))
    assert read.feedback == [FEEDBACK]
    (one,) = read.predictions
    assert one.shape == SHAPE
    assert (one.request_id, one.role, one.key, one.rows) == ("r-1", Role.CANDIDATE, "customer 7", 2)
    np.testing.assert_array_equal(one.inputs["age"], PREDICTION.inputs["age"])
    assert list(one.inputs["plan"]) == ["a", None]


def test_a_field_that_is_not_kept_is_absent():
    bare = Prediction(shape=SHAPE, at_us=1, request_id="x", inputs={}, outputs=PREDICTION.outputs)
    data = b"".join(frame(p) for p in (shape_payload(0, SHAPE), prediction_payload(0, bare)))
    (one,) = read_segment(segment_head(b"\0" * 16) + data).predictions
    assert (set(one.inputs), set(one.outputs), one.rows) == (set(), {"label"}, 2)


@given(st.integers(0, 10_000), st.binary(max_size=40))
def test_a_torn_tail_costs_nothing_that_comes_before_it(length, noise):
    whole = segment()
    torn = whole[: length % len(whole)] + noise
    read = read_segment(torn)
    if read is None:
        assert len(torn) < 24 or not torn.startswith(b"SHIPSPL1")
        return
    assert read.good_bytes <= len(torn)
    again = read_segment(torn[: read.good_bytes])
    assert len(again.predictions) == len(read.predictions)
    assert again.feedback == read.feedback


@given(st.integers(24, 10_000), st.integers(1, 255))
def test_a_byte_that_changed_ends_what_is_read(at, change):
    data = bytearray(segment())
    at = 24 + at % (len(data) - 24)
    data[at] ^= change
    read = read_segment(bytes(data))
    assert read.good_bytes <= at
    assert not read.is_sealed


@pytest.mark.parametrize("data", [b"", b"SHIPSPL1", b"x" * 100])
def test_other_bytes_are_no_segment(data):
    assert read_segment(data) is None


def test_columns_have_their_fields_names_unless_these_are_taken():
    assert columns_of(["age", "_at"], ["age", "label"]) == (
        {"age": "age", "_at": "in._at"},
        {"age": "out.age", "label": "label"},
    )


def batch(arrays, told):
    rows = [len(one["age"]) for one in arrays]
    inputs = {name: joined([one[name] for one in arrays], rows) for name in ("age", "plan")}
    outputs = {"label": joined([one["label"] for one in arrays], rows)}
    return batch_payload(
        0,
        Batch(
            rows, list(zip(*told, strict=True)), packed(["age", "plan"], inputs),
            packed(["label"], outputs),
        ),
    )  # fmt: skip


def rows_of(number):
    return {
        "age": np.arange(number, dtype=np.float64),
        "plan": np.array([f"p{i}" for i in range(number)], dtype=object),
        "label": np.arange(number),
    }


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_a_batch_is_read_as_the_predictions_that_went_into_it(numbers):
    arrays = [rows_of(number) for number in numbers]
    told = [(at, f"r{at}", at % 3, at * 10, "who", "eu", "k") for at in range(len(numbers))]
    data = segment_head(b"\2" * 16) + frame(shape_payload(0, SHAPE)) + frame(batch(arrays, told))
    read = read_segment(data)
    assert read.good_bytes == len(data)
    assert [p.rows for p in read.predictions] == numbers
    for one, made, says in zip(read.predictions, arrays, told, strict=True):
        assert (one.at_us, one.request_id, one.role, one.latency_us) == says[:4]
        assert (one.principal, one.segment, one.key) == says[4:]
        assert one.inputs["age"].dtype == np.float64
        np.testing.assert_array_equal(one.inputs["age"], made["age"])
        assert list(one.inputs["plan"]) == list(made["plan"])
        np.testing.assert_array_equal(one.outputs["label"], made["label"])


@pytest.mark.parametrize(
    ("arrays", "rows"),
    [
        ([np.zeros(1), np.zeros(1, np.int64)], [1, 1]),
        ([np.zeros(1), np.zeros(1, np.float32)], [1, 1]),
        ([np.zeros((1, 2)), np.zeros((1, 3))], [1, 1]),
        ([np.zeros(2), np.zeros(0)], [1, 1]),
        ([np.zeros(()), np.zeros(())], [1, 1]),
    ],
)
def test_arrays_that_are_not_alike_are_not_joined(arrays, rows):
    with pytest.raises((TypeError, ValueError)):
        joined(arrays, rows)


@given(st.integers(0, 10_000), st.binary(max_size=40))
def test_a_mended_segment_is_sealed_and_has_all_that_was_whole(length, noise):
    whole = segment()
    torn = whole[: length % (len(whole) + 1)] + noise
    made = mended(torn)
    read = read_segment(torn)
    if read is None or not (read.predictions or read.feedback):
        # At most the shape came through: nothing to tell, or no segment at all.
        assert made == b"" or read_segment(made).is_sealed
        return
    again = read_segment(made)
    assert again.is_sealed
    assert (again.id, len(again.predictions), again.feedback) == (
        read.id, len(read.predictions), read.feedback,
    )  # fmt: skip
    assert again.good_bytes == len(made)
    assert mended(made) == made


def test_a_segment_without_a_whole_frame_is_mended_to_nothing():
    head = segment_head(b"\3" * 16)
    assert mended(head) == b""
    assert mended(head + frame(end_payload(0))) == b""
    assert mended(head + frame(feedback_payload(FEEDBACK))[:-1]) == b""
    assert mended(b"something else") == b""


def test_objects_that_messagepack_does_not_know_are_written_as_plain_values():
    strange = np.array([np.float32(1.5), np.str_("a"), np.int64(3), 1 + 2j], dtype=object)
    prediction = Prediction(
        shape=SHAPE, at_us=1, request_id="x", inputs={"plan": strange}, outputs={}
    )
    data = segment_head(b"\0" * 16) + b"".join(
        frame(p) for p in (shape_payload(0, SHAPE), prediction_payload(0, prediction))
    )
    (one,) = read_segment(data).predictions
    assert list(one.inputs["plan"]) == [1.5, "a", 3, "(1+2j)"]
