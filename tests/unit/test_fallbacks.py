"""When something else answers, and what a static answer is."""

import numpy as np
import pytest

from shipway.core.endpoints import Fallback
from shipway.core.errors import (
    DeadlineExceeded,
    EndpointNotFound,
    InvalidInput,
    InvalidRequest,
    InvalidSpec,
    ModelFailed,
    NoReadyReplica,
    QueueFull,
    ReplicaLost,
    VersionNotFound,
)
from shipway.core.fallbacks import covers, named, static_outputs
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType

ENDPOINT, VERSION = Fallback(endpoint="old"), Fallback(version=3)
ANSWER = Fallback(answer={"label": ["no"], "probabilities": [0.9, 0.1]})
SIGNATURE = Signature(
    layout=Layout.COLUMNS,
    inputs=(Field(name="x", dtype=DataType.FP64),),
    outputs=(
        Field(name="label", dtype=DataType.STRING),
        Field(name="probabilities", dtype=DataType.FP32, shape=(-1, 2)),
    ),
)


@pytest.mark.parametrize("fallback", [ENDPOINT, VERSION, ANSWER])
def test_fallback_stands_in_for_failures_and_never_for_callers_or_shedding(fallback):
    assert all(covers(fallback, kind("")) for kind in (NoReadyReplica, ReplicaLost, ModelFailed))
    refused = (InvalidRequest, InvalidInput, QueueFull, EndpointNotFound, VersionNotFound, KeyError)
    assert not any(covers(fallback, kind("")) for kind in refused)


def test_after_the_deadline_only_a_static_answer_is_quick_enough():
    late = DeadlineExceeded("")
    assert [covers(one, late) for one in (ENDPOINT, VERSION, ANSWER)] == [False, False, True]


def test_callers_are_told_what_answered():
    assert [named(one) for one in (ENDPOINT, VERSION, ANSWER)] == [
        "endpoint:old",
        "version:3",
        "answer",
    ]


def test_static_answer_is_one_row_for_each_row_in_the_types_of_the_signature():
    outputs = static_outputs(
        {"probabilities": [0.9, 0.1], "label": ["no"]}, SIGNATURE, 3
    )  # fmt: skip
    assert list(outputs) == ["label", "probabilities"]
    assert outputs["label"].tolist() == ["no"] * 3
    assert outputs["probabilities"].dtype == np.float32
    np.testing.assert_allclose(outputs["probabilities"], [[0.9, 0.1]] * 3, rtol=1e-6)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"label": ["no"]}, "gives `label`; the model gives `label`, `probabilities`"),
        ({"label": ["no"], "probabilities": [1], "z": [1]}, "`z`"),
        ({"label": ["no"], "probabilities": [1.0]}, "1 values where 2 are needed"),
        ({"label": ["no"], "probabilities": ["a", "b"]}, "`probabilities` is not one row"),
        ({"label": ["no", "yes"], "probabilities": [1.0, 0.0]}, "`label` is not one row"),
    ],
)
def test_static_answer_that_does_not_fit_is_refused(answer, words):
    with pytest.raises(InvalidSpec) as raised:
        static_outputs(answer, SIGNATURE, 1)
    assert words in str(raised.value)


def test_bytes_and_free_dimensions():
    signature = Signature(
        layout=Layout.TENSORS,
        inputs=(Field(name="x", dtype=DataType.FP64),),
        outputs=(
            Field(name="b", dtype=DataType.BYTES),
            Field(name="v", dtype=DataType.INT64, shape=(-1, -1)),
        ),
    )
    outputs = static_outputs({"b": ["é"], "v": [1, 2, 3]}, signature, 2)
    assert outputs["b"].tolist() == ["é".encode()] * 2
    assert outputs["v"].tolist() == [[1, 2, 3]] * 2
