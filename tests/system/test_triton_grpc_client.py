"""gRPC clients that nobody here wrote: `tritonclient[grpc]`, and grpcio's health stub."""

import os
import queue
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from shipway.client.discovery import up_record
from shipway.testing.live import python_bundle

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
CODE = """
import time

class Model:
    def predict(self, inputs):
        time.sleep(float(inputs["x"].max()))
        return {"y": inputs["x"] * 2}
"""
ENDPOINTS = ["iris", "iris-apart"]


@pytest.fixture(scope="module")
def iris(shared, tmp_path_factory):
    rows, labels = load_iris(return_X_y=True)
    rows = rows.astype(np.float32)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    path = tmp_path_factory.mktemp("iris") / "iris.joblib"
    joblib.dump(model, path)
    shared.client.register(path, name="iris", sample=rows)
    shared.client.deploy("iris:1", placement="inline")
    shared.client.deploy("iris:1", endpoint="iris-apart", placement="process")
    limits = {"max_body_bytes": 1000}
    shared.client.deploy("iris:1", endpoint="iris-small", placement="inline", limits=limits)
    return rows, model


@pytest.fixture(scope="module")
def sleeper(shared, tmp_path_factory):
    """An endpoint that takes as many seconds as its input says, and one request at a time."""
    directory = tmp_path_factory.mktemp("sleeper") / "bundle"
    python_bundle(directory, CODE)
    shared.client.register(directory, name="sleeper")
    shared.client.deploy("sleeper:1", limits={"max_queue": 1})
    return "sleeper"


@pytest.fixture(scope="module")
def address(shared):
    return up_record(shared.state_dir).grpc_address


@pytest.fixture
def triton(shared, address):
    import tritonclient.grpc as grpc
    from tritonclient.grpc.auth import BasicAuth

    with grpc.InferenceServerClient(address) as client:
        client.register_plugin(BasicAuth("any", shared.server.key))
        yield client


