"""Each HTTP dialect as a codec: its forms in, the prediction out, its own shape of error."""

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.errors import (
    EndpointNotFound,
    InvalidInput,
    InvalidRequest,
    NoReadyReplica,
    QueueFull,
    UnsupportedMediaType,
)
from shipway.core.inference import InferenceResponse
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.core.validation import compile_validator
from shipway.wire.mlflow import Mlflow
from shipway.wire.multipart import MAX_PARTS, parts_of
from shipway.wire.open_inference import OpenInference
from shipway.wire.open_inference_generate import Generate
from shipway.wire.open_inference_tables import OpenInferenceTables
from shipway.wire.sagemaker import SageMaker
from shipway.wire.tf_serving import TfServing, Verb, encode_metadata, encode_status
from shipway.wire.torchserve import TorchServe
from shipway.wire.vertex import Vertex

LABEL = Field(name="label", dtype=DataType.STRING)
PROBABILITIES = Field(name="probabilities", dtype=DataType.FP32, shape=(-1, 2))
PEOPLE = Signature(
    layout=Layout.COLUMNS,
    inputs=(
        Field(name="age", dtype=DataType.FP64, nullable=True),
        Field(name="city", dtype=DataType.STRING, nullable=True),
    ),
    outputs=(LABEL, PROBABILITIES),
)
MATRIX = Signature(
    layout=Layout.TENSORS,
    inputs=(Field(name="X", dtype=DataType.FP32, shape=(-1, 2)),),
    outputs=(Field(name="prediction", dtype=DataType.FP32),),
)
TEXT = Signature(
    layout=Layout.TENSORS,
    inputs=(Field(name="document", dtype=DataType.STRING),),
    outputs=(Field(name="language", dtype=DataType.STRING),),
)
PICTURE = Signature(
    layout=Layout.TENSORS,
    inputs=(Field(name="image", dtype=DataType.BYTES),),
    outputs=(Field(name="thumb_bytes", dtype=DataType.BYTES),),
)


class Sent:
    """A request as codecs see it."""

    def __init__(self, body, content_type="application/json", **headers):
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {
            name.replace("_", "-").encode(): value.encode() for name, value in headers.items()
        }
        if content_type:
            self.headers[b"content-type"] = content_type.encode()
        self.query = b""


def answered(outputs, **more):
    return InferenceResponse(
        model="m", version="3", outputs={k: np.array(v) for k, v in outputs.items()}, **more
    )


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


PEOPLE_ANSWER = InferenceResponse(
    model="m",
    version="3",
    outputs={
        "label": objects("yes", "no"),
        "probabilities": np.array([[0.25, 0.75], [1, 0]], np.float32),
    },
    classes=("no", "yes"),
)


def columns(codec, sent, signature=PEOPLE):
    """The inputs as the model gets them."""
    asked = codec.decode(sent, signature)
    conformed = compile_validator(signature)(asked.inputs)
    return {name: array.tolist() for name, array in conformed.items()}


def prediction(codec, sent, answer, signature=PEOPLE, marks=()):
    asked = codec.decode(sent, signature)
    outputs = answer.outputs
    if asked.outputs is not None:
        outputs = {name: outputs[name] for name in asked.outputs}
    response = InferenceResponse(
        model="m",
        version="3",
        outputs=outputs,
        id=asked.id,
        classes=answer.classes,
        marks=marks,
    )
    return codec.encode(response, asked)


