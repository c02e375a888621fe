"""What the client writes, the gateway's codec reads, and the other way round."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipway.client.exchange import Answer
from shipway.client.openinference import HEADER_LENGTH, infer_body, read_prediction
from shipway.core.errors import Bug
from shipway.core.inference import InferenceResponse
from shipway.wire.open_inference import decode_request, encode_response

NUMERIC = st.sampled_from(
    [
        "bool",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
    ]
)


def answer_of(response, *, binary):
    body, head = encode_response(response, {"binary_outputs": True} if binary else None)
    headers = {} if head is None else {HEADER_LENGTH: str(head)}
    return Answer(status=200, headers=headers, body=body)


@given(NUMERIC.flatmap(lambda t: hnp.arrays(t, hnp.array_shapes(max_dims=3, max_side=4))))
def test_numeric_array_arrives_bit_for_bit(array):
    body, headers = infer_body({"x": array})
    request = decode_request(body, header_length=int(headers[HEADER_LENGTH]))
    arrived = request.inputs["x"]
    assert arrived.dtype == array.dtype
    assert arrived.tobytes() == array.tobytes()
    assert arrived.shape == array.shape


def test_text_travels_as_json_with_its_nulls():
    city = np.array(["Zürich", None], dtype=object)
    body, headers = infer_body({"city": city, "age": np.array([41.0, np.nan])})
    request = decode_request(body, header_length=int(headers[HEADER_LENGTH]))
    assert request.inputs["city"].tolist() == ["Zürich", None]
    assert np.isnan(request.inputs["age"][1])


def test_a_request_of_text_alone_is_plain_json():
    body, headers = infer_body({"city": np.array(["Bern"], dtype=object)}, request_id="r1")
    assert headers["content-type"] == "application/json"
    assert decode_request(body).id == "r1"


def test_big_endian_and_strided_arrays_are_sent_as_values():
    array = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2]
    body, headers = infer_body({"x": array})
    arrived = decode_request(body, header_length=int(headers[HEADER_LENGTH])).inputs["x"]
    assert arrived.tolist() == array.tolist()


@pytest.mark.parametrize("binary", [True, False])
def test_answers_are_read_with_dtype_shape_and_version(binary):
    outputs = {
        "label": np.array(["yes", "nö"], dtype=object),
        "probabilities": np.array([[0.25, 0.75], [1.0, 0.0]], dtype=np.float32),
    }
    response = InferenceResponse(model="churn", version="2", outputs=outputs, id="r1")
    prediction = read_prediction(answer_of(response, binary=binary))
    assert (prediction.endpoint, prediction.version, prediction.id) == ("churn", "2", "r1")
    assert prediction.label.tolist() == ["yes", "nö"]
    assert prediction["probabilities"].dtype == np.float32
    assert prediction["probabilities"].tolist() == [[0.25, 0.75], [1.0, 0.0]]
    assert prediction.values is prediction.label


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"outputs": []}',
        b'{"model_name": "m", "outputs": [{"name": "x", "datatype": "FP99", "shape": [1]}]}',
        b'{"model_name": "m", "outputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1]}]}',
    ],
)
def test_an_answer_that_breaks_the_protocol_is_named_as_such(body):
    with pytest.raises(Bug, match="Open Inference"):
        read_prediction(Answer(status=200, headers={}, body=body))
