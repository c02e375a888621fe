"""What the gateway answers without a model: limits, labels, the repository, refusals by dialect."""

import json

import pytest

from shipway.core.bundles import ModelConfig, Served
from shipway.core.endpoints import Limits
from shipway.core.errors import (
    BodyTooLarge,
    ConflictError,
    EndpointNotFound,
    InvalidRequest,
    NoReadyReplica,
    VersionNotFound,
)
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.gateway.app import UNKNOWN_LIMIT_BYTES, Gateway, labelled
from shipway.gateway.fronts import Dialect, front_of
from shipway.gateway.http import Request
from shipway.gateway.repository import Repository
from shipway.gateway.routes import RouteTable
from shipway.gateway.serving import Serving
from shipway.wire.snapshot import OPEN, Route, Snapshot, Variant

SIGNATURE = Signature(
    layout=Layout.COLUMNS,
    inputs=(Field(name="x", dtype=DataType.FP64),),
    outputs=(Field(name="y", dtype=DataType.FP64),),
)


def version(number, weight_pct):
    return Variant(
        model="m", version=number, digest=f"sha256:{number}", weight_pct=weight_pct, inline=False,
        bundle_dir="", served=Served.ORIGINAL, signature=SIGNATURE, config=ModelConfig(),
    )  # fmt: skip


@pytest.fixture
async def table():
    table = RouteTable(lambda: None)
    variants = (version(1, 80), version(2, 20), version(3, 0))
    route = Route(name="m", limits=Limits(max_body_bytes=10), variants=variants)
    table.apply(Snapshot.of((route,), OPEN))
    yield table
    table.close()


def post(path, body=b""):
    request = Request("POST", path.encode(), {})
    request.body = body
    return request


@pytest.mark.parametrize(
    "path",
    ["/v2/models/m/infer", "/v1/models/m:predict", "/predictions/m", "/endpoints/m/invocations",
     "/v2/models/m/versions/1/generate", "/invocations"],
)  # fmt: skip
async def test_body_limit_is_the_endpoints_in_every_dialect(table, path):
    gateway = Gateway(table, Serving(table), front_of(Dialect.SAGEMAKER, "m", {}))
    assert gateway.body_limit(post(path)) == 10
    assert gateway.body_limit(post(path.replace("m/", "n/"))) in (10, UNKNOWN_LIMIT_BYTES)
    assert gateway.body_limit(post("/v2/models/other/infer")) == UNKNOWN_LIMIT_BYTES


@pytest.mark.parametrize(
    ("path", "member"),
    [
        ("/v2/models/m/infer", "error"),
        ("/v1/models/m:predict", "error"),
        ("/predictions/m", "type"),
        ("/models/m", "type"),
        ("/endpoints/m/invocations", "error_code"),
        ("/api/2.0/endpoints/n", "error_code"),
        ("", "error"),
    ],
)
async def test_request_that_cannot_be_read_is_refused_in_its_paths_dialect(table, path, member):
    answer = Gateway(table, Serving(table)).refuse(BodyTooLarge("big"), path)
    assert answer.status == 413
    assert member in json.loads(answer.body)


async def test_labels_go_by_traffic(table):
    route = table.route("m")
    assert (labelled(route, "stable"), labelled(route, "canary")) == ("1", "2")
    with pytest.raises(VersionNotFound, match="labels/stable"):
        labelled(route, "stabel")


async def test_repository_lists_confirms_and_unloads_nothing(table):
    repository = Repository(table)
    answer = repository.answer(post("/v2/repository/index", b""))
    assert [(entry["version"], entry["state"]) for entry in json.loads(answer.body)] == [
        ("1", "LOADING"), ("2", "LOADING"), ("3", "LOADING"),
    ]  # fmt: skip
    ready = repository.answer(post("/v2/repository/index", b'{"ready": true}'))
    assert json.loads(ready.body) == []
    with pytest.raises(NoReadyReplica, match="not ready"):
        repository.answer(post("/v2/repository/models/m/load", b""))
    with pytest.raises(ConflictError, match="shipway delete m"):
        repository.answer(post("/v2/repository/models/m/unload", b""))
    with pytest.raises(EndpointNotFound):
        repository.answer(post("/v2/repository/models/n/unload", b""))
    with pytest.raises(InvalidRequest):
        repository.answer(post("/v2/repository/index", b"["))
    assert repository.answer(post("/v2/repository/other", b"")) is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/v2/models/m/infer", 404),
        ("DELETE", "/v2/models/m", 404),
        ("POST", "/invocations", 404),
        ("GET", "/invocations", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/v1/models/m", 503),
        ("GET", "/v1/models/m/versions/9", 404),
        ("GET", "/v1/models/n/metadata", 404),
        ("GET", "/v2/models/stats", 200),
        ("GET", "/v2/models/m/versions/3/stats", 200),
        ("HEAD", "/ping", 200),
        ("GET", "/", 200),
        ("OPTIONS", "*", 404),
    ],
)
async def test_other_methods_and_paths(table, method, path, status):
    answer = Gateway(table, Serving(table)).handle(Request(method, path.encode(), {}))
    assert answer.status == status


async def test_front_is_healthy_when_its_endpoint_is(table):
    gateway = Gateway(table, Serving(table), front_of(Dialect.SAGEMAKER, "m", {}))
    assert gateway.handle(Request("GET", b"/ping", {})).status == 503
    assert Gateway(table, Serving(table)).handle(Request("GET", b"/ping", {})).status == 200
