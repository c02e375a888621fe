"""What reads bytes of strangers, each as a function of bytes that must end well.

A target raises nothing, for any bytes: what it refuses, it refuses with a CallerError or a
DependencyError, and that can be told to a caller. The first byte of a case chooses among a target's
variants, so that one stream of bytes reaches all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from shipway.api.endpoints import Deployment
from shipway.api.messages import _decoded
from shipway.api.models import AliasTarget
from shipway.api.uploads import ChunkSource, UploadLimits, unpack
from shipway.cli.specs import policies_in, specs_in
from shipway.core.errors import Bug, InvalidRequest, ShipwayError
from shipway.core.failures import last_word
from shipway.core.inference import InferenceRequest, InferenceResponse
from shipway.core.signature import Field, Layout, Signature
from shipway.core.strategies import Source
from shipway.core.tensors import DataType
from shipway.core.validation import compile_validator
from shipway.gateway.crowd import Crowd
from shipway.gateway.fronts import Dialect, front_of
from shipway.gateway.grpc import frames as http2
from shipway.gateway.grpc.call import Form, Method, Reply
from shipway.gateway.grpc.codec import GrpcInference, InferCall
from shipway.gateway.grpc.connection import Connection as GrpcConnection
from shipway.gateway.grpc.messages import ModelInferRequest, parsed
from shipway.gateway.http import Connection, Request
from shipway.gateway.paths import Paths, table_codec
from shipway.wire import frames
from shipway.wire.callers import READERS
from shipway.wire.codec import Answer, timeout_s_of
from shipway.wire.counters import parsed_past
from shipway.wire.kept import kept_snapshot
from shipway.wire.link import Link
from shipway.wire.open_inference_admin import _read
from shipway.wire.policies import policy_of
from shipway.wire.problems import problem_of
from shipway.wire.specs import spec_of

Target = Callable[[bytes], None]

SIGNATURES = (
    Signature(
        layout=Layout.COLUMNS,
        inputs=(
            Field(name="age", dtype=DataType.FP64, nullable=True),
            Field(name="city", dtype=DataType.STRING, nullable=True),
            Field(name="paid", dtype=DataType.BOOL),
            Field(name="visits", dtype=DataType.INT16),
        ),
        outputs=(Field(name="label", dtype=DataType.STRING),),
    ),
    Signature(
        layout=Layout.TENSORS,
        inputs=(Field(name="X", dtype=DataType.FP32, shape=(-1, 2)),),
        outputs=(Field(name="y", dtype=DataType.FP32),),
    ),
    Signature(
        layout=Layout.TENSORS,
        inputs=(
            Field(name="picture", dtype=DataType.BYTES, shape=(-1,)),
            Field(name="half", dtype=DataType.FP16, shape=(-1, -1, 3)),
        ),
        outputs=(Field(name="y", dtype=DataType.INT64),),
    ),
)
_VALIDATORS = tuple(map(compile_validator, SIGNATURES))
_OUTPUTS = {
    "label": np.array(["a\n\x1b[31m", "", None, "é"], dtype=object),
    "y": np.array([1.5, np.nan, np.inf, -np.inf]),
}

PATHS = (
    "/v2/models/m/infer",
    "/v2/models/m/versions/1/generate",
    "/v2/models/m/generate_stream",
    "/v1/models/m:predict",
    "/v1/models/m:classify",
    "/v1/models/m:regress",
    "/predictions/m",
    "/endpoints/m/invocations",
    "/invocations",
)
TYPES = (
    b"application/json",
    b"",
    b"text/csv",
    b"text/csv; header=absent",
    b"application/jsonlines",
    b"application/octet-stream",
    b"application/vnd.apache.arrow.stream",
    b"application/vnd.apache.arrow.file",
    b"application/vnd.apache.parquet",
    b"multipart/form-data; boundary=x",
    b"application/x-www-form-urlencoded",
    b"text/plain; charset=utf-16",
)


def require_tellable(error: ShipwayError) -> None:
    """An error that a stranger caused is no Bug, and its answers can be encoded."""
    assert not isinstance(error, Bug), repr(error)
    problem = problem_of(error)
    json.loads(problem.body)
    assert 400 <= problem.status < 600
    Reply.refusing(error)


def _require_sound(answer: Answer) -> None:
    for name, value in answer.headers:
        assert b"\r" not in name + value
        assert b"\n" not in name + value
    assert isinstance(answer.body, bytes)


def _taken(data: bytes, choices: Sequence[Any]) -> tuple[Any, bytes]:
    if not data:
        return choices[0], b""
    return choices[data[0] % len(choices)], data[1:]


@cache
def _codecs() -> tuple[tuple[str, Any, bytes], ...]:
    found = []
    for dialect in (Dialect.SAGEMAKER, Dialect.MLFLOW, Dialect.VERTEX):
        front = front_of(dialect, "m", {})
        paths = Paths(front)
        for path in (*PATHS, front.predict_path):
            target = paths.target(path)
            if target is not None:
                found += [(path, table_codec(target, kind or None), kind) for kind in TYPES]
    return tuple(dict.fromkeys(found))


def dialects(data: bytes) -> None:
    """Every HTTP dialect, with every content type, for every signature."""
    choice, data = int.from_bytes(data[:2], "big"), data[2:]
    which, data = _taken(data, range(len(SIGNATURES)))
    headers = {}
    _, codec, kind = _codecs()[choice % len(_codecs())]
    if kind:
        headers[b"content-type"] = kind
    if b"\xff\xfe|" in data[:40]:
        length, _, data = data.partition(b"\xff\xfe|")
        headers[b"inference-header-content-length"] = length
    if len(data) % 3 == 0:
        headers[b"accept"] = TYPES[len(data) % len(TYPES)]
    request = Request("POST", b"/", headers)
    request.body = data
    try:
        asked = codec.decode(request, SIGNATURES[which])
        _require_sound(codec.encode(_response(asked), asked))
        _VALIDATORS[which](asked.inputs)
    except ShipwayError as exc:
        require_tellable(exc)
        _require_sound(codec.refuse(exc))


def _response(asked: InferenceRequest) -> InferenceResponse:
    return InferenceResponse(
        model="m", version="3", outputs=_OUTPUTS, id=asked.id, classes=("a", "b")
    )


def grpc_messages(data: bytes) -> None:
    """`ModelInferRequest`, as bytes and as tensors."""
    which, data = _taken(data, range(len(SIGNATURES)))
    codec = GrpcInference()
    try:
        call = InferCall(parsed(ModelInferRequest, data), None)
        asked = codec.decode(call, SIGNATURES[which])
        codec.encode(_response(asked), asked)
        _VALIDATORS[which](asked.inputs)
    except ShipwayError as exc:
        require_tellable(exc)
        codec.refuse(exc)


class Wire:
    """A transport that keeps what was written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_closed = False

    def get_extra_info(self, name: str) -> None:
        """It has no address, and no certificate."""

    def write(self, data: bytes) -> None:
        if not self.is_closed:
            self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0

    def writelines(self, parts: Any) -> None:
        for part in parts:
            self.write(bytes(part))