SAGEMAKER = SageMaker(OpenInference())
RECORDS = [{"age": 30, "city": "Rome"}, {"city": None, "age": 31}]
LISTS = [[30, "Rome"], [31, None]]
SPLIT = {"index": [0, 1], "columns": ["city", "age"], "data": [["Rome", 30], [None, 31]]}
BY_COLUMN = {"age": [30, 31], "city": ["Rome", None]}
CSV_TEXT = b"city,age\r\nRome,30\r\n,31\r\n"
FORMS = [
    (Mlflow(), Sent({"dataframe_split": SPLIT})),
    (Mlflow(), Sent({"dataframe_records": RECORDS})),
    (Mlflow(), Sent({"instances": LISTS})),
    (Mlflow(), Sent({"inputs": BY_COLUMN})),
    (Mlflow(), Sent(CSV_TEXT, "text/csv; charset=utf-8")),
    (TfServing(Verb.PREDICT), Sent({"instances": RECORDS})),
    (TfServing(Verb.PREDICT), Sent({"instances": LISTS}, None)),
    (TfServing(Verb.PREDICT), Sent({"inputs": BY_COLUMN})),
    (TfServing(Verb.CLASSIFY), Sent({"examples": RECORDS})),
    (TfServing(Verb.REGRESS), Sent({"context": {"age": 31}, "examples": [RECORDS[0], {}]})),
    (Vertex(), Sent({"instances": RECORDS})),
    (TorchServe(), Sent(LISTS)),
    (TorchServe(), Sent(RECORDS, "application/x-www-form-urlencoded")),
    (TorchServe(), Sent({"instances": RECORDS})),
    (TorchServe(), Sent({"data": LISTS}, None)),
    (SAGEMAKER, Sent({"instances": [{"features": row} for row in LISTS]})),
    (SAGEMAKER, Sent(RECORDS)),
    (SAGEMAKER, Sent({"dataframe_split": SPLIT})),
    (SAGEMAKER, Sent(b'{"features": [30, "Rome"]}\n{"features": [31, null]}\n', "application/jsonlines")),
    (SAGEMAKER, Sent(CSV_TEXT, "text/csv")),
    (SAGEMAKER, Sent(b"30,Rome\n31,\n", "text/csv")),
    (SAGEMAKER, Sent(b"age,city\n30,Rome\n31,\n", "text/csv; header=present")),
    (
        SAGEMAKER,
        Sent(
            {
                "inputs": [
                    {"name": "age", "shape": [2], "datatype": "FP64", "data": [30, 31]},
                    {"name": "city", "shape": [2], "datatype": "BYTES", "data": ["Rome", None]},
                ]
            }
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "sent"), FORMS)
def test_every_form_gives_the_model_the_same_columns(codec, sent):
    assert columns(codec, sent) == {"age": [30.0, 31.0], "city": ["Rome", None]}


@pytest.mark.parametrize(
    ("codec", "sent"),
    [
        (Mlflow(), Sent({"instances": [[1, 2], [3, 4]]})),
        (Mlflow(), Sent({"inputs": [[1, 2], [3, 4]]})),
        (Mlflow(), Sent({"inputs": {"X": [[1, 2], [3, 4]]}})),
        (Mlflow(), Sent({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}})),
        (Mlflow(), Sent({"dataframe_split": {"data": [[1, 2], [3, 4]]}})),
        (Mlflow(), Sent({"dataframe_records": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]})),
        (Mlflow(), Sent(b"a,b\n1,2\n3,4\n", "text/csv")),
        (SAGEMAKER, Sent(b"1,2\n3,4\n", "text/csv")),
        (SAGEMAKER, Sent(b"a,b\n1,2\n3,4\n", "text/csv")),
        (TfServing(Verb.PREDICT), Sent({"instances": [[1, 2], [3, 4]]})),
        (TfServing(Verb.PREDICT), Sent({"inputs": [[1, 2], [3, 4]]})),
        (Vertex(), Sent({"instances": [{"X": [1, 2]}, {"X": [3, 4]}]})),
        (TorchServe(), Sent([[1, 2], [3, 4]])),
    ],
)
def test_matrix_models_take_bare_rows_and_frames(codec, sent):
    assert columns(codec, sent, MATRIX) == {"X": [[1, 2], [3, 4]]}


def test_nan_of_pythons_json_is_null():
    body = b'{"dataframe_split": {"columns": ["age", "city"], "data": [[NaN, "Rome"]]}}'
    found = columns(Mlflow(), Sent(body))
    assert np.isnan(found["age"][0])


