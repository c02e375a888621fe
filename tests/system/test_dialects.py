"""The same rows through every dialect, by clients that nobody here wrote where there are any."""

import io
import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uv
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from shipway.store.api_keys import GATEWAY, key_path

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of the clients, at their import
    pytest.mark.timeout(600),
]
NAME = "people"


@pytest.fixture(scope="module")
def people(shared, tmp_path_factory):
    """An endpoint over numbers and text, rows for it, and what its model says of them."""
    random = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "age": random.uniform(18, 90, 200).round(2),
            "city": random.choice(["Rome", "Oslo", "Łódź"], 200),
            "visits": random.integers(0, 50, 200).astype(float),
        }
    )
    target = np.where(frame.age + 5 * (frame.city == "Rome") > 55, "stays", "leaves")
    model = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough"
        ),
        LogisticRegression(max_iter=2000),
    ).fit(frame, target)
    path = tmp_path_factory.mktemp("people") / "people.joblib"
    joblib.dump(model, path)
    shared.client.register(path, name=NAME, sample=frame)
    shared.client.deploy(f"{NAME}:1")
    rows = frame.head(12)
    return rows, model.predict(rows).tolist(), model.predict_proba(rows)


@pytest.fixture(scope="module")
def http(shared, people):
    url, proof = shared.client.gateway_url, proof_of(shared)
    with httpx.Client(base_url=url, timeout=30, headers=proof) as client:
        yield client


def proof_of(shared):
    return {"authorization": f"Bearer {shared.server.key}"}


@contextmanager
def fronted(shared, dialect, tmp_path, until, *, trusted=False, **variables):
    """A `shipway gateway --as` of the endpoint, and a client of it.

    With `trusted`, what is in front of the gateway has checked the caller: MLflow's scoring client
    sends no credentials.
    """
    state = tmp_path / f"front-{dialect}"
    command = [sys.executable, "-m", "shipway.cli", "gateway", "--as", dialect, "--endpoint", NAME,
               "--control-url", shared.client.control_url, "--dir", str(state)]  # fmt: skip
    if not variables:
        command += ["--port", "0"]
    if trusted:
        command += ["--platform-checks-callers"]
    log = (tmp_path / f"{dialect}.log").open("wb")
    key = key_path(shared.state_dir, GATEWAY).read_text().strip()
    environment = {**os.environ, **variables, "SHIPWAY_API_KEY": key}
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    log.close()

    def records():
        assert process.poll() is None, (tmp_path / f"{dialect}.log").read_text()
        return list((state / "run").glob("gateway-*.json"))

    try:
        until(lambda: bool(records()))
        url = json.loads(records()[0].read_text())["url"]
        with httpx.Client(base_url=url, timeout=30, headers=proof_of(shared)) as client:
            until(lambda: answers(client))
            yield client
    finally:
        process.terminate()
        process.wait(20)


def answers(client):
    with suppress(httpx.ConnectError):  # the record is there just before the port is
        return client.get(f"/v2/models/{NAME}/ready").status_code == 200
    return False


def records_of(frame):
    return frame.to_dict(orient="records")


def split_of(frame):
    return frame.to_dict(orient="split")


def table_of(frame):
    return pa.Table.from_pandas(frame, preserve_index=False)


def arrow_of(frame):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table_of(frame).schema) as writer:
        writer.write_table(table_of(frame))
    return sink.getvalue()


def parquet_of(frame):
    sink = io.BytesIO()
    pq.write_table(table_of(frame), sink)
    return sink.getvalue()


