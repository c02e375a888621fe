"""Which dialect and endpoint a path means."""

import pytest

from shipway.cli.serving import front_arguments
from shipway.core.errors import InvalidSpec
from shipway.gateway import paths
from shipway.gateway.fronts import Dialect, Front, default_port, front_of, platform_port
from shipway.gateway.paths import MAX_KNOWN, OPEN_INFERENCE, Paths, table_codec
from shipway.wire.mlflow import Mlflow
from shipway.wire.open_inference import OpenInference
from shipway.wire.open_inference_generate import Generate
from shipway.wire.open_inference_tables import OpenInferenceTables
from shipway.wire.sagemaker import SageMaker
from shipway.wire.tf_serving import TfServing
from shipway.wire.torchserve import TorchServe
from shipway.wire.vertex import Vertex


@pytest.mark.parametrize(
    ("path", "codec", "rest"),
    [
        ("/v2/models/a/infer", OpenInference, ("a", None, None)),
        ("/v2/models/a/versions/2/infer", OpenInference, ("a", "2", None)),
        ("/v2/models/a/generate", Generate, ("a", None, None)),
        ("/v2/models/a/versions/2/generate_stream", Generate, ("a", "2", None)),
        ("/v1/models/a:predict", TfServing, ("a", None, None)),
        ("/v1/models/a/versions/2:classify", TfServing, ("a", "2", None)),
        ("/v1/models/a/labels/stable:regress", TfServing, ("a", None, "stable")),
        ("/predictions/a", TorchServe, ("a", None, None)),
        ("/predictions/a/2", TorchServe, ("a", "2", None)),
        ("/endpoints/a/invocations", Mlflow, ("a", None, None)),
        ("/gateway/a/invocations", Mlflow, ("a", None, None)),
        ("/models/a/invocations", Mlflow, ("a", None, None)),
    ],
)
def test_path_names_a_dialect_an_endpoint_and_a_version(path, codec, rest):
    target = Paths().target(path)
    assert type(target.codec) is codec
    assert target[1:] == rest
    assert Paths().target(path) == target  # a second time from what is known


@pytest.mark.parametrize(
    "path",
    ["", "/", "*", "//", "/v2", "/v2/models/a", "/v2/models/a/infer/x", "/v1/models/a",
     "/v1/models/a:explain", "/v1/models/:predict", "/v1", "/predictions", "/invocations", "/models",
     "/v1/other/a:predict", "/endpoints/a"],
)  # fmt: skip
def test_other_paths_are_no_predictions(path):
    assert Paths().target(path) is None
    Paths().codec_of(path)


def test_what_is_kept_of_callers_paths_is_bounded():
    known = Paths()
    for number in range(3 * MAX_KNOWN):
        known.target(f"/v2/models/m{number}/infer")
    known.target(f"/v2/models/{'m' * 1000}/infer")
    assert len(known._known) <= MAX_KNOWN
    assert max(map(len, known._known)) < 100


@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        (None, OpenInference),
        (b"application/json", OpenInference),
        (b"application/json; charset=utf-8", OpenInference),
        (b"text/csv; header=absent", OpenInferenceTables),
        (b"Application/vnd.apache.parquet", OpenInferenceTables),
        (b"text/html", OpenInference),
    ],
)
def test_content_type_makes_a_table_of_open_inferences_body_alone(kind, codec):
    target = Paths().target("/v2/models/a/infer")
    assert type(table_codec(target, kind)) is codec
    target = Paths().target("/endpoints/a/invocations")
    assert type(table_codec(target, kind)) is Mlflow


@pytest.mark.parametrize(
    ("dialect", "codec"),
    [(Dialect.SAGEMAKER, SageMaker), (Dialect.MLFLOW, Mlflow), (Dialect.VERTEX, Vertex)],
)
def test_front_adds_its_route_beside_the_ordinary_ones_and_keeps_it(dialect, codec):
    front = front_of(dialect, "churn", {"AIP_PREDICT_ROUTE": "/p", "AIP_HEALTH_ROUTE": "/h"})
    known = Paths(front)
    for number in range(2 * MAX_KNOWN):
        known.target(f"/v2/models/m{number}/infer")
    path = "/p" if dialect is Dialect.VERTEX else "/invocations"
    target = known.target(path)
    assert (type(target.codec), target.endpoint) == (codec, "churn")
    assert known.target("/v2/models/other/infer").codec is OPEN_INFERENCE
    assert paths.Paths().target(path) is None


def test_vertex_routes_come_from_its_variables():
    variables = {"AIP_ENDPOINT_ID": "7", "AIP_DEPLOYED_MODEL_ID": "9"}
    front = front_of(Dialect.VERTEX, "churn", variables)
    assert front == Front(
        dialect=Dialect.VERTEX,
        endpoint="churn",
        predict_path="/v1/endpoints/7/deployedModels/9:predict",
        health_paths=("/v1/endpoints/7/deployedModels/9",),
    )
    with pytest.raises(InvalidSpec, match="begin with"):
        front_of(Dialect.VERTEX, "churn", {"AIP_HEALTH_ROUTE": "health"})


def test_ports_come_from_the_platform_or_are_the_dialects():
    assert platform_port(Dialect.SAGEMAKER, {"SAGEMAKER_BIND_TO_PORT": "9000"}) == 9000
    assert platform_port(Dialect.VERTEX, {"AIP_HTTP_PORT": "7080"}) == 7080
    assert platform_port(Dialect.MLFLOW, {"AIP_HTTP_PORT": "7080"}) is None
    with pytest.raises(InvalidSpec, match="AIP_HTTP_PORT"):
        platform_port(Dialect.VERTEX, {"AIP_HTTP_PORT": "70800"})
    assert [default_port(d) for d in Dialect] == [8080, 8080, 5000, 8080, 8501, 8080]


def test_given_port_comes_before_the_platforms_and_that_before_ours_and_the_dialects(monkeypatch):
    monkeypatch.delenv("SHIPWAY_GATEWAY_PORT", raising=False)
    monkeypatch.delenv("SAGEMAKER_BIND_TO_PORT", raising=False)
    assert front_arguments("tfserving", "churn", None)[0] == 8501
    monkeypatch.setenv("SHIPWAY_GATEWAY_PORT", "9001")
    assert front_arguments("sagemaker", "churn", None)[0] is None  # left to the settings
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", "9002")
    assert front_arguments("sagemaker", "churn", None)[0] == 9002
    port, arguments = front_arguments("sagemaker", "churn", 9003)
    assert port == 9003
    assert arguments == [
        "--as", "sagemaker", "--endpoint", "churn", "--predict-path", "/invocations",
        "--health-paths", "/ping", "/health",
    ]  # fmt: skip


def test_front_needs_a_dialect_and_an_endpoint():
    with pytest.raises(InvalidSpec, match="no dialect `flask`"):
        front_arguments("flask", "churn", None)
    with pytest.raises(InvalidSpec, match="one endpoint"):
        front_arguments("mlflow", "", None)
