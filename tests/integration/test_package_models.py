"""Real models become bundles."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import joblib
import msgspec
import numpy as np
import pandas as pd
import pytest
from skl2onnx import to_onnx
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from shipway.bundles.lineage import sha256_of
from shipway.bundles.overrides import Overrides, parse_overrides
from shipway.bundles.package import package
from shipway.core.bundles import Format, Served
from shipway.core.environment import pins_of
from shipway.core.errors import (
    ArtifactTruncated,
    EnvironmentFailed,
    InvalidRequest,
    InvalidSpec,
    NotAModel,
    StateUnusable,
)
from shipway.core.outputs import finisher
from shipway.core.profile import Profile
from shipway.core.signature import Layout
from shipway.core.tensors import DataType
from shipway.core.validation import compile_validator
from shipway.engines.bundle import read_manifest, verified_manifest
from shipway.engines.load import load_engine
from shipway.engines.warmup import warm
from shipway.wire.open_inference import decode_request

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def iris():
    features, target = load_iris(return_X_y=True)
    return LogisticRegression(max_iter=500).fit(features, target), features


@pytest.fixture(scope="module")
def mixed():
    frame = pd.DataFrame(
        {
            "age": [20.5, 30.0, None, 50.0] * 10,
            "plan": ["basic", "pro", None, "basic"] * 10,
            "visits": [1, 2, 3, 4] * 10,
        }
    )
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer((numbers, ["age", "visits"]), (texts, ["plan"]))
    target = np.array(["stays", "leaves", "leaves", "stays"] * 10)
    return make_pipeline(columns, LogisticRegression()).fit(frame, target), frame


def answers_of(packaged, rows):
    """What the bundle answers to the first rows of its own examples, as a caller would get it."""
    content = verified_manifest(packaged.directory).content
    engine = load_engine(packaged.directory, content)
    warm(engine, packaged.directory, content)
    request = decode_request((packaged.directory / "examples.json").read_bytes())
    inputs = compile_validator(content.signature)(request.inputs)
    return finisher(content.signature, content.config, content.classes)(
        engine.run({name: array[:rows] for name, array in inputs.items()})
    )


def test_a_classifier_of_a_matrix_is_served_from_onnx_and_answers_as_before(iris, tmp_path):
    model, features = iris

    packaged = package(model, out=tmp_path, now=NOW, sample=features)

    content = packaged.manifest.content
    assert packaged.directory == tmp_path / packaged.manifest.digest.removeprefix("sha256:")
    assert content.format is Format.SKLEARN
    assert content.served is Served.ONNX
    assert content.classes == (0, 1, 2)
    assert content.signature.layout is Layout.TENSORS
    assert not content.signature.inputs[0].nullable
    answers = answers_of(packaged, 5)
    assert answers["label"].tolist() == model.predict(features[:5]).tolist()
    assert np.allclose(answers["probabilities"], model.predict_proba(features[:5]), atol=1e-5)


def test_a_bundle_has_the_files_that_the_architecture_names(iris, tmp_path):
    model, features = iris

    packaged = package(model, out=tmp_path, now=NOW, sample=features)

    files = {p.relative_to(packaged.directory).as_posix() for p in packaged.directory.rglob("*.*")}
    assert files == {
        "shipway.json",
        "model/model.joblib",
        "onnx/model.onnx",
        "environment.lock",
        "examples.json",
        "profile.json",
    }
    listed = {file.path for file in packaged.manifest.content.files}
    assert listed == files - {"shipway.json"}
    profile = msgspec.json.decode((packaged.directory / "profile.json").read_bytes(), type=Profile)
    assert list(profile.columns) == ["X[0]", "X[1]", "X[2]", "X[3]"]
    assert [one.name for one in tmp_path.iterdir()] == [packaged.directory.name]


def test_the_same_model_packaged_twice_is_the_same_bundle(iris, tmp_path):
    model, features = iris
    path = tmp_path / "iris.joblib"
    joblib.dump(model, path)

    first = package(path, out=tmp_path / "a", now=NOW, sample=features)
    second = package(path, out=tmp_path / "b", now=NOW.replace(year=2027), sample=features)
    again = package(path, out=tmp_path / "a", now=NOW.replace(year=2028), sample=features)

    assert first.manifest.digest == second.manifest.digest == again.manifest.digest
    assert read_manifest(first.directory).provenance.lineage.created_at.year == 2028
    assert len(list((tmp_path / "a").iterdir())) == 1


def test_a_tree_model_answers_nulls_and_keeps_its_columns(tmp_path):
    data = load_breast_cancer(as_frame=True)
    model = HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(data.data, data.target)

    packaged = package(model, out=tmp_path, now=NOW, sample=data.frame)

    inputs = packaged.manifest.content.signature.inputs
    assert [field.name for field in inputs] == list(data.data.columns)
    assert all(field.nullable for field in inputs)
    assert "`target`" in packaged.manifest.provenance.notes[0]
    assert (inputs[0].minimum, inputs[0].maximum) == (6.981, 28.11)
    answers = answers_of(packaged, 8)
    assert answers["label"].tolist() == model.predict(data.data[:8]).tolist()


def test_a_forest_trained_without_nulls_is_served_from_onnx_and_refuses_them(tmp_path):
    features, target = load_diabetes(return_X_y=True)
    model = RandomForestRegressor(10, random_state=0).fit(features, target)

    packaged = package(model, out=tmp_path, now=NOW, sample=features)

    content = packaged.manifest.content
    assert content.served is Served.ONNX
    assert not content.signature.inputs[0].nullable
    assert "Nulls are refused in `X`" in packaged.manifest.provenance.notes[-1]
    expected = model.predict(features[:8].astype(np.float32))
    assert np.allclose(answers_of(packaged, 8)["prediction"], expected, rtol=1e-4)


def test_declared_nulls_are_kept_even_when_that_costs_the_onnx_form(tmp_path):
    features, target = load_diabetes(return_X_y=True)
    model = RandomForestRegressor(10, random_state=0).fit(features, target)

    overrides = parse_overrides("inputs: {X: {nullable: true}}")
    packaged = package(model, out=tmp_path, now=NOW, sample=features, overrides=overrides)

    content, parity = packaged.manifest.content, packaged.manifest.provenance.parity
    assert content.signature.inputs[0].nullable
    assert parity is not None
    assert (content.served is Served.ONNX) == parity.holds
    assert parity.reason


def test_a_mixed_frame_with_nulls_follows_its_declarations(mixed, tmp_path):
    model, frame = mixed
    overrides = parse_overrides(
        "inputs: {age: {minimum: 0, maximum: 120}}\n"
        "output_names: {label: decision}\n"
        "threshold: 0.01\n"
        "metrics: {auc: 0.9}\n"
    )

    packaged = package(model, out=tmp_path, now=NOW, sample=frame, overrides=overrides)

    content = packaged.manifest.content
    age, plan, visits = content.signature.inputs
    assert (age.dtype, age.nullable, age.declared) == (DataType.FP64, True, ("maximum", "minimum"))
    assert (plan.dtype, plan.nullable, plan.categories) == (
        DataType.STRING,
        True,
        ("basic", "pro"),
    )
    assert (visits.dtype, visits.nullable) == (DataType.INT64, False)
    assert content.signature.output_names() == ("decision", "probabilities")
    assert packaged.manifest.provenance.metrics == {"auc": 0.9}
    # With a threshold of 1 % for `stays`, every row stays.
    answers = answers_of(packaged, 8)
    assert answers["decision"].tolist() == ["stays"] * 8
    assert np.allclose(answers["probabilities"], model.predict_proba(frame[:8]), atol=1e-4)


def test_the_lock_of_a_pipeline_pins_all_that_it_imports(mixed, tmp_path):
    model, frame = mixed

    packaged = package(model, out=tmp_path, now=NOW, sample=frame)

    lock = packaged.manifest.content.environment
    assert {
        "scikit-learn",
        "scipy",
        "joblib",
        "threadpoolctl",
        "numpy",
        "pandas",
        "msgspec",
    } <= set(pins_of(lock))
    text = (packaged.directory / "environment.lock").read_text()
    assert tuple(text.splitlines()) == lock.requirements


def test_the_lock_has_onnx_runtime_when_the_onnx_form_is_what_replicas_run(iris, tmp_path):
    model, features = iris
    texts = make_pipeline(OneHotEncoder(), FunctionTransformer(np.sqrt)).fit([["a"], ["b"]])

    served = package(model, out=tmp_path, now=NOW, sample=features).manifest.content
    kept = package(texts, out=tmp_path, now=NOW, sample={"a": ["a", "b"]}).manifest.content

    assert served.served is Served.ONNX
    assert "onnxruntime" in pins_of(served.environment)
    assert kept.served is Served.ORIGINAL
    assert "onnxruntime" not in pins_of(kept.environment)


def test_a_model_that_refuses_fp32_takes_fp64(tmp_path):
    features, _ = load_iris(return_X_y=True)
    model = KMeans(3, n_init=1, random_state=0).fit(features)

    packaged = package(model, out=tmp_path, now=NOW, sample=features)

    assert packaged.manifest.content.signature.inputs[0].dtype is DataType.FP64
    assert "does not answer FP32" in packaged.manifest.provenance.notes[0]
    assert answers_of(packaged, 8)["label"].tolist() == model.predict(features[:8]).tolist()


def test_a_model_of_texts_takes_them_as_one_column(tmp_path):
    texts = ["good film", "bad film", "good song", "bad song"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])

    packaged = package(model, out=tmp_path, now=NOW, sample={"review": texts})

    (review,) = packaged.manifest.content.signature.inputs
    assert (review.name, review.dtype, review.shape) == ("review", DataType.STRING, (-1,))
    assert packaged.manifest.content.signature.batchable
    assert answers_of(packaged, 4)["label"].tolist() == [1, 0, 1, 0]


def test_renamed_outputs_keep_the_dtype_of_the_signature(tmp_path):
    features, target = load_diabetes(return_X_y=True)
    model = Ridge().fit(features, target)
    overrides = Overrides(output_names={"prediction": "progress"})

    packaged = package(model, out=tmp_path, now=NOW, sample=features, overrides=overrides)

    content = packaged.manifest.content
    assert content.served is Served.ONNX
    assert content.signature.outputs[0].dtype is DataType.FP64
    assert answers_of(packaged, 8)["progress"].dtype == np.float64


def test_an_onnx_graph_is_not_stored_twice(iris, tmp_path):
    model, features = iris
    graph = to_onnx(model, features[:1].astype(np.float32), options={"zipmap": False})

    packaged = package(graph, out=tmp_path, now=NOW, sample=features)

    content = packaged.manifest.content
    assert content.onnx is not None
    assert content.onnx.path == content.artifact == "model/model.onnx"
    assert answers_of(packaged, 5)["label"].tolist() == model.predict(features[:5]).tolist()


def test_a_python_class_is_packaged_from_its_code_and_declarations(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "model.py").write_text(
        "class Doubler:\n"
        "    def predict(self, inputs):\n"
        "        return {'double': inputs['a'] * 2}\n"
    )
    overrides = parse_overrides("class: model:Doubler\ninputs: {a: {dtype: FP64}}")

    packaged = package(tmp_path / "code", out=tmp_path / "out", now=NOW, overrides=overrides)

    content = verified_manifest(packaged.directory).content
    assert content.format is Format.PYTHON
    assert content.signature.inputs[0].declared == ("dtype",)
    engine = load_engine(packaged.directory, content)
    assert engine.run({"a": np.array([1.5])})["double"].tolist() == [3.0]


def test_a_model_without_a_sample_is_packaged_and_says_what_is_unknown(iris, tmp_path):
    packaged = package(iris[0], out=tmp_path, now=NOW)

    content = packaged.manifest.content
    assert content.examples is None
    assert content.profile is None
    assert "No sample was given" in packaged.manifest.provenance.notes[0]
    assert verified_manifest(packaged.directory)


def test_lineage_names_source_training_data_and_commit(iris, tmp_path):
    model, _ = iris
    path, data = tmp_path / "iris.joblib", tmp_path / "train.csv"
    joblib.dump(model, path)
    data.write_text("a,b\n1,2\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *command], check=True)

    def lineage():
        overrides = Overrides(training_data=str(data))
        packaged = package(path, out=tmp_path / "out", now=NOW, overrides=overrides)
        return packaged.manifest.provenance.lineage

    clean = lineage()
    assert clean.source == str(path)
    assert clean.source_sha256 == sha256_of(path)
    assert clean.training_data_sha256 == sha256_of(data)
    assert clean.git_commit is not None
    assert len(clean.git_commit) == 40
    assert clean.git_dirty is False
    assert clean.created_at == NOW
    data.write_text("a,b\n3,4\n")
    assert lineage().git_dirty is True


def test_the_digest_of_a_directory_follows_content_and_names(tmp_path):
    for name, content in [("a/x", "1"), ("b/x", "1"), ("c/y", "1"), ("d/x", "2")]:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(content)
    (tmp_path / "b" / "__pycache__").mkdir()
    (tmp_path / "b" / "__pycache__" / "x.pyc").write_text("")

    a, b, c, d = (sha256_of(tmp_path / name) for name in "abcd")

    assert a == b
    assert len({a, c, d}) == 3


def test_steps_are_announced_in_order(iris, tmp_path):
    said = []

    package(iris[0], out=tmp_path, now=NOW, sample=iris[1], on_step=said.append)

    assert said == [
        "Reading the model",
        "Inferring the signature",
        "Compiling to ONNX and checking parity",
        "Locking the environment",
        "Writing the bundle",
    ]


def refuse(tmp_path, source, error, *, match, **given):
    out = tmp_path / "out"
    with pytest.raises(error, match=match):
        package(source, out=out, now=NOW, **given)
    assert not out.exists() or list(out.iterdir()) == []


def test_whatever_fails_nothing_remains(iris, tmp_path):
    model, features = iris
    text, half = tmp_path / "text.joblib", tmp_path / "half.joblib"
    text.write_text("not a model")
    joblib.dump(model, half)
    half.write_bytes(half.read_bytes()[:-40])

    refuse(tmp_path, text, NotAModel, match="no model that Shipway can package")
    refuse(tmp_path, tmp_path / "none", NotAModel, match="There is no file")
    refuse(tmp_path, half, ArtifactTruncated, match="ends too early")
    refuse(tmp_path, {"a": 1}, NotAModel, match="neither `predict` nor")
    refuse(tmp_path, model, InvalidRequest, match="takes 4 features", sample=features[:, :3])
    refuse(
        tmp_path,
        model,
        InvalidSpec,
        match="threshold",
        overrides=Overrides(threshold=0.5),
    )
    refuse(
        tmp_path,
        model,
        EnvironmentFailed,
        match="cannot be resolved",
        overrides=Overrides(requirements=("scikit-learn==99.0",)),
    )
    refuse(
        tmp_path,
        model,
        InvalidRequest,
        match="training data",
        overrides=Overrides(training_data="/no/such/file"),
    )


def test_a_disk_that_fills_up_while_writing_leaves_nothing(iris, tmp_path):
    """A limit on file size (RLIMIT_FSIZE) refuses the model's bytes as a full disk would."""
    path, out = tmp_path / "iris.joblib", tmp_path / "out"
    joblib.dump(iris[0], path)
    code = (
        "import resource, signal, sys; from datetime import *; from pathlib import Path\n"
        "from shipway.bundles import package as home\n"
        "whole = home.write_bundle\n"
        "def limited(*args, **kwargs):\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "    return whole(*args, **kwargs)\n"
        "home.write_bundle = limited\n"
        "home.package(Path(sys.argv[1]), out=Path(sys.argv[2]), now=datetime(2026, 1, 1))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, path, out], capture_output=True, text=True, check=False
    )

    assert "StateUnusable" in done.stderr
    assert "cannot be written" in done.stderr
    assert list(out.iterdir()) == []


def test_an_unwritable_place_is_one_clear_error(iris, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StateUnusable, match="cannot be written"):
        package(iris[0], out=tmp_path / "file", now=NOW)


def test_two_packagings_at_once_leave_one_whole_bundle(iris, tmp_path):
    path, out = tmp_path / "iris.joblib", tmp_path / "out"
    joblib.dump(iris[0], path)
    code = (
        "import sys; from datetime import *; from pathlib import Path\n"
        "from shipway.bundles.package import package\n"
        "for _ in range(2): package(Path(sys.argv[1]), out=Path(sys.argv[2]), now=datetime(2026, 1, 1, tzinfo=UTC))\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, path, out]) for _ in range(2)]

    assert [process.wait(timeout=120) for process in both] == [0, 0]
    (directory,) = out.iterdir()
    assert verified_manifest(directory)
    assert os.access(directory, os.R_OK)
    assert Path(directory, "model").is_dir()