@pytest.mark.parametrize(
    ("codec", "sent", "body"),
    [
        (Mlflow(), Sent({"dataframe_records": RECORDS}), {"predictions": ["yes", "no"]}),
        (TfServing(Verb.PREDICT), Sent({"instances": LISTS}), {"predictions": ["yes", "no"]}),
        (TfServing(Verb.PREDICT), Sent({"inputs": BY_COLUMN}), {"outputs": ["yes", "no"]}),
        (
            TfServing(Verb.CLASSIFY),
            Sent({"examples": RECORDS}),
            {"results": [[["no", 0.25], ["yes", 0.75]], [["no", 1.0], ["yes", 0.0]]]},
        ),
        (Vertex(), Sent({"instances": RECORDS}), {"predictions": ["yes", "no"]}),
        (TorchServe(), Sent(RECORDS), ["yes", "no"]),
        (TorchServe(), Sent({"instances": RECORDS}), {"predictions": ["yes", "no"]}),
        (SAGEMAKER, Sent(RECORDS), ["yes", "no"]),
        (SAGEMAKER, Sent({"instances": RECORDS}), {"predictions": ["yes", "no"]}),
    ],
)
def test_label_is_the_prediction(codec, sent, body):
    answer = prediction(codec, sent, PEOPLE_ANSWER)
    assert (answer.status, json.loads(answer.body)) == (200, body)


@pytest.mark.parametrize(
    ("codec", "sent"),
    [
        (Mlflow(), {"dataframe_records": RECORDS, "params": {"outputs": ["probabilities", "label"]}}),
        (TfServing(Verb.PREDICT), {"instances": LISTS, "parameters": {"outputs": ["probabilities", "label"]}}),
        (Vertex(), {"instances": LISTS, "parameters": {"outputs": ["probabilities", "label"]}}),
    ],
)  # fmt: skip
def test_several_outputs_that_were_asked_for_are_an_object_per_row(codec, sent):
    body = json.loads(prediction(codec, Sent(sent), PEOPLE_ANSWER).body)
    assert body["predictions"] == [
        {"probabilities": [0.25, 0.75], "label": "yes"},
        {"probabilities": [1.0, 0.0], "label": "no"},
    ]


@pytest.mark.parametrize("outputs", [[], "label", [1], {"label": 1}])
def test_outputs_that_are_no_list_of_names_are_refused(outputs):
    with pytest.raises(InvalidRequest, match="list of output names"):
        Mlflow().decode(Sent({"instances": LISTS, "params": {"outputs": outputs}}), PEOPLE)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[1]", "JSON object"),
        (b'{"instances": NaN, ', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"instances": [[NaN, "\\uD800"]]}', "not JSON"),
        (b'{"instances": []}', "at least one row"),
        (b'{"instances": 3}', "must be a list"),
        (b'{"instances": [[1, "a"], [2]]}', "Row 1 is 1 values; it must be 2"),
        (b'{"instances": [[1, "a"], {"age": 1}]}', "some are not"),
        (b'{"instances": [1, 2]}', "Row 0 is no list"),
        (b'{"instances": [{"age": [1, [2]]}]}', "ragged"),
        (b'{"instances": [{"age": {"b64": "%"}}]}', "not base64"),
    ],
)
def test_malformed_rows_are_refused_in_words(body, words):
    with pytest.raises(InvalidRequest) as raised:
        Vertex().decode(Sent(body), PEOPLE)
    assert words in str(raised.value)
    for codec in (TfServing(Verb.PREDICT), Mlflow(), TorchServe(), SAGEMAKER):
        with pytest.raises((InvalidRequest, InvalidInput)):
            columns(codec, Sent(body))


def test_row_without_a_column_is_null_and_unknown_columns_are_named():
    with pytest.raises(InvalidRequest, match="no input `town`"):
        columns(Vertex(), Sent({"instances": [{"age": 1, "town": "Rome"}]}))
    assert columns(Vertex(), Sent({"instances": [{"city": "a"}, {"age": 2}]}))["city"] == [
        "a",
        None,
    ]


def test_one_long_text_does_not_widen_all_others():
    rows = [{"age": 1, "city": "x" * 1_000_000}, *({"age": 1, "city": "y"} for _ in range(5000))]
    inputs = Vertex().decode(Sent({"instances": rows}), PEOPLE).inputs
    assert inputs["city"].dtype == object


