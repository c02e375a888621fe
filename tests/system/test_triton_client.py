"""A client that nobody here wrote: `tritonclient[http]` reads health and metadata, and infers."""

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def iris(shared, tmp_path_factory):
    rows, labels = load_iris(return_X_y=True)
    rows = rows.astype(np.float32)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    path = tmp_path_factory.mktemp("iris") / "iris.joblib"
    joblib.dump(model, path)
    shared.client.register(path, name="iris", sample=rows)
    shared.client.deploy("iris:1")
    shared.client.deploy("iris:1", endpoint="iris-apart", placement="process")
    return rows, model


@pytest.fixture
def triton(shared):
    import tritonclient.http as http
    from tritonclient.http.auth import BasicAuth

    with http.InferenceServerClient(shared.client.gateway_url.removeprefix("http://")) as client:
        client.register_plugin(BasicAuth("any", shared.server.key))
        yield client


def test_health_and_metadata_are_read(iris, triton):
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("iris")
    assert triton.is_model_ready("iris", "1")
    assert "binary_tensor_data" in triton.get_server_metadata()["extensions"]
    metadata = triton.get_model_metadata("iris")
    assert metadata["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}]
    assert [output["name"] for output in metadata["outputs"]] == ["label", "probabilities"]
    assert metadata["versions"] == ["1"]


@pytest.mark.parametrize("endpoint", ["iris", "iris-apart"])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_answers_are_right_in_json_and_binary(iris, triton, endpoint, binary_in, binary_out):
    import tritonclient.http as http

    rows, model = iris
    tensor = http.InferInput("X", rows.shape, "FP32")
    tensor.set_data_from_numpy(rows, binary_data=binary_in)
    wanted = [
        http.InferRequestedOutput(name, binary_data=binary_out)
        for name in ("probabilities", "label")
    ]
    answer = triton.infer(endpoint, [tensor], outputs=wanted, request_id="t1")
    assert answer.get_response()["id"] == "t1"
    np.testing.assert_array_equal(answer.as_numpy("label"), model.predict(rows))
    np.testing.assert_allclose(
        answer.as_numpy("probabilities"), model.predict_proba(rows), atol=1e-5
    )


def test_errors_reach_the_client_in_words(iris, triton):
    import tritonclient.http as http
    from tritonclient.utils import InferenceServerException

    tensor = http.InferInput("X", (1, 3), "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 3), np.float32))
    with pytest.raises(InferenceServerException, match=r"must be \[-1, 4\]"):
        triton.infer("iris", [tensor])
    with pytest.raises(InferenceServerException, match="Did you mean `iris`"):
        triton.infer("irsi", [tensor])
