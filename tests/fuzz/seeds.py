"""Where the search begins: valid bytes of each kind, and shapes that have broken others."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib

import hpack
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shipway.core.endpoints import Limits
from shipway.core.errors import ModelFailed
from shipway.core.failures import LastWord
from shipway.gateway.grpc import frames as http2
from shipway.gateway.grpc.frames import Kind as Http2Kind
from shipway.gateway.grpc.messages import ModelInferRequest
from shipway.wire import frames
from shipway.wire.frames import Failure, Kind, Pong
from shipway.wire.open_inference import encode_request
from shipway.wire.snapshot import OPEN, Route, Snapshot

ROWS = [{"age": 30, "city": "Rome", "paid": True, "visits": 3}, {"age": None, "city": "é"}]
TENSOR = {"name": "X", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
CSV = b'age,city,paid,visits\r\n30,Rome,true,3\r\n,"a, b",0,NA\r\n'

JSON = [
    {"inputs": [TENSOR], "outputs": [{"name": "y", "parameters": {"binary_data": True}}], "id": "7"},
    {"inputs": [{**TENSOR, "data": [[1, None], [3, "a"]]}]},
    {"inputs": [{"name": "X", "shape": [2**62, 4], "datatype": "FP32", "data": [1]}]},
    {"inputs": [{"name": "X", "shape": [0, 2**62], "datatype": "BYTES", "data": []}]},
    {"inputs": [{"name": "X", "shape": [-1, -2], "datatype": "FP64", "data": [1, 2]}]},
    {"inputs": [{"name": "X", "shape": [1] * 65, "datatype": "INT64", "data": [1]}]},
    {"inputs": [{"name": "X", "shape": [2, 2], "datatype": "FP32",
                 "parameters": {"binary_data_size": 16}}]},
    {"instances": ROWS},
    {"instances": [[1, "a", True, 2], [1, "a"]]},
    {"instances": [{"X": {"b64": "AAAA"}}], "parameters": {"outputs": ["y"]}},
    {"inputs": {"age": [1, 2], "city": ["a", None], "paid": [1, 0], "visits": [1, 2**70]}},
    {"dataframe_split": {"columns": ["age", "city", "age"], "data": [[1, "a", 2]]}},
    {"dataframe_records": ROWS, "params": {"a": 1}},
    {"examples": ROWS, "context": {"age": 1}},
    {"text_input": "hello", "id": "1"},
    {"data": [[1, 2], [3, 4]]},
    ROWS,
    [[1, 2], [3, [4]]],
]  # fmt: skip

BOMBS = [
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"instances":' + b"[" * 2000 + b"]" * 2000 + b"}",
    b'{"instances":[' + b"9" * 5000 + b"]}",
    b'{"instances":[[1e999,-1e999,NaN,-Infinity]]}',
    b'{"instances":[NaN,' + b"9" * 5000 + b"]}",
    b'{"instances":[NaN,"\\ud800"]}',
    b'{"inputs":1,"inputs":2}',
    b'{"instances":["\xff\xfe"]}',
    b'\xef\xbb\xbf{"instances":[1]}',
    b"{" + b",".join(b'"k%d":1' % n for n in range(5000)) + b"}",
]


def json_bodies() -> list[bytes]:
    return [json.dumps(value).encode() for value in JSON] + BOMBS


def _tables() -> list[bytes]:
    table = pa.table(
        {
            "age": [30.0, None],
            "city": pa.array(["a", None]).dictionary_encode(),
            "paid": [True, False],
            "visits": pa.array([1, 2], pa.int16()),
        }
    )
    found = []
    for opened in (pa.ipc.new_stream, pa.ipc.new_file):
        for compression in (None, "zstd"):
            sink = io.BytesIO()
            options = pa.ipc.IpcWriteOptions(compression=compression)
            with opened(sink, table.schema, options=options) as writer:
                writer.write_table(table)
            found.append(sink.getvalue())
    for compression in ("none", "snappy", "gzip"):
        sink = io.BytesIO()
        pq.write_table(table, sink, compression=compression)
        found.append(sink.getvalue())
    return found


def _form() -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    return part % (b"age", b"30") + part % (b"city", b"Rome") + b"--x--\r\n"


def dialects() -> list[bytes]:
    binary, length = encode_request({"X": np.ones((2, 2), np.float32)}, binary=True)
    lying = json.dumps({"inputs": [{"name": "X", "shape": [2**40, 2**40], "datatype": "FP32",
                                    "parameters": {"binary_data_size": 2**63}}]}).encode()  # fmt: skip
    bodies = [
        *json_bodies(), CSV, _form(), *_tables(),
        b"\n".join(json.dumps(row).encode() for row in ROWS),
        b"%d\xff\xfe|" % length + binary, b"%d\xff\xfe|" % len(lying) + lying, b"0\xff\xfe|" + bytes(16),
    ]  # fmt: skip
    return [bytes((0, at * 7 % 256, at % 3)) + body for at, body in enumerate(bodies)] + [
        struct.pack(">H", at) + bytes((at % 3,)) + body for body in bodies[-14:] for at in range(40)
    ]


def grpc_messages() -> list[bytes]:
    found = []
    for kind, raw in (("FP32", True), ("FP32", False), ("BYTES", True), ("FP16", True)):
        request = ModelInferRequest(model_name="m", id="1")
        tensor = request.inputs.add(name="X", datatype=kind, shape=[2, 2])
        if raw:
            request.raw_input_contents.append(bytes(16))
        else:
            tensor.contents.fp32_contents.extend([1, 2, 3, 4])
        request.parameters["timeout"].int64_param = 5
        found.append(request.SerializeToString())
    large = ModelInferRequest(model_name="m")
    large.inputs.add(name="X", datatype="BYTES", shape=[2**62, 2**62])
    large.raw_input_contents.append(b"\xff\xff\xff\xff")
    found.append(large.SerializeToString())
    return [bytes((at,)) + data for data in found for at in range(3)]


def http1() -> list[bytes]:
    head = b"POST /v2/models/m/infer?q=1 HTTP/1.1\r\nhost: a\r\n"
    whole = [
        head + b"content-length: 3\r\n\r\nabc",
        head + b"transfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nt: u\r\n\r\n",
        head + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
        head + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\nabc",
        b"GET http://a/b%2fc HTTP/1.1\r\nhost: a\r\naccept: x\r\naccept: y\r\n\r\n",
        b"GET /p HTTP/1.0\r\n\r\n",
    ]
    return [bytes((at,)) + data + whole[0] for at in range(3) for data in whole]


def http2_frames() -> list[bytes]:
    found = []
    for path in ("/e/U", "/e/S", "/e/W", "/none"):
        encoder = hpack.Encoder()
        block = encoder.encode(
            {":method": "POST", ":scheme": "http", ":path": path, ":authority": "a",
             "content-type": "application/grpc", "te": "trailers", "grpc-encoding": "gzip"}
        )  # fmt: skip
        message = struct.pack(">BI", 0, 5) + b"hello"
        squeezed = zlib.compress(bytes(1000), wbits=31)
        found.append(
            http2.settings([(http2.Setting.INITIAL_WINDOW_SIZE, 20)])
            + http2.frame(Http2Kind.HEADERS, 4, 1, block)
            + http2.frame(Http2Kind.DATA, 0, 1, message[:4])
            + http2.frame(Http2Kind.DATA, 1, 1, message[4:])
            + http2.window_update(1, 100)
            + http2.frame(Http2Kind.HEADERS, 0, 3, block[:5])
            + http2.frame(Http2Kind.CONTINUATION, 4, 3, block[5:])
            + http2.frame(Http2Kind.DATA, 8, 3, b"\x02" + message[:3] + b"\0\0")
            + http2.reset(3, http2.Fault.CANCEL)
            + http2.frame(Http2Kind.HEADERS, 4, 5, block)
            + http2.frame(Http2Kind.DATA, 1, 5, struct.pack(">BI", 1, len(squeezed)) + squeezed)
            + http2.frame(Http2Kind.PING, 0, 0, bytes(8))
            + http2.goaway(5, http2.Fault.NO_ERROR)
        )
    return [bytes((at,)) + data for at in range(5) for data in found]


def replica_frames() -> list[bytes]:
    tensors = {"x": np.arange(6, dtype=np.float32).reshape(2, 3),
               "t": np.array(["a", None, b"b"], dtype=object)}  # fmt: skip
    result = b"".join(frames.encode_tensors(Kind.RESULT, 1, tensors, timeout_ms=3))
    failure = msgspec.to_builtins(Failure.of(ModelFailed("no", incident="1")))
    pong = msgspec.to_builtins(Pong(state="ready")) if "state" in Pong.__struct_fields__ else {}
    huge = msgspec.msgpack.encode(([("x", "STRING", (2**31, 2**31), 1)], 0))
    strange = [
        frames.encode_plain(Kind.FAIL, 1, {**failure, "details": {"message": "x"}}),
        frames.encode_plain(Kind.FAIL, 1, b"\x91" * 5000),
        frames.encode_plain(Kind.RESULT, 1) + struct.pack("<I", len(huge)) + huge + b"\xc0" * 8,
    ]
    body = struct.pack("<I", len(huge)) + huge + bytes(8)
    return [
        result, frames.encode_plain(Kind.FAIL, 1, failure), frames.encode_plain(Kind.PONG, 1, pong),
        frames.encode_plain(Kind.PING, 2), *strange, body,
        frames.head_of(Kind.RESULT, 1, len(body)) + body,
        frames.head_of(Kind.RESULT, 1, 5000) + b"\x91" * 5000,
    ]  # fmt: skip


def kept_files() -> list[bytes]:
    snapshot = Snapshot.of((Route(name="m", limits=Limits(), variants=()),), OPEN)
    word = msgspec.json.encode(LastWord(error="bug", message="m"))
    deep = [b"[" * 5000, b'{"routes":' + b"[" * 5000, b"\x91" * 5000, b"\x81\xa1a" * 5000]
    return [
        msgspec.json.encode(snapshot), msgspec.msgpack.encode(snapshot), word,
        b'{"error":"\\ud800"}', b'{"revision":"\xff"}', *deep,
    ]  # fmt: skip


LAUGHS = b"a0: &a0 [x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 9)
)


def documents() -> list[bytes]:
    return [
        b"name: e\nmodel: m:1\nlimits: {max_queue: 3}\n---\n- name: f\n  model: m@champion\n",
        b"name: e\nmodel: m\nrollout: {stages: [{strategy: canary, steps: [{weight_pct: 5}]}]}\n",
        b"name: production\nchecks: {evaluations: [{metric: auc, at_least: 0.8}]}\n",
        b"name: p\nfreeze: [{days: [fri], from: 16:00, to: 24:00}]\napprovals: {required: 1}\n",
        LAUGHS, b"name: e\nmodel: *a\n", b"&a [*a]", b"&a {name: e, model: *a}",
        b"name: !!python/object/apply:os.system [true]\n", b"!!python/name:os.system\n",
        b"[" * 2000, b"{a: " * 2000, b"- " * 3000, b"name: " + b"9" * 5000,
        b"name: 190:20:30.15\nmodel: 1_000\n", b"x: 9999-99-99", b"x: 2026-02-30",
        b"? [a, b]\n: c\n", b"? {a: b}\n: c\n", b"<<: [1]\n", b"x: !!binary a", b"\xff\xfen\0", b"x: \0",
        b"x: !!timestamp nonsense", b"x: !!int 0x", b"x: !!float a", b"name: \"\\ud800\"\nmodel: m\n",
        b"x: 1:" + b"0:" * 3000 + b"1\n",
    ]  # fmt: skip


def control_bodies() -> list[bytes]:
    specs = [
        {"name": "e", "model": "m:1", "limits": {"max_queue": 3}, "scaling": {"max_replicas": 2}},
        {"model": "m:" + "9" * 5000}, {"version": 3, "reason": "r"}, {"model": "m", "warm_s": 1e308},
        {"name": "e", "model": "m", "rollout": {"stages": [{"strategy": "shadow"}]}},
        {"name": "p", "checks": {"latency": [1]}, "freeze": [{"start": "2026-01-01T00:00:00Z"}]},
        {"parameters": {"unload_dependents": True}},
    ]  # fmt: skip
    return [json.dumps(spec).encode() for spec in specs] + BOMBS


def archives() -> list[bytes]:
    found = []
    names = ("model/a", "../a", "/a", "a" * 300, "a\n", "é", "a/../../b")
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        for name in names:
            body = io.BytesIO()
            with tarfile.open(fileobj=body, mode="w", format=form) as tar:
                info = tarfile.TarInfo(name)
                info.size = 3
                tar.addfile(info, io.BytesIO(b"abc"))
                link = tarfile.TarInfo("link")
                link.type, link.linkname = tarfile.SYMTYPE, name
                tar.addfile(link)
            found.append(body.getvalue()[:3072])
    return found


def callers() -> list[bytes]:
    token = b"Bearer e30.eyJzdWIiOiJhIn0.x"
    body = json.dumps({"sub": "a", "inputs": [TENSOR]}).encode()
    return [
        bytes((at,)) + first + b"|" + rest
        for at in range(5)
        for first in (token, b"12", b"/v2/models/m/versions/2/infer", b"9" * 30, "²".encode())
        for rest in (body, *BOMBS)
    ]


SEEDS = {
    "dialects": dialects,
    "grpc_messages": grpc_messages,
    "http1": http1,
    "http2_frames": http2_frames,
    "replica_frames": replica_frames,
    "links": replica_frames,
    "kept_files": kept_files,
    "documents": documents,
    "control_bodies": control_bodies,
    "archives": archives,
    "callers": callers,
}
