"""Bodies that lie about their size, and values that are made to break who reads them."""

import contextlib
import io
import json
import struct
import time
import tracemalloc
import zlib

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shipway.core.errors import (
    BodyTooLarge,
    CallerError,
    EndpointNotFound,
    InvalidInput,
    InvalidRequest,
    ModelFailed,
    ShipwayError,
)
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.core.validation import compile_validator
from shipway.gateway.grpc.codec import GrpcInference, InferCall
from shipway.gateway.grpc.messages import ModelInferRequest
from shipway.gateway.http import Request
from shipway.wire.arrow import Kind, inputs_of_arrow
from shipway.wire.frames import (
    Failure,
    FrameReader,
    decode_failure,
    decode_pong,
    decode_tensors,
    encode_plain,
)
from shipway.wire.frames import Kind as Frame
from shipway.wire.kept import kept_snapshot
from shipway.wire.mlflow import Mlflow
from shipway.wire.multipart import MAX_PARTS
from shipway.wire.open_inference import OpenInference
from shipway.wire.open_inference_generate import Generate
from shipway.wire.sagemaker import SageMaker
from shipway.wire.tf_serving import TfServing, Verb
from shipway.wire.torchserve import TorchServe
from shipway.wire.vertex import Vertex

MATRIX = Signature(
    layout=Layout.TENSORS,
    inputs=(Field(name="X", dtype=DataType.FP32, shape=(-1, 2)),),
    outputs=(Field(name="y", dtype=DataType.FP32),),
)
COLUMNS = Signature(
    layout=Layout.COLUMNS,
    inputs=(Field(name="n", dtype=DataType.INT64), Field(name="t", dtype=DataType.STRING)),
    outputs=(Field(name="y", dtype=DataType.FP32),),
)
CODECS = (
    OpenInference(), Generate(streaming=False), Mlflow(), TfServing(Verb.PREDICT), Vertex(),
    TorchServe(), SageMaker(OpenInference()),
)  # fmt: skip


def sent(body, content_type=b"application/json", **headers):
    request = Request("POST", b"/", {b"content-type": content_type})
    request.headers.update({k.replace("_", "-").encode(): v for k, v in headers.items()})
    request.body = body
    return request


def read(codec, message, signature):
    return compile_validator(signature)(codec.decode(message, signature).inputs)


@contextlib.contextmanager
def costing_little(most_bytes=20_000_000, most_s=2.0):
    began = time.process_time()
    tracemalloc.start()
    try:
        yield
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < most_bytes
    assert time.process_time() - began < most_s


JSON_BOMBS = {
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"instances":' * 50_000,
    "deep values": b'{"instances":' + b"[" * 3000 + b"]" * 3000 + b"}",
    "deep values beside NaN": b'{"instances":[NaN,' + b"[" * 3000 + b"]" * 3000 + b"]}",
    "digits": b'{"instances":[[' + b"9" * 5000 + b",1]]}",
    "digits beside NaN": b'{"instances":[[NaN,' + b"9" * 5000 + b"]]}",
    "half a surrogate": b'{"instances":[["\\ud800",1]]}',
    "half a surrogate beside NaN": b'{"instances":[["\\ud800",NaN]]}',
    "no UTF-8": b'{"instances":[["\xff",1]]}',
    "no UTF-8 in a name": b'{"\xff":[["a",1]]}',
    "a byte order mark": b'\xef\xbb\xbf{"instances":[[1,2]]}',
    "base64 that is none": b'{"instances":[{"X":{"b64":"\\u00e9"}}]}',
    "many names": b"{" + b",".join(b'"k%d":1' % n for n in range(20_000)) + b"}",
    "nothing": b"",
    "a word": b"null",
}


@pytest.mark.parametrize("body", JSON_BOMBS.values(), ids=JSON_BOMBS)
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_a_json_bomb_is_refused_as_the_callers_fault(codec, body):
    with costing_little(), pytest.raises(CallerError) as found:
        read(codec, sent(body), MATRIX)
    codec.refuse(found.value)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e400", "9" * 400])
def test_numbers_beyond_all_types_are_no_values(number):
    body = f'{{"instances":[[{number},1]]}}'.encode()
    for codec in (Mlflow(), TfServing(Verb.PREDICT), Vertex()):
        with pytest.raises(CallerError):
            compile_validator(MATRIX)(codec.decode(sent(body), MATRIX).inputs)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 1.5, 1e30, True, "1"])
def test_a_number_that_its_type_does_not_hold_is_refused_and_not_wrapped(number):
    body = json.dumps({"instances": [{"n": number, "t": "a"}]}).encode()
    with pytest.raises(InvalidInput):
        compile_validator(COLUMNS)(Vertex().decode(sent(body), COLUMNS).inputs)


