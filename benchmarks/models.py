"""The models that every server is measured with, and two rows of each that have different answers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NAMES = ("iris", "iris-onnx", "forest", "mlp")
TITLES = {
    "iris": "iris: a scikit-learn pipeline (scaler, logistic regression), 4 inputs",
    "iris-onnx": "iris in ONNX for every server, 4 inputs",
    "forest": "forest: a random forest of 300 trees, 30 inputs",
    "mlp": "mlp: 1.86 million weights in ONNX, 784 inputs",
}
_MLP_WIDTHS = (784, 1024, 1024, 10)
_OPSET = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model's files, and what it must answer: `answers[i]` is the class of `rows[i]`.

    `pickled` is None for a model that exists in ONNX only. `sample` are rows of float32 for
    `shipway register`.
    """

    name: str
    onnx: Path
    pickled: Path | None
    sample: Path
    rows: tuple[list[float], list[float]]
    answers: tuple[int, int]

    @property
    def columns(self) -> int:
        """Inputs of a row."""
        return len(self.rows[0])


def build(directory: Path, names: tuple[str, ...]) -> dict[str, Model]:
    """Trains the models of these names and writes their files below the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    makers = {"iris": _iris, "iris-onnx": _iris, "forest": _forest, "mlp": _mlp}
    return {name: makers[name](directory, name) for name in names}


def session_of(path: Path) -> onnxruntime.InferenceSession:
    """The model in this process, on one thread as in every server."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _iris(directory: Path, name: str) -> Model:
    rows, labels = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return _trained(directory, name, model, rows, labels)


def _forest(directory: Path, name: str) -> Model:
    rows, labels = load_breast_cancer(return_X_y=True)
    model = RandomForestClassifier(n_estimators=300, random_state=0)
    return _trained(directory, name, model, rows, labels)


def _trained(directory: Path, name: str, model: Any, rows: Any, labels: Any) -> Model:
    rows = rows.astype(np.float32)
    model.fit(rows, labels)
    pickled, graph = directory / f"{name}.joblib", directory / f"{name}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = to_onnx(
            model, rows[:1], options={"zipmap": False}, target_opset={"": _OPSET, "ai.onnx.ml": 3}
        )
    graph.write_bytes(converted.SerializeToString())
    if not name.endswith("-onnx"):
        joblib.dump(model, pickled)
    return _with_rows(name, graph, rows, pickled if pickled.exists() else None)


def _mlp(directory: Path, name: str) -> Model:
    random = np.random.default_rng(0)
    nodes, weights, value = [], [], "X"
    for layer, (wide, narrow) in enumerate(pairwise(_MLP_WIDTHS)):
        matrix = random.standard_normal((wide, narrow)).astype(np.float32) / np.sqrt(wide)
        weights.append(numpy_helper.from_array(matrix.astype(np.float32), f"weights{layer}"))
        weights.append(numpy_helper.from_array(np.zeros(narrow, np.float32), f"bias{layer}"))
        is_last = layer == len(_MLP_WIDTHS) - 2
        product = "logits" if is_last else f"product{layer}"
        names = [value, f"weights{layer}", f"bias{layer}"]
        nodes.append(helper.make_node("Gemm", names, [product]))
        value = product
        if not is_last:
            value = f"hidden{layer}"
            nodes.append(helper.make_node("Relu", [product], [value]))
    shape = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, _MLP_WIDTHS[0]])]
    result = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, _MLP_WIDTHS[-1]])]
    graph = helper.make_graph(nodes, "mlp", shape, result, weights)
    opset = [helper.make_opsetid("", _OPSET)]
    path = directory / f"{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    rows = random.random((64, _MLP_WIDTHS[0])).astype(np.float32).round(3)
    return _with_rows(name, path, rows, None)


def _with_rows(name: str, graph: Path, rows: Any, pickled: Path | None) -> Model:
    """Takes the first two rows whose answers differ, as they are after JSON has rounded them."""
    sample = graph.with_suffix(".npy")
    np.save(sample, rows)
    rounded = [[round(float(value), 4) for value in row] for row in rows]
    output = session_of(graph).run(None, {"X": np.array(rounded, np.float32)})[0]
    classes = output if output.ndim == 1 else output.argmax(axis=1)
    other = int(np.argmax(classes != classes[0]))
    return Model(
        name=name,
        onnx=graph,
        pickled=pickled,
        sample=sample,
        rows=(rounded[other], rounded[0]),
        answers=(int(classes[other]), int(classes[0])),
    )