@pytest.fixture
def channel(shared, address):
    import grpc

    class Key(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
        """Adds the key to each call."""

        def intercept_unary_unary(self, go_on, details, request):
            return go_on(self._with_key(details), request)

        intercept_unary_stream = intercept_unary_unary

        def _with_key(self, details):
            proof = ("authorization", f"Bearer {shared.server.key}")
            return details._replace(metadata=[*(details.metadata or ()), proof])

    with grpc.insecure_channel(address) as channel:
        yield grpc.intercept_channel(channel, Key())


def tensor(rows, name="X"):
    import tritonclient.grpc as grpc
    from tritonclient.utils import np_to_triton_dtype

    made = grpc.InferInput(name, rows.shape, np_to_triton_dtype(rows.dtype))
    made.set_data_from_numpy(rows)
    return made


def seconds(value):
    return tensor(np.array([value], np.float64), "x")


def failure(call):
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status(), caught.value.message()


def test_health_and_metadata_are_read(iris, triton):
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("iris")
    assert triton.is_model_ready("iris-apart", "1")
    server = triton.get_server_metadata(as_json=True)
    assert server["name"] == "shipway"
    assert "model_repository" in server["extensions"]
    metadata = triton.get_model_metadata("iris", as_json=True)
    assert metadata["inputs"] == [{"name": "X", "datatype": "FP32", "shape": ["-1", "4"]}]
    assert [output["name"] for output in metadata["outputs"]] == ["label", "probabilities"]
    assert metadata["versions"] == ["1"]
    config = triton.get_model_config("iris", as_json=True)["config"]
    assert config["input"] == [{"name": "X", "data_type": "TYPE_FP32", "dims": ["-1", "4"]}]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_raw_answers_are_right(iris, triton, endpoint):
    import tritonclient.grpc as grpc

    rows, model = iris
    wanted = [grpc.InferRequestedOutput(name) for name in ("probabilities", "label")]
    answer = triton.infer(endpoint, [tensor(rows)], outputs=wanted, request_id="t1")
    assert answer.get_response().id == "t1"
    assert [output.name for output in answer.get_response().outputs] == ["probabilities", "label"]
    assert len(answer.get_response().raw_output_contents) == 2
    np.testing.assert_array_equal(answer.as_numpy("label"), model.predict(rows))
    expected = model.predict_proba(rows)
    np.testing.assert_allclose(answer.as_numpy("probabilities"), expected, atol=1e-5)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_typed_requests_get_typed_answers(iris, channel, endpoint):
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    rows, model = iris
    request = service_pb2.ModelInferRequest(model_name=endpoint, model_version="1", id="t2")
    part = request.inputs.add(name="X", datatype="FP32", shape=rows.shape)
    part.contents.fp32_contents.extend(rows.ravel().tolist())
    answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
    assert (answer.id, answer.model_name, answer.model_version) == ("t2", endpoint, "1")
    assert not answer.raw_output_contents
    np.testing.assert_array_equal(answer.outputs[0].contents.int64_contents, model.predict(rows))
    values = np.array(answer.outputs[1].contents.fp32_contents).reshape(-1, 3)
    np.testing.assert_allclose(values, model.predict_proba(rows), atol=1e-5)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_read(iris, triton, algorithm):
    rows, model = iris
    answer = triton.infer("iris", [tensor(rows)], compression_algorithm=algorithm)
    np.testing.assert_array_equal(answer.as_numpy("label"), model.predict(rows))


def test_a_stream_answers_in_order_and_lives_on_after_a_failure(iris, triton):
    rows, model = iris
    answers = queue.Queue()
    triton.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(50):
        name = "nobody" if number == 25 else ENDPOINTS[number % 2]
        row = rows[number : number + 1]
        triton.async_stream_infer(name, [tensor(row)], request_id=str(number))
    found = [answers.get(timeout=20) for _ in range(50)]
    triton.stop_stream()
    expected = model.predict(rows)
    for number, (result, error) in enumerate(found):
        if number == 25:
            assert "There is no endpoint `nobody`" in str(error)
        else:
            assert error is None
            assert result.get_response().id == str(number)
            assert result.as_numpy("label").tolist() == [expected[number]]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_many_calls_at_once_get_their_own_answers(iris, triton, endpoint):
    rows, model = iris
    expected = model.predict(rows)

    def ask(number):
        at = number % len(rows)
        answer = triton.infer(endpoint, [tensor(rows[at : at + 1])], request_id=str(number))
        assert answer.get_response().id == str(number)
        return answer.as_numpy("label")[0] == expected[at]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(400)))


def test_messages_of_megabytes_pass_both_ways(iris, triton):
    rows, model = iris
    many = np.tile(rows, (1000, 1))
    answer = triton.infer("iris", [tensor(many)])
    np.testing.assert_array_equal(answer.as_numpy("label"), np.tile(model.predict(rows), 1000))


def test_errors_have_the_statuses_of_grpc_and_words(iris, triton):
    rows, _ = iris
    status, message = failure(lambda: triton.infer("irsi", [tensor(rows)]))
    assert status == "StatusCode.NOT_FOUND"
    assert "Did you mean `iris`" in message
    call = lambda: triton.infer("iris", [tensor(rows)], model_version="9")  # noqa: E731
    assert failure(call)[0] == "StatusCode.NOT_FOUND"
    status, message = failure(lambda: triton.infer("iris", [tensor(rows[:, :3])]))
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert "must be [-1, 4]" in message
    status, message = failure(lambda: triton.infer("iris-small", [tensor(rows)]))
    assert status == "StatusCode.RESOURCE_EXHAUSTED"
    assert "1000 bytes of endpoint `iris-small`" in message
    assert triton.infer("iris-small", [tensor(rows[:5])]).as_numpy("label").shape == (5,)
    many = np.zeros((2_000_000, 4), np.float32)
    assert failure(lambda: triton.infer("iris", [tensor(many)]))[0] == (
        "StatusCode.RESOURCE_EXHAUSTED"
    )
    assert triton.is_server_live()