@given(
    st.lists(st.tuples(st.none() | st.integers(-(2**53), 2**53), st.none() | st.text()), min_size=1)
)
def test_rows_lists_and_columns_mean_the_same(table):
    rows = [{"age": age, "city": city} for age, city in table]
    by_column = {"age": [age for age, _ in table], "city": [city for _, city in table]}
    forms = [
        (Vertex(), {"instances": rows}),
        (TorchServe(), [[age, city] for age, city in table]),
        (Mlflow(), {"inputs": by_column}),
        (Mlflow(), {"dataframe_split": {"columns": ["age", "city"], "data": [list(r) for r in table]}}),
    ]  # fmt: skip
    results = [columns(codec, Sent(body)) for codec, body in forms]
    for found in results:
        np.testing.assert_array_equal(found["age"], results[0]["age"])
        assert found["city"] == [city for _, city in table]


@pytest.mark.parametrize(
    ("codec", "sent"),
    [*FORMS, (Generate(streaming=True), Sent(RECORDS[0])), (OpenInferenceTables(), Sent(CSV_TEXT, "text/csv"))],
)  # fmt: skip
def test_marks_of_the_response_are_headers_in_every_dialect(codec, sent):
    answer = prediction(codec, sent, PEOPLE_ANSWER, marks=((b"x-mark", b"hit"),))
    assert dict(answer.headers)[b"x-mark"] == b"hit"


class TestMlflow:
    @pytest.mark.parametrize("kind", ["application/xml", "application/json; charset=latin-1",
                                      "text/csv; format=pandas"])  # fmt: skip
    def test_other_types_charsets_and_parameters_get_415_in_plain_text(self, kind):
        with pytest.raises(UnsupportedMediaType) as raised:
            Mlflow().decode(Sent(b"", kind), PEOPLE)
        answer = Mlflow().refuse(raised.value)
        assert answer.status == 415
        assert answer.headers == ((b"content-type", b"text/plain"),)

    @pytest.mark.parametrize("body", [{"rows": []}, {"instances": [], "inputs": []}, {}])
    def test_exactly_one_form_is_required(self, body):
        with pytest.raises(InvalidRequest, match="exactly one"):
            Mlflow().decode(Sent(body), PEOPLE)

    def test_unwrapped_input_is_answered_unwrapped(self):
        signature = Signature(
            layout=Layout.TENSORS,
            inputs=(Field(name="prompt", dtype=DataType.STRING),),
            outputs=(Field(name="text", dtype=DataType.STRING),),
        )
        sent = Sent({"prompt": "hello"})
        assert columns(Mlflow(), sent, signature) == {"prompt": ["hello"]}
        answer = prediction(Mlflow(), sent, answered({"text": ["hi"]}), signature)
        assert json.loads(answer.body) == ["hi"]

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (InvalidRequest("x"), 400, "BAD_REQUEST"),
            (InvalidInput("x"), 422, "BAD_REQUEST"),
            (EndpointNotFound("x"), 404, "RESOURCE_DOES_NOT_EXIST"),
            (QueueFull("x", retry_after_s=1), 429, "REQUEST_LIMIT_EXCEEDED"),
            (NoReadyReplica("x", retry_after_s=1), 503, "TEMPORARILY_UNAVAILABLE"),
        ],
    )
    def test_errors_have_mlflows_codes(self, error, status, code):
        answer = Mlflow().refuse(error)
        body = json.loads(answer.body)
        assert (answer.status, body["error_code"], body["message"]) == (status, code, "x")