def posted(http, path, body=None, content_type="application/json", **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = http.post(path, content=content, headers={"content-type": content_type, **headers})
    assert answer.status_code == 200, answer.text
    return answer


def labels_of(answer):
    outputs = {tensor["name"]: tensor["data"] for tensor in answer.json()["outputs"]}
    return outputs["label"]


class Key:
    """A plugin of Triton's client that presents the key of another client."""

    def __init__(self, http):
        self._proof = http.headers["authorization"]

    def __call__(self, request):
        request.headers["authorization"] = self._proof


def by_triton(http, frame):
    import tritonclient.http as triton

    tensors = []
    for name in frame.columns:
        values = frame[name].to_numpy()
        kind = "BYTES" if values.dtype == object else "FP64"
        tensor = triton.InferInput(name, [len(values)], kind)
        tensor.set_data_from_numpy(values)
        tensors.append(tensor)
    with triton.InferenceServerClient(http.base_url.netloc.decode()) as client:
        client.register_plugin(Key(http))
        answer = client.infer(NAME, tensors).as_numpy("label")
        return [item.decode() for item in answer.tolist()]


@pytest.fixture(autouse=True)
def mlflows_token(shared, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", shared.server.key)


def by_mlflow(http, frame):
    from mlflow.deployments import get_deploy_client

    client = get_deploy_client(str(http.base_url))
    split = client.predict(endpoint=NAME, inputs={"dataframe_split": split_of(frame)})
    records = client.predict(endpoint=NAME, inputs={"dataframe_records": records_of(frame)})
    assert split == records
    return split["predictions"]


def by_mlflow_csv(http, frame):
    body = frame.to_csv(index=False).encode()
    answer = posted(http, f"/gateway/{NAME}/invocations", body, "text/csv; charset=utf-8")
    return answer.json()["predictions"]


def by_tf_serving(http, frame):
    by_row = posted(http, f"/v1/models/{NAME}:predict", {"instances": records_of(frame)}).json()
    by_column = posted(
        http, f"/v1/models/{NAME}/versions/1:predict", {"inputs": frame.to_dict(orient="list")}
    ).json()
    assert by_row["predictions"] == by_column["outputs"]
    scored = posted(
        http, f"/v1/models/{NAME}/labels/stable:classify", {"examples": records_of(frame)}
    ).json()["results"]
    assert [max(row, key=lambda pair: pair[1])[0] for row in scored] == by_row["predictions"]
    return by_row["predictions"]


def by_torchserve(http, frame):
    rows = frame.to_numpy().tolist()
    answer = posted(http, f"/predictions/{NAME}", rows)
    put = http.put(f"/predictions/{NAME}/1", json={"instances": records_of(frame)})
    form = http.post(f"/predictions/{NAME}", files={"data": json.dumps(rows).encode()})
    assert put.json()["predictions"] == form.json() == answer.json()
    return answer.json()


def by_generate(http, frame):
    found = []
    for row in records_of(frame):
        answer = posted(http, f"/v2/models/{NAME}/generate", row)
        stream = posted(http, f"/v2/models/{NAME}/generate_stream", row)
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert json.loads(stream.text.removeprefix("data: ")) == answer.json()
        found.append(answer.json()["label"])
    return found


def by_csv(http, frame):
    body = frame[["visits", "city", "age"]].to_csv(index=False).encode()
    lines = posted(http, f"/v2/models/{NAME}/infer", body, "text/csv", accept="text/csv").text
    assert lines.startswith("label,probabilities_0,probabilities_1\n")
    return pd.read_csv(io.StringIO(lines))["label"].tolist()


def by_arrow(http, frame):
    kind = "application/vnd.apache.arrow.stream"
    answer = posted(http, f"/v2/models/{NAME}/infer", arrow_of(frame), kind)
    return pa.ipc.open_stream(answer.content).read_all().column("label").to_pylist()


def by_parquet(http, frame):
    kind = "application/vnd.apache.parquet"
    return labels_of(posted(http, f"/v2/models/{NAME}/infer", parquet_of(frame), kind))


@pytest.fixture(scope="module")
def kserve_python(tmp_path_factory):
    """An interpreter with KServe's SDK, whose dependencies are not ours."""
    directory = tmp_path_factory.mktemp("kserve") / "venv"
    tool = uv.find_uv_bin()
    subprocess.run([tool, "venv", "-q", "--python", sys.executable, directory], check=True)
    python = directory / "bin" / "python"
    install = [tool, "pip", "install", "-q", "--python", python, "kserve>=0.15,<1"]
    subprocess.run(install, check=True)
    return python


KSERVE = """
import asyncio, json, sys
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

async def main(url, name, rows, key):
    proof = {"authorization": f"Bearer {key}"}
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as v1:
        assert await v1.is_server_live(url)
        assert await v1.is_model_ready(url, name, headers=proof)
        first = await v1.infer(url, {"instances": rows}, model_name=name, headers=proof)
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as v2:
        assert await v2.is_server_live(url)
        assert await v2.is_server_ready(url)
        assert await v2.is_model_ready(url, name, headers=proof)
        inputs = []
        for column in rows[0]:
            values = [row[column] for row in rows]
            kind = "BYTES" if isinstance(values[0], str) else "FP64"
            inputs.append(InferInput(column, [len(values)], kind, values))
        asked = InferRequest(name, inputs, request_id="q")
        second = await v2.infer(url, asked, model_name=name, headers=proof)
    label = next(o for o in second.outputs if o.name == "label")
    print(json.dumps({"v1": first["predictions"], "v2": list(label.data), "id": second.id}))

asyncio.run(main(sys.argv[1], sys.argv[2], json.load(sys.stdin), sys.argv[3]))
"""


def test_kserves_client_reads_both_protocols(shared, http, people, kserve_python):
    frame, labels, _ = people
    done = subprocess.run(
        [kserve_python, "-c", KSERVE, str(http.base_url), NAME, shared.server.key],
        input=json.dumps(records_of(frame)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"v1": labels, "v2": labels, "id": "q"}


@pytest.mark.parametrize(
    "asked",
    [by_triton, by_mlflow, by_mlflow_csv, by_tf_serving, by_torchserve, by_generate, by_csv,
     by_arrow, by_parquet],
)  # fmt: skip
def test_same_rows_give_the_same_prediction_in_every_dialect(http, people, asked):
    frame, labels, _ = people
    assert asked(http, frame) == labels


def test_sagemaker_contract(shared, http, people, tmp_path, until):
    frame, labels, _ = people
    with fronted(shared, "sagemaker", tmp_path, until) as front:
        assert front.get("/ping").status_code == 200
        attributes = {"X-Amzn-SageMaker-Custom-Attributes": "trace=7"}
        answer = posted(front, "/invocations", {"instances": records_of(frame)}, **attributes)
        assert answer.headers["x-amzn-sagemaker-custom-attributes"] == "trace=7"
        assert answer.json()["predictions"] == labels
        lines = frame.to_csv(index=False, header=False).encode()
        csv = posted(front, "/invocations", lines, "text/csv", accept="text/csv")
        assert csv.text.split() == labels
        rows = "".join(json.dumps({"features": row}) + "\n" for row in frame.to_numpy().tolist())
        answer = posted(front, "/invocations", rows.encode(), "application/jsonlines")
        assert [json.loads(line) for line in answer.text.splitlines()] == labels
        tensors = [
            {"name": name, "shape": [len(frame)], "datatype": kind, "data": frame[name].tolist()}
            for name, kind in (("age", "FP64"), ("city", "BYTES"), ("visits", "FP64"))
        ]
        assert labels_of(posted(front, "/invocations", {"inputs": tensors})) == labels
        assert by_arrow(front, frame) == labels  # the ordinary routes are there too
        refused = front.post("/invocations", content=b"x", headers={"content-type": "image/png"})
        assert refused.status_code == 415
    assert http.post("/invocations", json=[]).status_code == 404


def test_platforms_variables_move_port_and_routes(shared, people, tmp_path, until):
    frame, labels, _ = people
    port = free_port()
    variables = {
        "AIP_HTTP_PORT": str(port),
        "AIP_HEALTH_ROUTE": "/well",
        "AIP_PREDICT_ROUTE": "/guess",
    }
    with fronted(shared, "vertex", tmp_path, until, **variables) as front:
        assert front.base_url.port == port
        assert front.get("/well").status_code == 200
        body = {"instances": records_of(frame)}
        assert posted(front, "/guess", body).json() == {"predictions": labels}
        body["parameters"] = {"outputs": ["label", "probabilities"]}
        first = posted(front, "/guess", body).json()["predictions"][0]
        assert first["label"] == labels[0]
        assert sum(first["probabilities"]) == pytest.approx(1)
        taken = subprocess.run(
            [sys.executable, "-m", "shipway.cli", "gateway", "--as", "torchserve", "--endpoint",
             NAME, "--port", str(port), "--dir", str(tmp_path / "other")],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert taken.returncode == 5  # half of the requests would go to each
        assert "port_taken" in taken.stderr
    port = free_port()
    with fronted(shared, "sagemaker", tmp_path, until, SAGEMAKER_BIND_TO_PORT=str(port)) as front:
        assert front.base_url.port == port


def test_mlflows_clients(shared, http, people, tmp_path, until):
    from mlflow.deployments import get_deploy_client
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient
    from requests import HTTPError

    frame, labels, probabilities = people
    with fronted(shared, "mlflow", tmp_path, until, trusted=True) as front:
        client = ScoringServerClient(front.base_url.host, front.base_url.port)
        client.ping()
        assert client.get_version()
        assert client.invoke(frame).get_predictions("ndarray").tolist() == labels
        both = client.invoke(frame, params={"outputs": ["label", "probabilities"]})
        found = np.array([row["probabilities"] for row in both["predictions"]])
        np.testing.assert_allclose(found, probabilities, atol=1e-5)
        parquet = posted(front, "/invocations", parquet_of(frame), "application/vnd.apache.parquet")
        assert parquet.json()["predictions"] == labels
    client = get_deploy_client(str(http.base_url))
    assert [endpoint.name for endpoint in client.list_endpoints()] == [NAME]
    assert client.get_endpoint(NAME).model.name == f"{NAME}:1"
    with pytest.raises(HTTPError, match="Did you mean `people`"):
        client.predict(endpoint="poeple", inputs={"instances": [[1, "a", 2]]})


@pytest.mark.parametrize(
    ("path", "body", "status", "member"),
    [
        (f"/v2/models/{NAME}/infer", "{", 400, "error"),
        ("/v2/models/poeple/generate", "{}", 404, "error"),
        ("/v1/models/poeple:predict", "{}", 404, "error"),
        (f"/v1/models/{NAME}/versions/9:predict", "{}", 404, "error"),
        (f"/v1/models/{NAME}/labels/canary:predict", "{}", 404, "error"),
        ("/v1/models/people:explain", "{}", 404, "error"),
        ("/predictions/poeple", "{}", 404, "type"),
        (f"/predictions/{NAME}", "[[1]]", 400, "type"),
        ("/endpoints/poeple/invocations", "{}", 404, "error_code"),
        (f"/endpoints/{NAME}/invocations", '{"instances": [["old", "Rome", 1]]}', 422, "error_code"),
        (f"/endpoints/{NAME}/invocations", "x" * 17_000_000, 413, "error_code"),
        (f"/predictions/{NAME}", "x" * 17_000_000, 413, "type"),
    ],
)  # fmt: skip
def test_errors_have_the_shape_of_the_paths_dialect(http, path, body, status, member):
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()[member]


def test_status_metadata_and_management_are_read(http):
    status = http.get(f"/v1/models/{NAME}").json()
    assert (status["name"], status["ready"]) == (NAME, True)
    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    assert http.get(f"/v1/models/{NAME}/versions/1").status_code == 200
    metadata = http.get(f"/v1/models/{NAME}/metadata").json()
    assert metadata["model_spec"] == {"name": NAME, "signature_name": "", "version": "1"}
    assert http.get("/v1/models").json() == {"models": [NAME]}
    assert http.get("/models").json()["models"] == [{"modelName": NAME, "modelUrl": NAME}]
    assert http.get(f"/models/{NAME}").json()[0]["modelVersion"] == "1"
    assert http.get("/ping").json() == {"status": "Healthy"}
    assert http.get("/").json() == {"status": "alive"}
    assert http.get("/models/poeple").json()["type"] == "ModelNotFoundException"


def test_tritons_client_reads_repository_and_statistics(http, people):
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException

    frame, _, _ = people
    with triton.InferenceServerClient(http.base_url.netloc.decode()) as client:
        client.register_plugin(Key(http))
        assert {"model_repository", "statistics"} <= set(client.get_server_metadata()["extensions"])
        assert client.get_model_repository_index() == [
            {"name": NAME, "version": "1", "state": "READY", "reason": ""}
        ]
        client.load_model(NAME)
        with pytest.raises(InferenceServerException, match="shipway register"):
            client.load_model(NAME, config="{}")
        with pytest.raises(InferenceServerException, match="shipway delete people"):
            client.unload_model(NAME)
        with pytest.raises(InferenceServerException, match="Did you mean `people`"):
            client.load_model("poeple")
        before = client.get_inference_statistics(NAME)["model_stats"][0]
        by_triton(http, frame)
        after = client.get_inference_statistics(NAME, "1")["model_stats"][0]
        assert after["inference_count"] == before["inference_count"] + 1
        took = [one["inference_stats"]["success"]["ns"] for one in (before, after)]
        assert 0 < took[1] - took[0] < 10e9
        assert client.get_inference_statistics()["model_stats"][0]["name"] == NAME


def test_pyarrow_is_imported_with_the_first_such_body_and_not_before(
    shared, people, tmp_path, until
):
    frame, labels, _ = people
    with fronted(shared, "torchserve", tmp_path, until) as front:
        record = next((tmp_path / "front-torchserve" / "run").glob("gateway-*.json"))
        maps = Path(f"/proc/{json.loads(record.read_text())['pid']}/maps")
        assert front.get("/ping").json() == {"status": "Healthy"}
        assert by_torchserve(front, frame) == labels
        assert "libarrow" not in maps.read_text()
        assert by_arrow(front, frame) == labels
        assert "libarrow" in maps.read_text()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]