class Keeper:
    """An application that keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.refused: list[str] = []

    def handle(self, request: Request) -> Answer:
        headers = tuple(sorted(request.headers.items()))
        self.asked.append((request.method, request.path, request.query, headers, request.body))
        return Answer(200, b"", ())

    def failed(self, request: Any, answer: Answer) -> Answer:
        return answer

    def body_limit(self, path: str) -> int:
        return 10_000

    def refuse(self, error: ShipwayError, path: str) -> Answer:
        require_tellable(error)
        self.refused.append(error.code)
        return Answer(400, b"", ())


def _http1(pieces: Sequence[bytes]) -> Keeper:
    keeper, wire = Keeper(), Wire()
    connection = Connection(keeper, Crowd(most=10))
    connection.connection_made(wire)
    for piece in pieces:
        if wire.is_closed:
            break
        connection.data_received(piece)
    connection.connection_lost(None)
    assert wire.written.count(b"HTTP/1.1 200") == len(keeper.asked)
    assert len(keeper.refused) <= 1
    return keeper


def http1(data: bytes) -> None:
    """The HTTP/1.1 door: the same requests, however the bytes arrive."""
    step, data = _taken(data, (1, 2, 3, 7, 64))
    whole = _http1([data])
    parts = _http1([data[at : at + step] for at in range(0, len(data), step)])
    assert whole.asked == parts.asked


def http2_frames(data: bytes) -> None:
    """The gRPC door: frames of any kind, however the bytes arrive."""
    asyncio.run(_http2(data))


async def _http2(data: bytes) -> None:
    step, data = _taken(data, (1, 5, 9, 64, 100_000))
    service, wire = Echo(), Wire()
    connection = GrpcConnection(service, Crowd(most=10))
    connection.connection_made(wire)
    connection.data_received(http2.PREFACE)
    for at in range(0, len(data), step):
        if wire.is_closed:
            break
        connection.data_received(data[at : at + step])
    connection.tick(asyncio.get_running_loop().time() + 1)
    await asyncio.sleep(0)
    connection.connection_lost(None)
    assert len(wire.written) < 100_000 + 100 * len(data)


class Echo:
    """Methods of each form."""

    def __init__(self) -> None:
        self.methods = {
            b"/e/U": Method(self._answer),
            b"/e/S": Method(self._answer, Form.STREAM),
            b"/e/W": Method(self._answer, Form.WATCH),
        }

    def failed(self, metadata: Any, reply: Reply) -> Reply:
        return reply

    def message_limit(self) -> int:
        return 100_000

    def _answer(self, data: bytes, timeout_s: float | None, metadata: Any) -> Reply:
        return Reply.carrying(data[:100])


_DECODERS: tuple[Callable[[memoryview], Any], ...] = (
    frames.decode_request,
    frames.decode_result,
    frames.decode_failed,
    frames.decode_pong,
)


def replica_frames(data: bytes) -> None:
    """What a replica sends, and what a gateway sends: frames, tensors, failures, states."""
    reader = frames.FrameReader()
    try:
        for frame in reader.feed(data):
            for decode in _DECODERS:
                _refused_as(InvalidRequest, lambda: decode(frame.body))  # noqa: B023
    except InvalidRequest as exc:
        require_tellable(exc)
    for decode in _DECODERS:
        _refused_as(InvalidRequest, lambda: decode(memoryview(bytearray(data))))  # noqa: B023


def _refused_as(kind: type[Exception], work: Callable[[], Any]) -> None:
    with contextlib.suppress(kind):
        work()


def links(data: bytes) -> None:
    """A gateway's end of a replica's stream, whatever the replica sends."""
    asyncio.run(_links(data))


async def _links(data: bytes) -> None:
    link, wire = Link(), Wire()
    link.connection_made(wire)
    asked = asyncio.ensure_future(link.infer({"x": np.zeros(1)}, timeout_s=1))
    await asyncio.sleep(0)
    link.data_received(data)
    link.connection_lost(None)
    with contextlib.suppress(ShipwayError, TimeoutError):
        await asked


def kept_files(data: bytes) -> None:
    """Files and messages of our own that were damaged: snapshots, reports, counters, last words."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        kept_snapshot(Path(file.name))
    parsed_past(data)
    last_word(data.decode("utf-8", "replace"))