class TestTfServing:
    def test_base64_goes_both_ways(self):
        raw = b"\xff\x00picture"
        body = {"instances": [{"image": {"b64": base64.b64encode(raw).decode()}}]}
        codec = TfServing(Verb.PREDICT)
        assert columns(codec, Sent(body), PICTURE) == {"image": [raw]}
        bare = {"instances": [{"b64": base64.b64encode(raw).decode()}]}
        assert columns(codec, Sent(bare), PICTURE) == {"image": [raw]}
        response = InferenceResponse(
            model="m", version="1", outputs={"thumb_bytes": objects(b"ab")}
        )
        answer = prediction(codec, Sent(body), response, PICTURE)
        assert json.loads(answer.body) == {"predictions": [{"b64": "YWI="}]}

    def test_both_or_no_form_is_refused(self):
        for body in ({}, {"instances": [], "inputs": []}):
            with pytest.raises(InvalidRequest, match="either"):
                TfServing(Verb.PREDICT).decode(Sent(body), PEOPLE)

    def test_classify_without_scores_gives_the_label_and_of_a_regressor_is_refused(self):
        codec = TfServing(Verb.CLASSIFY)
        sent = Sent({"examples": RECORDS})
        answer = prediction(codec, sent, answered({"label": [1, 0]}))
        assert json.loads(answer.body) == {"results": [[["1", 1.0]], [["0", 1.0]]]}
        with pytest.raises(InvalidRequest, match="no classifier"):
            prediction(codec, sent, answered({"prediction": [1.5, 2.5]}))

    def test_status_and_metadata_have_tensorflows_shape(self):
        status = json.loads(encode_status("m", [("1", True, ""), ("2", False, "gone")], ready=True))
        assert status["model_version_status"] == [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}},
            {"version": "2", "state": "LOADING", "status": {"error_code": "UNAVAILABLE", "error_message": "gone"}},
        ]  # fmt: skip
        found = json.loads(encode_metadata("m", "1", MATRIX))["metadata"]["signature_def"]
        tensor = found["signature_def"]["serving_default"]["inputs"]["X"]
        assert tensor["dtype"] == "DT_FLOAT"
        assert tensor["tensor_shape"]["dim"] == [
            {"size": "-1", "name": ""},
            {"size": "2", "name": ""},
        ]


class TestTorchServe:
    def multipart(self, **parts):
        body = b"".join(
            b'--B\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n%s\r\n'
            % (name.encode(), content)
            for name, content in parts.items()
        )
        return Sent(body + b"--B--\r\n", "multipart/form-data; boundary=B")

    def test_raw_body_is_the_only_input(self):
        raw = b"\x89PNG\r\n\x00"
        assert columns(TorchServe(), Sent(raw, None), PICTURE) == {"image": [raw]}
        assert columns(TorchServe(), Sent(b"Salve", "text/plain"), TEXT) == {"document": ["Salve"]}

    def test_form_parts_are_data_or_inputs(self):
        raw = b"\x89PNG\r\n--\x00"
        assert columns(TorchServe(), self.multipart(data=raw), PICTURE) == {"image": [raw]}
        rows = self.multipart(data=json.dumps(LISTS).encode())
        assert columns(TorchServe(), rows)["age"] == [30.0, 31.0]
        by_name = self.multipart(age=b"30", city=b"Rome")
        assert columns(TorchServe(), by_name) == {"age": [30.0], "city": ["Rome"]}

    def test_one_row_is_answered_with_one_prediction(self):
        answer = prediction(TorchServe(), Sent(RECORDS[0]), answered({"label": ["yes"]}))
        assert json.loads(answer.body) == "yes"

    @pytest.mark.parametrize("body", [b"", b"--B--", b"--B\r\nx\r\n", b"--B\r\n\r\nx\r\n--B--",
                                      b"--B\r\n" * 1000])  # fmt: skip
    def test_damaged_forms_are_refused(self, body):
        with pytest.raises(InvalidRequest):
            parts_of(body, "B")

    def test_parts_are_bounded(self):
        part = b'--B\r\ncontent-disposition: form-data; name="a"\r\n\r\nx\r\n'
        assert len(parts_of(part * MAX_PARTS + b"--B--\r\n", "B")) == MAX_PARTS
        with pytest.raises(InvalidRequest, match="more than"):
            parts_of(part * (MAX_PARTS + 1) + b"--B--\r\n", "B")

    def test_picture_for_a_model_of_numbers_gets_415(self):
        with pytest.raises(UnsupportedMediaType):
            TorchServe().decode(Sent(b"\xff\xd8", "image/jpeg"), MATRIX)

    def test_errors_have_torchserves_shape(self):
        body = json.loads(TorchServe().refuse(EndpointNotFound("gone")).body)
        assert body == {"code": 404, "type": "ModelNotFoundException", "message": "gone"}

    @given(st.binary())
    def test_any_bytes_survive_a_form(self, content):
        if b"\r\n--B" not in b"\r\n" + content:
            (part,) = parts_of(self.multipart(data=content).body, "B")
            assert part.content == content