def test_of_a_name_that_comes_twice_the_last_counts_and_no_two_readers_differ():
    body = b'{"instances":[[1,2]],"instances":[[3,4]]}'
    for codec in (Mlflow(), TfServing(Verb.PREDICT), Vertex()):
        assert codec.decode(sent(body), MATRIX).inputs["X"].tolist() == [[3, 4]]
    lenient = codec.decode(sent(b'{"instances":[[1,NaN]],"instances":[[3,NaN]]}'), MATRIX)
    assert lenient.inputs["X"][0, 0] == 3


SHAPES = [
    [2**62, 4], [2**32, 2**32], [2**63, 2], [0, 2**62, 2**62], [-1], [-2, -2], [4, -1], [1] * 70,
    [2**64], [10**400],
]  # fmt: skip


def tensor(shape, **more):
    return {"name": "X", "datatype": "FP32", "shape": shape, **more}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_shape_that_lies_is_refused_in_json_and_in_binary(shape):
    as_json = json.dumps({"inputs": [tensor(shape, data=[1, 2, 3, 4])]}).encode()
    binary = json.dumps({"inputs": [tensor(shape, parameters={"binary_data_size": 16})]}).encode()
    with costing_little():
        for body, headers in (
            (as_json, {}),
            (binary + bytes(16), {"inference_header_content_length": b"%d" % len(binary)}),
        ):
            with pytest.raises(InvalidRequest):
                OpenInference().decode(sent(body, **headers), MATRIX)


@pytest.mark.parametrize("size", [-1, 0, 15, 17, 2**31, 2**63, True, 1.5, "16", None])
def test_a_binary_size_that_lies_is_refused(size):
    head = json.dumps({"inputs": [tensor([2, 2], parameters={"binary_data_size": size})]}).encode()
    message = sent(head + bytes(16), inference_header_content_length=b"%d" % len(head))
    with pytest.raises(InvalidRequest):
        OpenInference().decode(message, MATRIX)


@pytest.mark.parametrize("length", [b"-1", b"+5", b"5 ", b"9" * 30, b"\xc2\xb2", b"0x5", b"5, 5"])
def test_a_length_of_the_json_part_that_is_none_is_refused(length):
    message = sent(b'{"inputs":[]}', inference_header_content_length=length)
    with pytest.raises(InvalidRequest):
        OpenInference().decode(message, MATRIX)


@pytest.mark.parametrize("datatype", ["BYTES", "FP32", "INT8"])
@pytest.mark.parametrize("shape", [[2**62, 2**62], [2**40], [-1, 4], [0, 2**62]], ids=str)
def test_a_shape_that_lies_is_refused_over_grpc(datatype, shape):
    request = ModelInferRequest(model_name="m")
    request.inputs.add(name="X", datatype=datatype, shape=shape)
    request.raw_input_contents.append(struct.pack("<I", 2**31) + b"abc")
    with costing_little(), pytest.raises(InvalidRequest):
        GrpcInference().decode(InferCall(request, None), MATRIX)


def test_an_arrow_table_that_becomes_large_is_not_unpacked():
    table = pa.table({"n": pa.array(np.zeros(30_000_000, np.int64)), "t": pa.nulls(30_000_000)})
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    assert len(sink.getvalue()) < 1_000_000
    before = pa.total_allocated_bytes()
    with pytest.raises(BodyTooLarge):
        inputs_of_arrow(sink.getvalue(), Kind.STREAM, COLUMNS)
    assert pa.total_allocated_bytes() - before < 10_000_000


def test_a_parquet_file_that_becomes_large_is_not_unpacked():
    sink = io.BytesIO()
    column = pa.array(np.zeros(20_000_000, np.int64))
    options = {"compression": "zstd", "use_dictionary": False, "data_page_size": 2**20}
    pq.write_table(pa.table({"n": column}), sink, **options)
    body = sink.getvalue()
    assert len(body) < 1_000_000
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    with pytest.raises(BodyTooLarge):
        inputs_of_arrow(body, Kind.PARQUET, COLUMNS)
    assert pool.bytes_allocated() - before < 10_000_000


def test_a_body_says_itself_how_it_is_compressed_and_nothing_unpacks_it():
    bomb = zlib.compress(bytes(50_000_000), wbits=31)
    for codec in CODECS:
        for encoding in (b"gzip", b"deflate", b"br"):
            with costing_little(), pytest.raises(CallerError):
                codec.decode(sent(bomb, content_encoding=encoding), MATRIX)


