"""One small real model of every format, with what it says of its own sample."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS = 40


@dataclass
class Artifact:
    """A saved model: where, its sample, and the outputs that its own framework gives for it."""

    path: Path
    sample: Any
    expected: dict[str, np.ndarray]
    tolerance: float = 1e-4
    onnx: bool = True


def iris_f4():
    rows, labels = load_iris(return_X_y=True)
    return rows.astype(np.float32), labels


def diabetes_f4():
    rows, target = load_diabetes(return_X_y=True)
    return rows.astype(np.float32), target


def people() -> tuple[pd.DataFrame, np.ndarray]:
    """Mixed columns with nulls and a label that depends on them."""
    random = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "age": random.integers(18, 80, 300).astype(float),
            "income": random.normal(50_000, 9_000, 300).round(2),
            "city": random.choice(["Rome", "Oslo", "Lima"], 300).astype(object),
        }
    )
    label = ((frame["age"] > 45) ^ (frame["city"] == "Oslo")).astype(int).to_numpy()
    frame.loc[::17, "age"] = np.nan
    return frame, label


def classifier_outputs(model, rows) -> dict[str, np.ndarray]:
    return {"label": model.predict(rows), "probabilities": model.predict_proba(rows)}


def sklearn_joblib(directory: Path) -> Artifact:
    rows, labels = iris_f4()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(rows, labels)
    path = directory / "iris.joblib"
    joblib.dump(model, path, compress=3)
    return Artifact(path, rows[:ROWS], classifier_outputs(model, rows[:ROWS]))


def sklearn_pickle_of_a_mixed_frame(directory: Path) -> Artifact:
    frame, label = people()
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer(
        [
            ("numbers", numbers, ["age", "income"]),
            ("places", OneHotEncoder(handle_unknown="ignore"), ["city"]),
        ]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(frame, label)
    path = directory / "people.pkl"
    path.write_bytes(pickle.dumps(model))
    return Artifact(path, frame[:ROWS], classifier_outputs(model, frame[:ROWS]), tolerance=1e-3)


def sklearn_regressor(directory: Path) -> Artifact:
    rows, target = diabetes_f4()
    model = RandomForestRegressor(20, random_state=0).fit(rows, target)
    path = directory / "diabetes.joblib"
    joblib.dump(model, path)
    return Artifact(path, rows[:ROWS], {"prediction": model.predict(rows[:ROWS])}, tolerance=1e-2)


def _xgboost_classifier():
    import xgboost

    rows, labels = load_breast_cancer(return_X_y=True)
    rows = rows.astype(np.float32)
    return xgboost.XGBClassifier(n_estimators=20, max_depth=3, n_jobs=1).fit(rows, labels), rows


def xgboost_json(directory: Path) -> Artifact:
    model, rows = _xgboost_classifier()
    path = directory / "cancer.json"
    model.save_model(path)
    return Artifact(path, rows[:ROWS], classifier_outputs(model, rows[:ROWS]))


def xgboost_ubj(directory: Path) -> Artifact:
    import xgboost

    rows, target = diabetes_f4()
    model = xgboost.XGBRegressor(n_estimators=20, max_depth=3, n_jobs=1).fit(rows, target)
    path = directory / "diabetes.ubj"
    model.save_model(path)
    return Artifact(path, rows[:ROWS], {"prediction": model.predict(rows[:ROWS])}, tolerance=1e-2)


def xgboost_wrapper(directory: Path) -> Artifact:
    model, rows = _xgboost_classifier()
    path = directory / "cancer.joblib"
    joblib.dump(model, path)
    return Artifact(path, rows[:ROWS], classifier_outputs(model, rows[:ROWS]))


def _lightgbm_classifier():
    import lightgbm

    rows, labels = load_breast_cancer(return_X_y=True)
    model = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1, n_jobs=1).fit(rows, labels)
    return model, rows


def lightgbm_text(directory: Path) -> Artifact:
    model, rows = _lightgbm_classifier()
    path = directory / "cancer.txt"
    model.booster_.save_model(path)
    probability = model.predict_proba(rows[:ROWS])
    expected = {"label": (probability[:, 1] > 0.5).astype(int), "probabilities": probability}
    return Artifact(path, rows[:ROWS], expected)


def lightgbm_wrapper(directory: Path) -> Artifact:
    model, rows = _lightgbm_classifier()
    path = directory / "cancer.pkl"
    joblib.dump(model, path)
    probability = model.predict_proba(rows[:ROWS])
    return Artifact(
        path, rows[:ROWS], {"label": model.predict(rows[:ROWS]), "probabilities": probability}
    )


def onnx_graph(directory: Path) -> Artifact:
    from onnx import TensorProto, helper, numpy_helper, save

    weights = np.arange(6, dtype=np.float32).reshape(3, 2)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "w"], ["scores"])],
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = directory / "linear.bin"
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    rows = np.random.default_rng(0).random((ROWS, 3)).astype(np.float32)
    return Artifact(path, {"features": rows}, {"scores": rows @ weights})


def _network():
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()


def torchscript(directory: Path) -> Artifact:
    import torch

    network = _network()
    rows, _ = iris_f4()
    path = directory / "network.pt"
    torch.jit.save(torch.jit.trace(network, torch.from_numpy(rows[:2])), path)
    expected = network(torch.from_numpy(rows[:ROWS])).detach().numpy()
    return Artifact(path, rows[:ROWS], {"output_0": expected}, onnx=False)


def torch_export(directory: Path) -> Artifact:
    import torch

    network = _network()
    rows, _ = iris_f4()
    batch = torch.export.Dim("rows", min=1, max=4096)
    program = torch.export.export(
        network, (torch.from_numpy(rows[:4]),), dynamic_shapes=({0: batch},)
    )
    path = directory / "network.pt2"
    torch.export.save(program, path)
    expected = network(torch.from_numpy(rows[:ROWS])).detach().numpy()
    return Artifact(path, rows[:ROWS], {"output_0": expected}, onnx=False)


def mlflow_directory(directory: Path) -> Artifact:
    import mlflow.sklearn

    rows, labels = load_iris(return_X_y=True, as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(rows, labels)
    path = directory / "mlflow-model"
    mlflow.sklearn.save_model(model, path, input_example=rows[:3], serialization_format="pickle")
    return Artifact(path, rows[:ROWS], {"label": model.predict(rows[:ROWS])})


CODE = '''
"""A model of one's own, with a file beside its code."""

import json

import numpy as np

from scaling import scaled


class Tariff:
    def load(self, directory):
        self.factor = json.loads((directory / "factor.json").read_text())

    def predict(self, inputs):
        return {"price": scaled(inputs["km"], self.factor), "currency": np.full(len(inputs["km"]), "EUR")}
'''


def python_class(directory: Path) -> Artifact:
    path = directory / "tariff"
    path.mkdir()
    (path / "model.py").write_text(CODE)
    (path / "scaling.py").write_text("def scaled(values, factor):\n    return values * factor\n")
    (path / "factor.json").write_text("2.5")
    sample = pd.DataFrame({"km": np.arange(ROWS, dtype=float)})
    expected = {"price": sample["km"].to_numpy() * 2.5, "currency": np.full(ROWS, "EUR")}
    return Artifact(path, sample, expected, onnx=False)


MAKERS = (
    sklearn_joblib,
    sklearn_pickle_of_a_mixed_frame,
    sklearn_regressor,
    xgboost_json,
    xgboost_ubj,
    xgboost_wrapper,
    lightgbm_text,
    lightgbm_wrapper,
    onnx_graph,
    torchscript,
    torch_export,
    mlflow_directory,
    python_class,
)