def test_the_repository_lists_versions_and_takes_no_orders(iris, triton):
    listed = triton.get_model_repository_index(as_json=True)["models"]
    found = {(model["name"], model["version"], model["state"]) for model in listed}
    assert {("iris", "1", "READY"), ("iris-apart", "1", "READY")} <= found
    triton.load_model("iris")
    assert failure(lambda: triton.load_model("nobody"))[0] == "StatusCode.NOT_FOUND"
    call = lambda: triton.load_model("iris", config="{}")  # noqa: E731
    assert failure(call)[0] == "StatusCode.INVALID_ARGUMENT"
    assert failure(lambda: triton.unload_model("iris"))[0] == "StatusCode.FAILED_PRECONDITION"


def test_statistics_count_what_was_answered_and_what_was_not(iris, triton):
    rows, _ = iris

    def counts():
        found = triton.get_inference_statistics("iris", "1").model_stats[0]
        return found.inference_count, found.inference_stats.fail.count

    done, failed = counts()
    triton.infer("iris", [tensor(rows)])
    failure(lambda: triton.infer("iris", [tensor(rows[:, :2])]))
    assert counts() == (done + 1, failed + 1)


def test_a_deadline_ends_the_call_and_frees_its_place(sleeper, triton):
    started = time.monotonic()
    status, _ = failure(lambda: triton.infer(sleeper, [seconds(6.0)], client_timeout=0.3))
    assert status == "StatusCode.DEADLINE_EXCEEDED"
    # One request at a time is let in. While the replica still sleeps, the next one is: it waits.
    call = lambda: triton.infer(sleeper, [seconds(0.0)], client_timeout=0.2)  # noqa: E731
    while failure(call)[0] == "StatusCode.RESOURCE_EXHAUSTED":
        pass
    assert time.monotonic() - started < 5.5
    assert until_answered(call).as_numpy("y").tolist() == [0.0]


def test_a_full_endpoint_says_when_to_come_back(sleeper, channel, triton):
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    def request(value):
        made = service_pb2.ModelInferRequest(model_name=sleeper)
        part = made.inputs.add(name="x", datatype="FP64", shape=[1])
        part.contents.fp64_contents.append(value)
        return made

    calls = [stub.ModelInfer.future(request(1.0)) for _ in range(3)]
    deadline = time.monotonic() + 20
    while not (over := [call for call in calls if call.done()]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    refused = over[0].exception()
    assert refused is not None
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(refused.trailing_metadata())
    assert trailers["grpc-retry-pushback-ms"] == "1000"
    assert b"queue_full" in trailers["grpc-status-details-bin"]
    for call in calls:
        call.cancel()
    until_answered(lambda: stub.ModelInfer(request(0.0), timeout=5))


def test_health_is_checked_and_watched_by_grpcs_own_stub(iris, channel):
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest
    for service in ("", "inference.GRPCInferenceService", "iris"):
        assert stub.Check(request(service=service), timeout=5).status == 1
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(request(service="nobody"), timeout=5)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watching = stub.Watch(request(service="nobody"))
    assert next(iter(watching)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watching.cancel()


def test_a_killed_gateway_is_back_at_its_address_for_the_same_client(iris, shared, triton):
    import json

    rows, model = iris
    triton.infer("iris", [tensor(rows)])
    record = next(shared.state_dir.glob("run/gateway-*.json"))
    os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)
    for endpoint in ENDPOINTS:
        answer = until_answered(lambda name=endpoint: triton.infer(name, [tensor(rows)]))
        np.testing.assert_array_equal(answer.as_numpy("label"), model.predict(rows))


def until_answered(call, within_s=30.0):
    """The first answer of a call that fails for a while."""
    import grpc
    from tritonclient.utils import InferenceServerException

    end = time.monotonic() + within_s
    while True:
        try:
            return call()
        except (grpc.RpcError, InferenceServerException):
            assert time.monotonic() < end
            time.sleep(0.05)
