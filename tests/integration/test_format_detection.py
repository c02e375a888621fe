"""Formats are told from content, and what cannot be packaged is named."""

import bz2
import importlib
import pickle
import subprocess
import sys

import cloudpickle
import joblib
import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from shipway.bundles.formats.detect import detect
from shipway.core.bundles import Format
from shipway.core.errors import (
    ArtifactTruncated,
    InvalidArtifact,
    MissingClass,
    MissingDependency,
    NotAModel,
)

FEATURES, TARGET = load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def model():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(FEATURES, TARGET)


def opened(path, **options):
    return detect(path).open(path, options=options)


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
@pytest.mark.parametrize("name", ["model.onnx", "model.json", "model"])
def test_joblib_is_known_in_every_compression_and_under_every_name(tmp_path, model, compress, name):
    path = tmp_path / name
    joblib.dump(model, path, compress=compress)
    artifact = opened(path)
    assert artifact.format is Format.SKLEARN
    found = artifact.engine.run({"X": FEATURES})
    assert found["label"].tolist() == model.predict(FEATURES).tolist()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_of_every_protocol_is_known(tmp_path, model, protocol):
    path = tmp_path / "m.pt"
    path.write_bytes(pickle.dumps(model, protocol=protocol))
    assert opened(path).format is Format.SKLEARN


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: xgboost.XGBClassifier(n_estimators=2, n_jobs=1), Format.XGBOOST),
        (lambda: lightgbm.LGBMClassifier(n_estimators=2, verbose=-1), Format.LIGHTGBM),
        (
            lambda: make_pipeline(
                StandardScaler(), xgboost.XGBClassifier(n_estimators=2, n_jobs=1)
            ),
            Format.SKLEARN,
        ),
    ],
)
def test_outermost_object_decides_the_format_of_a_pickle(tmp_path, make, expected):
    path = tmp_path / "m"
    joblib.dump(make().fit(FEATURES, TARGET), path)
    assert detect(path).name is expected


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x00" * 64, b"{}", b"PK\x03\x04 no archive", b"\x89PNG\r\n", b"a,b\n1,2\n"],
)
def test_other_content_is_no_model(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(NotAModel, match=r"model\.onnx"):
        detect(path)


def test_missing_path_and_empty_directory_are_no_model(tmp_path):
    with pytest.raises(NotAModel, match="no file or directory"):
        detect(tmp_path / "none")
    with pytest.raises(NotAModel, match="unknown directory"):
        detect(tmp_path)


@pytest.mark.parametrize("value", [{"model": 1}, [1, 2], np.ones(3), 3.5])
def test_pickle_of_something_else_is_no_model(tmp_path, value):
    path = tmp_path / "m.pkl"
    joblib.dump(value, path)
    with pytest.raises(NotAModel, match="neither `predict` nor `transform`"):
        opened(path)


@pytest.mark.parametrize("kept", [0.2, 0.6, 0.99])
@pytest.mark.parametrize("compress", [0, 3, ("bz2", 3), ("xz", 3)])
def test_shortened_joblib_file_is_called_truncated(tmp_path, model, kept, compress):
    path = tmp_path / "m.joblib"
    joblib.dump(model, path, compress=compress)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ArtifactTruncated, match="ends too early"):
        opened(path)


def test_class_of_a_script_is_refused_before_the_pickle_runs(tmp_path):
    script = (
        "import pickle, sys\n"
        "class Model:\n"
        "    def predict(self, x): return x\n"
        "open(sys.argv[1], 'wb').write(pickle.dumps(Model()))\n"
    )
    path = tmp_path / "m.pkl"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    with pytest.raises(MissingClass, match=r"__main__\.Model") as raised:
        opened(path)
    assert "module" in raised.value.next_step
    assert "code" in raised.value.next_step


class Trap:
    def __reduce__(self):
        return (eval, ("__import__('pathlib').Path(TRAP).touch()", {"TRAP": self.path}))


