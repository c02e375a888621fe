"""Parity reports, on models that agree and on models that do not."""

import time

import joblib
import msgspec
import numpy as np
import pandas as pd
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from shipway.bundles.formats.port import CompiledOnnx, OpenArtifact, Sample
from shipway.bundles.parity import TOLERANCE, check_parity
from shipway.core.bundles import Feed, Format
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType

ROWS = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
TARGET = (ROWS[:, 0] > 0).astype(np.int64)


class Answering:
    """An original that answers what a function says."""

    def __init__(self, answer):
        self.answer = answer

    def run(self, inputs):
        return self.answer(dict(inputs))


@pytest.fixture(scope="module")
def prepared(prepare, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m"
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, TARGET)
    joblib.dump(model, path)
    return prepare(path, ROWS)


def report_of(prepared, change, *, sample=...):
    """The report when the original's answers are changed first."""
    engine = prepared.artifact.engine
    artifact = msgspec.structs.replace(
        prepared.artifact, engine=Answering(lambda inputs: change(inputs, engine.run(inputs)))
    )
    used = prepared.sample if sample is ... else sample
    return check_parity(
        artifact, prepared.compiled, prepared.signature, used, clock=time.perf_counter
    )


def test_agreement_is_measured_and_timed(prepared):
    report = prepared.parity()
    assert report.holds
    assert report.sample_rows == len(ROWS)
    assert report.edge_rows > 10
    assert report.label_mismatches == 0
    assert report.largest_difference < report.tolerance == TOLERANCE
    assert report.speed_up == pytest.approx(report.original_ms / report.onnx_ms)


def test_one_other_label_is_a_mismatch(prepared):
    def change(inputs, found):
        found["label"] = np.where(
            inputs["X"][:, 0] == ROWS[7, 0], 1 - found["label"], found["label"]
        )
        return found

    report = report_of(prepared, change)
    assert not report.holds
    assert report.label_mismatches == 1
    assert "`label` differs in 1 of 60 values on the sample" in report.reason


def test_difference_beyond_the_tolerance_does_not_hold_and_is_given(prepared):
    def change(inputs, found):
        return found | {"probabilities": found["probabilities"] + np.float32(5e-4)}

    report = report_of(prepared, change)
    assert not report.holds
    assert report.largest_difference == pytest.approx(5e-4, rel=0.01)
    assert report.tolerance < report.largest_difference


def logarithm():
    graph = helper.make_graph(
        [helper.make_node("Log", ["x"], ["y"])],
        "log",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    field = Field(name="x", dtype=DataType.FP32, shape=(-1, 1))
    return CompiledOnnx(
        graph=model.SerializeToString(),
        feeds=(Feed(graph_input="x", dtype="FP32", columns=("x",)),),
        outputs={"y": "y"},
    ), Signature(layout=Layout.TENSORS, inputs=(field,), outputs=())


@pytest.mark.parametrize(("nan_becomes", "holds"), [(np.nan, True), (0.0, False)])
def test_two_nans_and_two_infinities_agree_and_one_alone_does_not(nan_becomes, holds):
    compiled, signature = logarithm()
    original = Answering(
        lambda inputs: {"y": np.nan_to_num(np.log(inputs["x"]), nan=nan_becomes, neginf=-np.inf)}
    )
    artifact = OpenArtifact(format=Format.SKLEARN, model=None, engine=original)
    report = check_parity(artifact, compiled, signature, None, clock=time.perf_counter)
    assert report.holds is holds, report.reason


def test_other_shape_and_other_names_are_told(prepared):
    by_shape = report_of(prepared, lambda _, f: f | {"label": f["label"].reshape(-1, 1)})
    assert "shape" in by_shape.reason
    by_name = report_of(prepared, lambda _, f: {"label": f["label"]})
    assert "the outputs are" in by_name.reason


def test_original_that_refuses_what_onnx_answers_does_not_hold(prepared):
    def change(inputs, found):
        if (np.abs(inputs["X"]) > 1e6).any():
            raise ValueError("far too large")
        return found

    report = report_of(prepared, change)
    assert not report.holds
    assert "refuses a huge" in report.reason
    assert "far too large" in report.reason


def test_rows_that_both_refuse_agree(prepare, tmp_path):
    frame = pd.DataFrame({"plan": ["basic", "pro"] * 20})
    model = make_pipeline(OneHotEncoder(), LogisticRegression())
    joblib.dump(model.fit(frame, [0, 1] * 20), tmp_path / "m")
    report = prepare(tmp_path / "m", frame).parity()
    assert report.holds, report.reason


def test_graph_that_cannot_be_loaded_does_not_hold(prepared):
    broken = msgspec.structs.replace(prepared.compiled, graph=b"no graph")
    report = check_parity(
        prepared.artifact, broken, prepared.signature, prepared.sample, clock=time.perf_counter
    )
    assert not report.holds
    assert "cannot load" in report.reason


def test_without_a_sample_edge_rows_are_compared(prepared):
    report = report_of(prepared, lambda _, found: found, sample=None)
    assert report.holds
    assert report.sample_rows == 0
    assert report.edge_rows > 10


def test_long_sample_is_compared_in_part(prepared):
    many = Sample(inputs={"X": np.tile(ROWS, (100, 1))}, is_table=False)
    assert report_of(prepared, lambda _, found: found, sample=many).sample_rows == 2000


def test_clock_that_stands_still_ends_too(prepared):
    report = check_parity(
        prepared.artifact,
        prepared.compiled,
        prepared.signature,
        prepared.sample,
        clock=lambda: 1.0,
    )
    assert report.holds
    assert report.speed_up is None


def test_large_predictions_are_compared_by_their_size(prepare, tmp_path):
    target = ROWS @ np.array([1e7, -3e6, 2e6]) + 5e8
    joblib.dump(LinearRegression().fit(ROWS, target), tmp_path / "m")
    report = prepare(tmp_path / "m", ROWS).parity()
    assert report.holds, report.reason
    assert report.tolerance > 1


def test_onnx_artifact_agrees_with_itself():
    artifact = OpenArtifact(format=Format.ONNX, model=b"", engine=Answering(lambda inputs: {}))
    field = Field(name="x", dtype=DataType.FP32)
    report = check_parity(
        artifact,
        CompiledOnnx(
            graph=b"", feeds=(Feed(graph_input="x", dtype="FP32", columns=("x",)),), outputs={}
        ),
        Signature(layout=Layout.TENSORS, inputs=(field,), outputs=()),
        None,
        clock=time.perf_counter,
    )
    assert report.holds