def test_a_form_of_many_parts_is_refused():
    part = b'--x\r\nContent-Disposition: form-data; name="n"\r\n\r\n1\r\n'
    body = part * (MAX_PARTS * 1000) + b"--x--\r\n"
    with costing_little(), pytest.raises(InvalidRequest, match=str(MAX_PARTS)):
        TorchServe().decode(sent(body, b"multipart/form-data; boundary=x"), COLUMNS)


@pytest.mark.parametrize("boundary", [b"", b"-", b'"', b"\xff", b"x" * 5000])
def test_a_boundary_that_is_none_is_refused(boundary):
    with costing_little(), pytest.raises(CallerError):
        TorchServe().decode(sent(b"--x--", b"multipart/form-data; boundary=" + boundary), COLUMNS)


@pytest.mark.parametrize(
    "body",
    [
        b"n,t\r\n" + b'"' * 100_001, b"n,n\r\n1,2\r\n", b"n,t\r\n1\r\n", b"n,t\r\n\xff,a\r\n", b"\0\r\n1\r\n",
        b"n,t\r\n" + b"9" * 200_000 + b",a\r\n", b"," * 200_000 + b"\r\n", b"\n" * 100_000,
    ],
)  # fmt: skip
def test_a_csv_that_is_none_is_refused(body):
    with costing_little(most_bytes=60_000_000), pytest.raises(CallerError):
        read(Mlflow(), sent(body, b"text/csv"), COLUMNS)


def frame_body(*entries, tail=bytes(8)):
    header = msgspec.msgpack.encode((list(entries), 0))
    return memoryview(bytearray(struct.pack("<I", len(header)) + header + bytes(-(4 + len(header)) % 8) + tail))  # fmt: skip


@pytest.mark.parametrize(
    "entry",
    [
        ("x", "STRING", (2**31, 2**31), 1), ("x", "STRING", (2**33,), 1), ("x", "FP32", (-1,), 8),
        ("x", "FP32", (2**63,), 8), ("x", "FP32", (2,), -8), ("x", "FP32", (3,), 8),
        ("x", "STRING", (-1, -1), 1), ("x", "NOTHING", (1,), 8), ("x", "FP32", (1,) * 70, 4),
    ],
    ids=str,
)  # fmt: skip
def test_a_replica_that_lies_about_a_tensor_is_refused(entry):
    with costing_little(), pytest.raises(InvalidRequest):
        decode_tensors(frame_body(entry, tail=b"\x91\xa1a" + bytes(8)))


def test_a_frame_that_says_a_gigabyte_costs_what_has_come_of_it():
    reader = FrameReader()
    with costing_little(most_bytes=10_000_000):
        assert list(reader.feed(struct.pack("<IBI", 2**30 - 1, Frame.RESULT, 1) + bytes(100))) == []
        for _ in range(30):
            assert list(reader.feed(bytes(65536))) == []


@pytest.mark.parametrize("step", [1000, 65536, 1_000_000, 2_999_999])
def test_a_large_frame_is_whole_however_it_arrives(step):
    data = encode_plain(Frame.PING, 7, bytes(range(256)) * 20_000)
    reader = FrameReader()
    found = [
        frame for at in range(0, len(data), step) for frame in reader.feed(data[at : at + step])
    ]
    assert [bytes(frame.body) for frame in found] == [data[9:]]


@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x91" * 5000, b"\x81\xa4code\xa1\xff", b"\xff"])
def test_a_failure_or_state_that_is_none_is_refused(data):
    for decode in (decode_failure, decode_pong):
        with pytest.raises(InvalidRequest):
            decode(memoryview(data))


def test_a_replica_may_name_the_facts_of_its_failure_as_it_likes():
    details = {"message": "x", "next_step": "y", "self": "z", "code": "1"}
    failure = msgspec.to_builtins(Failure("model_failed", "no", "look", details))
    (frame,) = FrameReader().feed(encode_plain(Frame.FAIL, 1, failure))
    error = decode_failure(frame.body)
    assert isinstance(error, ModelFailed)
    assert (error.message, error.next_step, error.details) == ("no", "look", details)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[" * 5000, b'{"revision":"\xff"}', b'{"revision":"\\ud800"}', b"null"]
)
def test_a_damaged_snapshot_is_none(tmp_path, data):
    (tmp_path / "kept").write_bytes(data)
    assert kept_snapshot(tmp_path / "kept") is None


def test_a_wrong_name_is_not_compared_with_thousands():
    names = [f"endpoint-number-{number:06}" for number in range(20_000)]
    began = time.process_time()
    error: ShipwayError = EndpointNotFound.named("endpoint-number-x", names)
    assert time.process_time() - began < 0.3
    assert "Did you mean" in str(error)