def test_pickle_that_names_what_is_missing_is_never_run(tmp_path):
    trap = Trap()
    trap.path = str(tmp_path / "sprung")
    stream = pickle.dumps((trap, "last"), protocol=2)
    path = tmp_path / "m.pkl"
    path.write_bytes(stream[:-1] + b"0cgone_module\nGone\n.")
    with pytest.raises(MissingClass, match=r"gone_module\.Gone"):
        opened(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("module", "name", "kind", "words"),
    [
        ("catboost.core", "CatBoostClassifier", MissingDependency, "pip install catboost"),
        ("imblearn.pipeline", "Pipeline", MissingDependency, "pip install imbalanced-learn"),
        ("sklearn.linear_model", "Vanished", MissingClass, r"sklearn\.linear_model\.Vanished"),
        ("sklearn.old_module", "Thing", MissingClass, r"sklearn\.old_module\.Thing"),
        ("features_of_mine", "Ratio", MissingClass, r"features_of_mine\.Ratio"),
    ],
)
def test_what_a_pickle_lacks_is_named(tmp_path, module, name, kind, words):
    path = tmp_path / "m.pkl"
    path.write_bytes(f"\x80\x02c{module}\n{name}\n)\x81.".encode("latin-1"))
    with pytest.raises(kind) as raised:
        opened(path)
    assert importlib.import_module("re").search(words, str(raised.value))


def test_class_of_ones_own_module_is_found_in_the_code_directory(prepare, tmp_path, monkeypatch):
    code = tmp_path / "code"
    code.mkdir()
    (code / "ratios_of_mine.py").write_text("def halved(values):\n    return values / 2\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(code)])
    halved = importlib.import_module("ratios_of_mine").halved
    path = tmp_path / "m.joblib"
    own = make_pipeline(FunctionTransformer(halved), LogisticRegression(max_iter=500))
    joblib.dump(own.fit(FEATURES, TARGET), path)
    monkeypatch.setattr(sys, "path", sys.path[:-1])
    monkeypatch.delitem(sys.modules, "ratios_of_mine")
    with pytest.raises(MissingClass, match=r"ratios_of_mine\.halved"):
        opened(path)
    prepared = prepare(path, FEATURES, code=code)
    assert prepared.artifact.options == {"code": "code"}
    monkeypatch.delitem(sys.modules, "ratios_of_mine")
    engine = prepared.original(tmp_path / "bundle")
    found = engine.run(prepared.sample.inputs)
    assert found["label"].tolist() == own.predict(FEATURES).tolist()


def test_model_pickled_by_value_needs_no_code(tmp_path):
    source = "class Half:\n    def predict(self, rows):\n        return rows[:, 0] / 2\n"
    space = {"__name__": "__main__"}
    exec(source, space)
    path = tmp_path / "m.pkl"
    path.write_bytes(cloudpickle.dumps(space["Half"]()))
    found = opened(path).engine.run({"X": np.ones((2, 1))})
    assert found["prediction"].tolist() == [0.5, 0.5]


def test_other_version_of_scikit_learn_is_refused_and_both_are_named(tmp_path, model):
    import sklearn

    path = tmp_path / "m.pkl"
    content = pickle.dumps(model)
    own = sklearn.__version__.encode()
    path.write_bytes(content.replace(own, b"0.9.1"[: len(own)].ljust(len(own), b"0")))
    with pytest.raises(InvalidArtifact, match=sklearn.__version__) as raised:
        opened(path)
    assert raised.value.details["saved"].startswith("0.9.1")
    assert "shipway package" in raised.value.next_step


def test_damaged_inside_of_a_compressed_file_is_not_a_crash(tmp_path, model):
    path = tmp_path / "m"
    path.write_bytes(bz2.compress(b"\x80\x04garbage that is no pickle"))
    with pytest.raises(InvalidArtifact):
        opened(path)
