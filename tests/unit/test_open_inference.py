"""Open Inference v2: JSON, the binary tensor extension, and what malformed bodies get."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.errors import InvalidRequest
from shipway.core.inference import InferenceResponse
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.wire.codec import FALLBACK, JSON_ONLY, Timed, timeout_s_of
from shipway.wire.open_inference import (
    OpenInference,
    decode_raw,
    decode_request,
    encode_request,
    encode_response,
)


def body(**tensor):
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2.5], **tensor}
    return json.dumps({"inputs": [tensor]}).encode()


def test_data_may_be_nested_or_flat():
    flat = decode_request(body(shape=[2, 2], data=[1, 2, 3, 4])).inputs["x"]
    nested = decode_request(body(shape=[2, 2], data=[[1, 2], [3, 4]])).inputs["x"]
    np.testing.assert_array_equal(flat, nested)


def test_null_and_mixed_data_keep_every_value():
    assert decode_request(body(data=[None, 2.5])).inputs["x"].tolist() == [None, 2.5]
    assert decode_request(body(data=["1", 2.5])).inputs["x"].tolist() == ["1", 2.5]


def test_id_and_wanted_outputs_are_read():
    message = json.loads(body()) | {"id": "r7", "outputs": [{"name": "label"}]}
    request = decode_request(json.dumps(message).encode())
    assert (request.id, request.outputs) == ("r7", ("label",))


@pytest.mark.parametrize(
    ("data", "fact"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b'{"inputs": [}', "byte 12"),
        (b'{"inputs": 3}', "$.inputs"),
        (b"[]", "object"),
        (
            b'{"inputs": [{"name": "x", "shape": ["a"], "datatype": "FP32"}]}',
            "$.inputs[0].shape[0]",
        ),
        (body(shape=[3]), "$.inputs[0].data"),
        (body(shape=[-2]), "$.inputs[0].data"),
        (body(shape=[2, 2], data=[[1, 2], [3]]), "ragged"),
        (body(shape=[2, 2], data=[["a", "b"], ["c"]]), "ragged"),
        (body(datatype="FLOAT"), "$.inputs[0].datatype"),
        (body(data=None), "$.inputs[0].data"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [NaN]}]}', "byte"),
        (b"\xff\xfe", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_malformed_body_is_refused_with_its_place(data, fact):
    with pytest.raises(InvalidRequest) as caught:
        decode_request(data)
    assert fact in str(caught.value)


def test_same_input_twice_is_refused():
    message = json.loads(body())
    message["inputs"] *= 2
    with pytest.raises(InvalidRequest, match="twice"):
        decode_request(json.dumps(message).encode())


arrays = st.sampled_from(["f4", "f8", "i8", "u1", "?"]).flatmap(
    lambda kind: st.lists(st.integers(0, 1), min_size=1, max_size=5).map(
        lambda items: np.array(items, dtype=kind)
    )
)
texts = st.lists(st.text(max_size=4), min_size=1, max_size=4).map(
    lambda items: np.array([*items, None], dtype=object)[:-1]
)


@given(st.dictionaries(st.text(min_size=1, max_size=3), arrays | texts, min_size=1), st.booleans())
def test_requests_survive_both_encodings(inputs, binary):
    data, header_length = encode_request(inputs, request_id="7", binary=binary)
    request = decode_request(data, header_length=header_length)
    assert request.id == "7"
    for name, array in inputs.items():
        received = request.inputs[name].tolist()
        if array.dtype == object:
            received = [item.decode() if isinstance(item, bytes) else item for item in received]
        assert received == array.tolist()


def test_binary_response_puts_tensors_behind_the_header_in_order():
    outputs = {"a": np.array([1, 2], dtype=np.int64), "s": np.array(["x", "yz"], dtype=object)}
    response = InferenceResponse(model="m", version="1", outputs=outputs, id="q")
    data, length = encode_response(response, {"binary_outputs": True})
    head = json.loads(data[:length])
    assert [o["parameters"]["binary_data_size"] for o in head["outputs"]] == [16, 11]
    assert data[length:] == outputs["a"].tobytes() + b"\x01\0\0\0x\x02\0\0\0yz"


def test_output_flag_wins_over_the_request_flag():
    message = json.loads(body()) | {
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}],
    }
    request = decode_request(json.dumps(message).encode())
    outputs = {"a": np.array([1.0]), "b": np.array([2.0])}
    response = InferenceResponse(model="m", version="1", outputs=outputs)
    data, length = encode_response(response, request.parameters)
    first, second = json.loads(data[:length])["outputs"]
    assert first["data"] == [1.0]
    assert second["parameters"] == {"binary_data_size": 8}


@pytest.mark.parametrize("size", [7, 9, -1, True, "8", 10**12])
def test_binary_size_that_does_not_fit_is_refused(size):
    head = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [head]}).encode()
    with pytest.raises(InvalidRequest):
        decode_request(text + bytes(8), header_length=len(text))


def test_trailing_bytes_and_wrong_header_length_are_refused():
    with pytest.raises(InvalidRequest, match="follow"):
        decode_request(body() + b"xx", header_length=len(body()))
    with pytest.raises(InvalidRequest, match="body has"):
        decode_request(body(), header_length=10**9)


@given(st.binary(max_size=40), st.integers(1, 40))
def test_arbitrary_bytes_are_refused_not_crashed_on(data, length):
    with pytest.raises(InvalidRequest):
        decode_request(data, header_length=length)


def test_raw_request_is_one_row():
    field = Field(name="x", dtype=DataType.FP32, shape=(-1, 3))
    signature = Signature(layout=Layout.TENSORS, inputs=(field,), outputs=())
    request = decode_raw(np.arange(3, dtype=np.float32).tobytes(), signature)
    assert request.inputs["x"].shape == (1, 3)
    assert request.parameters == {"binary_outputs": True}
    with pytest.raises(InvalidRequest):
        decode_raw(bytes(7), signature)


def test_nan_in_an_answer_is_null_in_json():
    response = InferenceResponse(model="m", version="1", outputs={"y": np.array([np.nan, 1.0])})
    data, _ = encode_response(response)
    assert msgspec.json.decode(data)["outputs"][0]["data"] == [None, 1.0]


@pytest.mark.parametrize("shape", [[0, 2**62, 2**62], [2**70, 0], [0] + [1] * 99])
@pytest.mark.parametrize("datatype", ["FP64", "BYTES"])
def test_shape_that_no_tensor_has_is_refused_at_its_path(shape, datatype):
    data = body(shape=shape, datatype=datatype, data=None, parameters={"binary_data_size": 0})
    with pytest.raises(InvalidRequest) as caught:
        decode_request(data, header_length=len(data))
    assert caught.value.details["path"] == "$.inputs[0].shape"


def test_answers_are_little_endian_whatever_the_model_made():
    response = InferenceResponse(model="m", version="1", outputs={"y": np.array([2.5], ">f8")})
    data, length = encode_response(response, {"binary_outputs": True})
    assert np.frombuffer(data[length:], "<f8") == [2.5]


def test_one_long_text_among_numbers_does_not_widen_all_of_them():
    values = ["x" * 1_000_000, *range(100_000)]
    asked = decode_request(body(shape=[len(values)], data=values))
    assert asked.inputs["x"].dtype == object
    assert asked.inputs["x"][1:3].tolist() == [0, 1]


SIGNATURE = Signature(
    layout=Layout.TENSORS, inputs=(Field(name="x", dtype=DataType.FP32),), outputs=()
)


class Posted:
    query, headers = b"", {}

    def __init__(self, content):
        self.body = content


def test_deadline_of_the_caller_is_the_sooner_of_header_and_parameter():
    timed = Posted(json.dumps(json.loads(body()) | {"parameters": {"timeout": 1_500_000}}).encode())
    never = Posted(json.dumps(json.loads(body()) | {"parameters": {"timeout": 0}}).encode())
    codec = OpenInference()
    assert codec.decode(Posted(body()), SIGNATURE).timeout_s is None
    assert codec.decode(never, SIGNATURE).timeout_s is None
    assert codec.decode(timed, SIGNATURE).timeout_s == 1.5
    assert Timed(codec, 0.2).decode(Posted(body()), SIGNATURE).timeout_s == 0.2
    assert Timed(codec, 0.2).decode(timed, SIGNATURE).timeout_s == 0.2
    assert Timed(codec, 9.0).decode(timed, SIGNATURE).timeout_s == 1.5


def test_header_says_how_many_milliseconds_the_caller_waits():
    assert timeout_s_of({}) is None
    assert timeout_s_of({b"x-request-timeout-ms": b"250"}) == 0.25


@pytest.mark.parametrize("given", [b"0", b"-1", b"1.5", b"", b"soon", b"9" * 30])
def test_deadline_that_is_no_number_of_milliseconds_is_refused(given):
    with pytest.raises(InvalidRequest, match="milliseconds"):
        timeout_s_of({b"x-request-timeout-ms": given})


@pytest.mark.parametrize("given", [-1, 1.5, "1", True])
def test_timeout_parameter_that_is_no_number_of_microseconds_is_refused(given):
    timed = json.dumps(json.loads(body()) | {"parameters": {"timeout": given}}).encode()
    with pytest.raises(InvalidRequest, match="microseconds"):
        decode_request(timed)


def test_answer_says_what_stood_in_for_the_endpoints_own_version():
    response = InferenceResponse(model="m", version="1", outputs={"y": np.ones(1)})
    asked = decode_request(body())
    assert OpenInference().encode(response, asked).headers == JSON_ONLY
    response.marks = ((FALLBACK, b"version:1"),)
    headers = OpenInference().encode(response, asked).headers
    assert headers == (*JSON_ONLY, (b"x-shipway-fallback", b"version:1"))
