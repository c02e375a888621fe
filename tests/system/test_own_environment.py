"""A model of another scikit-learn is served from its own environment, beside one of this one."""

import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
import uv
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

ROOT = Path(__file__).parents[2]
OLD = "1.4.2"
# Has no ONNX converter, so that the original must be served by that old scikit-learn.
TRAIN = """
import joblib, sys
import numpy as np, sklearn
from sklearn.datasets import load_iris
from sklearn.semi_supervised import LabelSpreading

rows, labels = load_iris(return_X_y=True)
model = LabelSpreading().fit(rows, labels)
joblib.dump(model, sys.argv[1] + "/old.joblib")
np.save(sys.argv[1] + "/rows.npy", rows)
np.save(sys.argv[1] + "/old-labels.npy", model.predict(rows))
print(sklearn.__version__)
"""


@pytest.fixture(scope="module")
def old_python(tmp_path_factory):
    """An interpreter with the old scikit-learn and Shipway, as the model's author has it."""
    directory = tmp_path_factory.mktemp("old") / "venv"
    tool = uv.find_uv_bin()
    subprocess.run([tool, "venv", "-q", "--python", sys.executable, directory], check=True)
    python = directory / "bin" / "python"
    packages = [f"scikit-learn=={OLD}", "numpy<2", "scipy<1.14", "-e", str(ROOT)]
    subprocess.run([tool, "pip", "install", "-q", "--python", python, *packages], check=True)
    return python


@pytest.mark.timeout(600)
def test_conflicting_environments_are_served_side_by_side(own, old_python, tmp_path):
    trained = subprocess.run(
        [old_python, "-c", TRAIN, tmp_path], check=True, capture_output=True, text=True
    )
    assert trained.stdout.strip() == OLD
    registered = subprocess.run(
        [old_python, "-m", "shipway.cli", "register", tmp_path / "old.joblib", "--name", "old",
         "--sample", tmp_path / "rows.npy"],
        capture_output=True, text=True, check=False,
        env={
            **os.environ,
            "SHIPWAY_CONTROL_URL": own.client.control_url,
            "SHIPWAY_API_KEY": own.server.key,
        },
    )  # fmt: skip
    assert registered.returncode == 0, registered.stderr
    rows, labels = load_iris(return_X_y=True)
    new = LogisticRegression(max_iter=500).fit(rows, labels)
    joblib.dump(new, tmp_path / "new.joblib")
    own.client.register(tmp_path / "new.joblib", name="new", sample=rows)
    own.client.deploy("old:1", timeout_s=300)
    own.client.deploy("new:1", placement="process")

    lock = own.client.show("old:1").manifest.content.environment.requirements
    assert f"scikit-learn=={OLD}" in lock
    assert sklearn.__version__ != OLD
    old_labels = np.load(tmp_path / "old-labels.npy")
    assert own.client.predict("old", rows).label.tolist() == old_labels.tolist()
    assert own.client.predict("new", rows).label.tolist() == new.predict(rows).tolist()
    (replica,) = own.client.endpoint("old").replicas
    loaded = Path(f"/proc/{replica.pid}/maps").read_text()
    assert str(own.state_dir.resolve() / "envs") in loaded
