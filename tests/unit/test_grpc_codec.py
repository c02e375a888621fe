"""Open Inference over gRPC: tensors typed and raw, both ways, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.errors import InvalidRequest, QueueFull
from shipway.core.inference import InferenceResponse
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import NUMPY_OF, DataType
from shipway.gateway.grpc.call import MESSAGE_HEAD
from shipway.gateway.grpc.codec import FIELD_OF, GrpcInference, GrpcStreamInference, InferCall
from shipway.gateway.grpc.messages import (
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from shipway.wire.open_inference import joined_bytes, split_bytes

CODEC = GrpcInference()
SIGNATURE = Signature(
    layout=Layout.TENSORS,
    inputs=(Field(name="x", dtype=DataType.FP32),),
    outputs=(Field(name="y", dtype=DataType.FP32),),
)
NUMERIC = [kind for kind in DataType if kind.is_numeric]
TYPED = [kind for kind in NUMERIC if kind is not DataType.FP16]


def request(*tensors, raw=(), **more):
    made = ModelInferRequest(model_name="m", raw_input_contents=raw, **more)
    for name, kind, shape, values in tensors:
        tensor = made.inputs.add(name=name, datatype=kind, shape=shape)
        if values is not None:
            getattr(tensor.contents, FIELD_OF[DataType(kind)]).extend(values)
    return made


def decoded(made, timeout_s=None):
    return CODEC.decode(InferCall(made, timeout_s), SIGNATURE)


def message_of(reply, kind=ModelInferResponse):
    compressed, length = MESSAGE_HEAD.unpack_from(reply.message)
    assert (compressed, length) == (0, len(reply.message) - MESSAGE_HEAD.size)
    return kind.FromString(reply.message[MESSAGE_HEAD.size :])


def answered(outputs, *, raw, identifier="7"):
    made = request(("x", "INT32", [0], None if raw else []), raw=[b""] if raw else [])
    response = InferenceResponse(model="m", version="3", outputs=outputs, id=identifier)
    return message_of(CODEC.encode(response, decoded(made)))


def sample(kind):
    if kind is DataType.BOOL:
        return np.array([[True, False, True]])
    values = [[0, 1, 100]] if kind.is_integer else [[0.5, -1.25, np.nan]]
    return np.array(values, NUMPY_OF[kind])


@pytest.mark.parametrize("kind", NUMERIC)
def test_raw_numbers_arrive_and_leave_as_they_are(kind):
    array = sample(kind)
    made = request(("x", kind.value, array.shape, None), raw=[array.tobytes()])
    found = decoded(made).inputs["x"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    answer = answered({"y": array}, raw=True)
    assert answer.raw_output_contents == [array.tobytes()]
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == (kind.value, [1, 3])
    assert not answer.outputs[0].HasField("contents")


@pytest.mark.parametrize("kind", TYPED)
def test_typed_numbers_arrive_and_leave_as_they_are(kind):
    array = sample(kind)
    found = decoded(request(("x", kind.value, array.shape, array.ravel().tolist()))).inputs["x"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    answer = answered({"y": array}, raw=False)
    assert not answer.raw_output_contents
    values = getattr(answer.outputs[0].contents, FIELD_OF[kind])
    np.testing.assert_array_equal(np.array(list(values), array.dtype), array.ravel())


def test_half_floats_only_travel_raw():
    with pytest.raises(InvalidRequest, match="raw_input_contents"):
        decoded(request(("x", "FP16", [1], None)))
    answer = answered({"y": np.array([1.5], np.float16), "z": np.array([2], np.int64)}, raw=False)
    assert answer.raw_output_contents == [
        np.array([1.5], np.float16).tobytes(),
        np.array([2], np.int64).tobytes(),
    ]


def test_bytes_travel_typed_and_raw():
    items = np.array([b"a", b"", b"\xff\x00"], dtype=object)
    typed = decoded(request(("x", "BYTES", [3], items.tolist()))).inputs["x"]
    raw = decoded(request(("x", "BYTES", [3], None), raw=[joined_bytes(items)])).inputs["x"]
    assert typed.tolist() == raw.tolist() == items.tolist()
    text = np.array([["é", None]], dtype=object)
    answer = answered({"y": text}, raw=False).outputs[0]
    assert (answer.datatype, list(answer.contents.bytes_contents)) == (
        "BYTES",
        ["é".encode(), b""],
    )
    answer = answered({"y": text}, raw=True)
    assert answer.outputs[0].datatype == "BYTES"
    assert split_bytes(answer.raw_output_contents[0], 2, 0).tolist() == ["é".encode(), b""]


def test_requested_outputs_id_and_deadline_are_understood():
    made = request(("x", "FP32", [1], [1.0]), id="abc")
    made.outputs.add(name="y")
    asked = decoded(made, timeout_s=1.5)
    assert (asked.outputs, asked.id, asked.timeout_s) == (("y",), "abc", 1.5)
    assert decoded(request(("x", "FP32", [1], [1.0]))).outputs is None


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False), min_size=3, max_size=3)))
def test_rows_come_back_the_same_typed_and_raw(rows):
    array = np.array(rows, np.float32).reshape(-1, 3)
    typed = decoded(request(("x", "FP32", array.shape, array.ravel().tolist()))).inputs["x"]
    raw = decoded(request(("x", "FP32", array.shape, None), raw=[array.tobytes()])).inputs["x"]
    np.testing.assert_array_equal(typed, array)
    np.testing.assert_array_equal(raw, array)


@given(st.integers(0, 300), st.text(max_size=200), st.integers(0, 5))
def test_raw_answers_are_what_protobuf_itself_would_write(rows, identifier, columns):
    outputs = {"label": np.arange(rows), "p": np.ones((rows, columns), np.float32)}
    expected = ModelInferResponse(model_name="m", model_version="3", id=identifier)
    for name, kind in (("label", "INT64"), ("p", "FP32")):
        expected.outputs.add(name=name, datatype=kind, shape=outputs[name].shape)
        expected.raw_output_contents.append(outputs[name].tobytes())
    assert answered(outputs, raw=True, identifier=identifier) == expected


@pytest.mark.parametrize(
    ("made", "fact"),
    [
        (request(("x", "FP32", [2], [1.0])), "1 values in `fp32_contents` do not fill 2"),
        (request(("x", "FP32", [1], None), raw=[b"12345"]), "5 raw bytes do not fill 1"),
        (request(("x", "FP32", [1], None), raw=[b"1234", b""]), "1 inputs and 2 `raw_input"),
        (request(("x", "FP32", [-1], None), raw=[b""]), "negative"),
        (request(("x", "FP32", [1] * 70, [1.0])), "no tensor has this shape"),
        (request(("x", "FP32", [0, 2**62, 2**62], [])), "no tensor has this shape"),
        (request(("x", "FP32", [1], [1.0]), raw=[b"1234"]), "raw, and this one is typed"),
        (request(("x", "INT8", [1], [128])), "out of the range of INT8"),
        (request(("x", "UINT16", [1], [65536])), "out of the range of UINT16"),
        (request(("x", "BYTES", [2], None), raw=[b"\1\0\0\0a"]), "do not hold 2"),
        (request(("x", "FP32", [1], [1.0]), ("x", "FP32", [1], [1.0])), "twice"),
    ],
)
def test_a_message_that_does_not_add_up_is_refused(made, fact):
    with pytest.raises(InvalidRequest) as caught:
        decoded(made)
    assert fact in str(caught.value)


def test_what_would_change_the_answer_and_is_not_known_is_refused():
    made = request(("x", "FP32", [1], None))
    made.inputs[0].datatype = "BF16"
    with pytest.raises(InvalidRequest, match="`BF16` is not a datatype"):
        decoded(made)
    made = request(("x", "FP32", [1], [1.0]))
    made.inputs[0].parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(InvalidRequest, match="shared_memory_region"):
        decoded(made)
    made = request(("x", "FP32", [1], [1.0]))
    made.outputs.add(name="y").parameters["classification"].int64_param = 3
    with pytest.raises(InvalidRequest, match="classification"):
        decoded(made)
    made = request(("x", "FP32", [1], [1.0]))
    made.inputs[0].parameters["note"].string_param = "mine"
    assert decoded(made).inputs["x"].tolist() == [1.0]


@pytest.mark.parametrize(
    ("own_us", "deadline_s", "left_s"),
    [
        (0, None, None),
        (500_000, None, 0.5),
        (500_000, 0.2, 0.2),
        (100_000, 0.2, 0.1),
        (0, 0.2, 0.2),
    ],
)
def test_the_sooner_of_deadline_and_timeout_parameter_counts(own_us, deadline_s, left_s):
    made = request()
    made.parameters["timeout"].int64_param = own_us
    assert decoded(made, deadline_s).timeout_s == left_s


def test_marks_of_an_answer_leave_as_trailers():
    response = InferenceResponse(
        model="m", version="1", outputs={}, marks=((b"x-shipway-cache", b"hit"),)
    )
    reply = CODEC.encode(response, decoded(request()))
    assert b"x-shipway-cache" in reply.trailers
    assert b"hit" in reply.trailers


def test_in_a_stream_answer_and_failure_are_both_messages():
    made = request(("x", "FP32", [1], [1.0]), id="s1")
    codec = GrpcStreamInference(made)
    asked = codec.decode(InferCall(made, None), SIGNATURE)
    response = InferenceResponse(model="m", version="3", outputs={"y": np.ones(200)}, id="s1")
    answer = message_of(codec.encode(response, asked), ModelStreamInferResponse)
    assert (answer.error_message, answer.infer_response.id) == ("", "s1")
    assert list(answer.infer_response.outputs[0].contents.fp64_contents) == [1.0] * 200
    failed = message_of(codec.refuse(QueueFull("Full.")), ModelStreamInferResponse)
    assert (failed.error_message, failed.infer_response.id) == ("Full.", "s1")
    assert failed.infer_response.model_name == "m"
