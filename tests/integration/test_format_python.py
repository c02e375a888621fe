"""A person's own class: its code is imported, isolated and run."""

import pickle
import sys
import threading

import numpy as np
import pytest

from shipway.bundles.formats.detect import detect
from shipway.bundles.formats.layout import artifact_files, artifact_path
from shipway.core.bundles import Format
from shipway.core.errors import InvalidArtifact, MissingClass, MissingDependency, NotAModel

SIMPLE = """
import numpy as np


class Doubler:
    def predict(self, inputs):
        return inputs["x"] * 2
"""

PACKAGE = {
    "model.py": (
        "import math\n"
        "import steps.scale\n"
        "from steps import scale as scaling\n"
        "from steps.names import NAME\n\n\n"
        "class Tariff:\n"
        "    def load(self, directory):\n"
        "        self.factor = float((directory / 'factor.txt').read_text())\n\n"
        "    def predict(self, inputs):\n"
        "        import late\n"
        "        value = steps.scale.scaled(inputs['km'], self.factor)\n"
        "        assert scaling is steps.scale\n"
        "        return {NAME: late.rounded(value), 'currency': ['EUR'] * len(value)}\n"
    ),
    "steps/__init__.py": "",
    "steps/scale.py": "from . import names\n\n\ndef scaled(a, f):\n    return a * f\n",
    "steps/names.py": "NAME = 'price'\n",
    "late.py": "def rounded(value):\n    return value.round(1)\n",
    "factor.txt": "2.5",
}


def write(directory, files):
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def opened(path, **options):
    return detect(path).open(path, options=options)


def test_class_in_one_file_of_any_name_is_a_model(prepare, tmp_path):
    path = tmp_path / "doubler.txt"
    path.write_text(SIMPLE)
    sample = {"x": np.arange(4.0)}
    prepared = prepare(path, sample)
    assert prepared.artifact.format is Format.PYTHON
    assert prepared.artifact.options == {"class": "doubler:Doubler"}
    assert prepared.compiled is None
    found = prepared.original(tmp_path / "bundle").run(sample)
    assert found["prediction"].tolist() == [0, 2, 4, 6]


def test_modules_of_a_directory_find_each_other_and_its_files(prepare, tmp_path):
    path = write(tmp_path / "code", PACKAGE)
    sample = {"km": np.array([1.0, 2.0])}
    prepared = prepare(path, sample)
    found = prepared.original(tmp_path / "bundle").run(sample)
    assert found["price"].tolist() == [2.5, 5.0]
    assert found["currency"].tolist() == ["EUR", "EUR"]


def test_nothing_is_written_beside_the_code_and_nothing_leaks_out_of_its_name_space(tmp_path):
    path = write(tmp_path / "code", PACKAGE)
    before, search = sorted(path.rglob("*")), list(sys.path)
    artifact = opened(path)
    artifact.engine.run({"km": np.ones(1)})
    assert sorted(path.rglob("*")) == before
    assert sys.path == search
    assert not {"model", "late", "steps"} & set(sys.modules)


def test_two_models_with_modules_of_the_same_name_do_not_meet(tmp_path):
    engines = []
    for number in (1, 2):
        files = {
            "model.py": "import rate\n\n\nclass M:\n    def predict(self, i):\n        return i['x'] * rate.R\n",
            "rate.py": f"R = {number}\n",
        }
        engines.append(opened(write(tmp_path / str(number), files)).engine)
    found = [engine.run({"x": np.ones(1)})["prediction"][0] for engine in engines]
    assert found == [1, 2]


def test_load_may_read_a_pickle_of_the_models_own_classes(tmp_path):
    files = {
        "parts.py": "class Part:\n    def __init__(self, n):\n        self.n = n\n",
        "model.py": (
            "import pickle\n\n\nclass M:\n"
            "    def load(self, directory):\n"
            "        self.part = pickle.loads((directory / 'part.bin').read_bytes())\n\n"
            "    def predict(self, inputs):\n        return inputs['x'] + self.part.n\n"
        ),
    }
    path = write(tmp_path / "code", files)
    (path / "part.bin").write_bytes(b"cparts\nPart\n(I7\ntR.")
    assert pickle.dumps(1)
    assert opened(path).engine.run({"x": np.zeros(2)})["prediction"].tolist() == [7, 7]
    assert "parts" not in sys.modules


def test_modules_are_told_without_the_standard_library_and_its_own(tmp_path):
    files = PACKAGE | {
        "late.py": "import numpy.linalg\nimport msgspec\n\n\ndef rounded(v):\n    return v\n"
    }
    assert opened(write(tmp_path / "code", files)).modules == {"numpy", "msgspec"}


def test_directory_of_data_does_not_hide_a_package_of_its_name(tmp_path):
    files = {"model.py": "import msgspec\n" + SIMPLE, "msgspec/data.json": "{}"}
    engine = opened(write(tmp_path / "code", files)).engine
    assert engine.run({"x": np.ones(1)})["prediction"].tolist() == [2]


def test_late_imports_work_in_other_threads(tmp_path):
    engine = opened(write(tmp_path / "code", PACKAGE)).engine
    found = []
    thread = threading.Thread(target=lambda: found.append(engine.run({"km": np.ones(1)})))
    thread.start()
    thread.join()
    assert found[0]["price"].tolist() == [2.5]


TWO = (
    SIMPLE
    + "\n\nclass Other(Doubler):\n    def predict(self, inputs):\n        return inputs['x']\n"
)


def test_several_classes_need_a_choice(tmp_path):
    path = tmp_path / "m.py"
    path.write_text(TWO)
    with pytest.raises(InvalidArtifact, match=r"m:Doubler, m:Other.*class: m:Doubler"):
        opened(path)
    for name in ("m:Other", "Other"):
        artifact = opened(path, **{"class": name})
        assert artifact.options == {"class": "m:Other"}
        assert artifact.engine.run({"x": np.ones(1)})["prediction"].tolist() == [1]
    with pytest.raises(MissingClass, match="no class `Third`"):
        opened(path, **{"class": "Third"})


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("import catboost\n" + SIMPLE, MissingDependency, "pip install catboost"),
        ("import my_own_features\n" + SIMPLE, MissingClass, "my_own_features"),
        (SIMPLE + "    def __init__(self, size):\n        pass\n", InvalidArtifact, "constructor"),
        (
            SIMPLE + "    def load(self, d):\n        open(d / 'no.bin')\n",
            InvalidArtifact,
            "no.bin",
        ),
    ],
)
def test_what_keeps_a_class_from_serving_is_said(tmp_path, code, kind, words):
    path = tmp_path / "m.py"
    path.write_text(code)
    with pytest.raises(kind, match=words):
        opened(path)


def test_a_single_file_sees_no_more_than_its_bundle_will_hold(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"1")
    path = tmp_path / "m.py"
    path.write_text(SIMPLE + "    def load(self, d):\n        (d / 'weights.bin').read_bytes()\n")
    with pytest.raises(InvalidArtifact, match="pass a directory"):
        opened(path)


def test_code_without_a_predicting_class_is_no_model(tmp_path):
    path = tmp_path / "m.py"
    path.write_text("class Helper:\n    pass\n")
    with pytest.raises(NotAModel):
        detect(path)


def test_bundle_holds_code_and_files_and_no_byte_code(tmp_path):
    path = write(tmp_path / "code", PACKAGE | {"__pycache__/late.pyc": "x", ".git/HEAD": "x"})
    assert artifact_path(path) == "model"
    assert sorted(artifact_files(path)) == sorted(f"model/{name}" for name in PACKAGE)
