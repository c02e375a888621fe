"""MLflow model directories, of flavours that Shipway knows and of others."""

import warnings

import numpy as np
import pandas as pd
import pytest
import xgboost
import yaml
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shipway.bundles.formats.detect import detect
from shipway.core.bundles import Format
from shipway.core.errors import InvalidArtifact
from shipway.core.signature import Layout
from shipway.core.tensors import DataType

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of itself when it is imported
    import mlflow.pyfunc
    import mlflow.sklearn
    import mlflow.xgboost
    from mlflow.models import infer_signature

pytestmark = pytest.mark.filterwarnings("ignore")


def iris():
    return load_iris(return_X_y=True, as_frame=True)


def test_sklearn_flavour_is_run_and_compiled_by_its_own_format(prepare, tmp_path):
    features, target = iris()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features, target)
    path = tmp_path / "m"
    signature = infer_signature(features, model.predict(features))
    mlflow.sklearn.save_model(model, path, signature=signature, serialization_format="pickle")
    prepared = prepare(path, features)
    artifact = prepared.artifact
    assert artifact.format is Format.MLFLOW
    assert artifact.options == {"inner": "model.pkl", "inner_format": "sklearn"}
    assert any(line.startswith("scikit-learn==") for line in artifact.requirements)
    assert "mlflow" not in artifact.modules
    assert [f.name for f in prepared.signature.inputs] == list(features.columns)
    assert prepared.parity().holds
    for engine in (prepared.onnx(), prepared.original(tmp_path / "bundle")):
        found = engine.run(prepared.sample.inputs)
        assert found["label"].tolist() == model.predict(features).tolist()
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(features), atol=1e-5)


def test_xgboost_flavour_is_run_and_compiled_by_its_own_format(prepare, tmp_path):
    features, target = load_diabetes(return_X_y=True)
    model = xgboost.XGBRegressor(n_estimators=5, n_jobs=1).fit(features, target)
    path = tmp_path / "m"
    mlflow.xgboost.save_model(model, path)
    prepared = prepare(path, features)
    assert prepared.artifact.options["inner_format"] == "xgboost"
    assert prepared.parity().holds
    found = prepared.original(tmp_path / "bundle").run(prepared.sample.inputs)
    np.testing.assert_allclose(found["prediction"], model.predict(features), rtol=1e-5)


def test_other_models_are_run_through_pyfunc(prepare, tmp_path):
    class Greeter(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input["age"] + model_input["city"].str.len()

    frame = pd.DataFrame({"age": [20, 30, 40], "city": ["Rome", "Oslo", "Lisbon"]})
    path = tmp_path / "m"
    signature = infer_signature(frame, np.array([24.0]))
    mlflow.pyfunc.save_model(path, python_model=Greeter(), signature=signature)
    prepared = prepare(path, frame)
    assert prepared.compiled is None
    assert "pyfunc" in prepared.reason
    assert prepared.signature.layout is Layout.COLUMNS
    assert [f.dtype for f in prepared.signature.inputs] == [DataType.INT64, DataType.STRING]
    found = prepared.original(tmp_path / "bundle").run(prepared.sample.inputs)
    assert found["prediction"].tolist() == [24, 34, 46]


def test_run_id_of_the_training_is_kept(tmp_path):
    features, target = iris()
    path = tmp_path / "m"
    model = LogisticRegression(max_iter=500).fit(features, target)
    mlflow.sklearn.save_model(model, path, serialization_format="pickle")
    about = yaml.safe_load((path / "MLmodel").read_text())
    (path / "MLmodel").write_text(yaml.safe_dump(about | {"run_id": "run-7"}))
    assert detect(path).open(path, options={}).run_id == "run-7"


def test_directory_without_a_flavour_that_serves_says_so(tmp_path):
    (tmp_path / "MLmodel").write_text("flavors:\n  mystery: {}\n")
    with pytest.raises(InvalidArtifact, match="mystery"):
        detect(tmp_path).open(tmp_path, options={})