def documents(data: bytes) -> None:
    """Specs and policies: YAML files of the command line, JSON of the API."""
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(data)
        file.flush()
        for read in (specs_in, policies_in):
            try:
                read(Path(file.name))
            except ShipwayError as exc:
                require_tellable(exc)


def control_bodies(data: bytes) -> None:
    """JSON bodies of the control API and of the gateway's repository routes."""
    for kind in (Any, AliasTarget, Deployment, dict[str, Any]):
        try:
            value = _decoded(data, kind)
            if kind is Any:
                for read in (spec_of, policy_of):
                    try:
                        read(value)
                    except ShipwayError as exc:
                        require_tellable(exc)
        except ShipwayError as exc:
            require_tellable(exc)
    try:
        _read(data, dict[str, Any])
    except ShipwayError as exc:
        require_tellable(exc)


def archives(data: bytes) -> None:
    """An uploaded tar."""
    directory = Path(tempfile.mkdtemp())
    chunks = iter((data[:1000], data[1000:]))
    try:
        unpack(
            ChunkSource(lambda: next(chunks, b"")),
            directory / "new",
            UploadLimits(max_files=10, max_bytes=100_000),
        )
    except ShipwayError as exc:
        require_tellable(exc)
    finally:
        assert [path.name for path in directory.iterdir()] in ([], ["new"])
        shutil.rmtree(directory)


def callers(data: bytes) -> None:
    """Who a caller is, how long it waits, and what its target names."""
    source, data = _taken(data, tuple(Source))
    first, _, rest = data.partition(b"|")
    headers = {b"authorization": first, b"x-api-key": first, b"x-request-timeout-ms": first}
    headers[b"inference-header-content-length"] = first
    request = Request("POST", first, headers)
    request.body = rest
    reader = READERS.get(source)
    if reader is not None:
        for name in ("sub", "inputs.0.data.1", "x-api-key"):
            found = reader(request, name)
            assert found is None or isinstance(found, str)
    try:
        timeout_s_of(headers)
    except ShipwayError as exc:
        require_tellable(exc)
    Paths().target(request.path)


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        dialects,
        grpc_messages,
        http1,
        http2_frames,
        replica_frames,
        links,
        kept_files,
        documents,
        control_bodies,
        archives,
        callers,
    )
}
