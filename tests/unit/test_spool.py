"""Spool segments: what is written is read again, and a torn tail costs nothing that comes before it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.captures import Feedback, Prediction, Role, Shape, columns_of
from shipway.core.signature import Field
from shipway.core.tensors import DataType
from shipway.wire.spool import (
    end_payload,
    feedback_payload,
    frame,
    prediction_payload,
    read_segment,
    segment_head,
    shape_payload,
)

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