class TestSageMaker:
    @pytest.mark.parametrize(
        ("sent", "accept", "kind", "body"),
        [
            (Sent(CSV_TEXT, "text/csv"), "", "text/csv", b"yes\nno\n"),
            (Sent(CSV_TEXT, "text/csv"), "*/*", "text/csv", b"yes\nno\n"),
            (Sent(CSV_TEXT, "text/csv"), "application/json", "application/json", b'{"predictions":["yes","no"]}'),
            (Sent(RECORDS), "text/csv", "text/csv", b"yes\nno\n"),
            (Sent(RECORDS), "application/jsonlines", "application/jsonlines", b'"yes"\n"no"\n'),
            (Sent({"instances": RECORDS}), "application/json", "application/json", b'{"predictions":["yes","no"]}'),
        ],
    )  # fmt: skip
    def test_answer_is_in_the_form_of_its_request_or_as_accepted(self, sent, accept, kind, body):
        sent.headers[b"accept"] = accept.encode()
        answer = prediction(SAGEMAKER, sent, PEOPLE_ANSWER)
        assert (dict(answer.headers)[b"content-type"], answer.body) == (kind.encode(), body)

    def test_custom_attributes_come_back(self):
        sent = Sent(RECORDS, x_amzn_sagemaker_custom_attributes="trace=1")
        answer = prediction(SAGEMAKER, sent, PEOPLE_ANSWER)
        assert dict(answer.headers)[b"x-amzn-sagemaker-custom-attributes"] == b"trace=1"

    def test_open_inference_bodies_are_answered_as_such(self):
        tensor = {"name": "X", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
        sent = Sent({"inputs": [tensor], "id": "q"})
        answer = prediction(SAGEMAKER, sent, answered({"prediction": [1.5]}), MATRIX)
        body = json.loads(answer.body)
        assert (body["id"], body["outputs"][0]["data"]) == ("q", [1.5])

    def test_other_types_get_415(self):
        with pytest.raises(UnsupportedMediaType):
            SAGEMAKER.decode(Sent(b"", "application/x-recordio-protobuf"), PEOPLE)


class TestGenerate:
    def test_text_input_feeds_the_only_input_and_text_output_answers(self):
        codec = Generate(streaming=False)
        sent = Sent({"text_input": "Salve", "parameters": {"temperature": 0}})
        assert columns(codec, sent, TEXT) == {"document": ["Salve"]}
        answer = prediction(codec, sent, answered({"language": ["la"]}), TEXT)
        assert json.loads(answer.body) == {
            "model_name": "m", "model_version": "3", "text_output": "la",
        }  # fmt: skip

    def test_members_named_like_inputs_are_inputs(self):
        codec = Generate(streaming=False)
        assert columns(codec, Sent({"X": [1, 2], "seed": 7}), MATRIX) == {"X": [[1, 2]]}
        assert columns(codec, Sent(RECORDS[0])) == {"age": [30.0], "city": ["Rome"]}
        with pytest.raises(InvalidRequest, match="names no input"):
            codec.decode(Sent({"text_input": "x"}), PEOPLE)

    def test_stream_is_one_server_sent_event(self):
        codec = Generate(streaming=True)
        answer = prediction(codec, Sent({"X": [1, 2]}), answered({"prediction": [1.5]}), MATRIX)
        assert dict(answer.headers)[b"content-type"] == b"text/event-stream; charset=utf-8"
        event = answer.body.decode()
        assert event.startswith("data: ")
        assert event.endswith("\n\n")
        assert json.loads(event[6:])["prediction"] == 1.5
