"""What a person at a terminal gets on a bad day: words, a next step, an exit code, never a traceback."""

import os
import pickle
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROWS = pd.DataFrame({"age": [float(age) for age in range(20, 60)], "visits": [*range(40)]})
TARGET = (ROWS["age"] > 41).astype(int)
FREE = ("--port", "0", "--control-port", "0")
SAMPLE = ("--sample", "rows.csv", "--drop", "left")


def environ(**variables):
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SHIPWAY_")}
    return kept | variables


def begun(*words, cwd, **variables):
    return subprocess.Popen(
        [sys.executable, "-m", "shipway.cli", *words],
        cwd=cwd,
        env=environ(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    stdout, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stdout + stderr
    return process.returncode, stdout, stderr


def said(*words, cwd, code, **variables):
    """What the command says: on stdout when it succeeds, else on stderr and in two lines at most."""
    returncode, stdout, stderr = ended(begun(*words, cwd=cwd, **variables))
    assert returncode == code, stdout + stderr
    if code == 0:
        return stdout
    if code != 2:
        assert len(stderr.strip().splitlines()) <= 2, stderr
    return stderr


def model(c=1.0):
    return make_pipeline(StandardScaler(), LogisticRegression(C=c)).fit(ROWS, TARGET)


def pickle_of_an_absent(module, path, *, inside_pipeline):
    """A pickle of a class whose module is gone once it is written."""
    made = types.ModuleType(module)
    made.Step = type("Step", (TransformerMixin, BaseEstimator), {"__module__": module})
    made.Step.__qualname__ = "Step"
    sys.modules[module] = made
    try:
        step = made.Step()
        thing = make_pipeline(step, LogisticRegression()) if inside_pipeline else step
        path.write_bytes(pickle.dumps(thing))
    finally:
        del sys.modules[module]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory with a server, `churn:1` live behind `churn`, and files of every sorry kind."""
    home = tmp_path_factory.mktemp("bad")
    joblib.dump(model(), home / "churn.joblib")
    ROWS.assign(left=TARGET).to_csv(home / "rows.csv", index=False)
    (home / "cut.joblib").write_bytes((home / "churn.joblib").read_bytes()[:-300])
    (home / "text.onnx").write_text("this is a letter to my aunt\n")
    (home / "empty.pkl").write_bytes(b"")
    joblib.dump({"weights": np.ones(3)}, home / "dict.joblib")
    pickle_of_an_absent("ourcode", home / "ours.pkl", inside_pipeline=True)
    pickle_of_an_absent("catboost", home / "package.pkl", inside_pipeline=True)
    in_main = b"\x80\x04c__main__\nModel\n)\x81."
    (home / "main.pkl").write_bytes(in_main)
    (home / "few.csv").write_text("age\n41\n")
    (home / "word.csv").write_text("age,visits\n41,3\nold,4\n")
    (home / "null.csv").write_text("age,visits\n41,3\n,4\n")
    (home / "rules.yaml").write_text("inputs:\n  age: {minimum: 0, maximum: 120}\n")
    (home / "aged.csv").write_text("age,visits\n41,3\n900,4\n")
    (home / "misspelt.yaml").write_text("name: churn\nmodel: churn:1\nlimits: {deadline_m: 5}\n")
    (home / "torn.yaml").write_text("name: churn\n  model: [\n")
    said("up", "--detach", *FREE, cwd=home, code=0)
    try:
        rules = ("--config", "rules.yaml", "--name", "churn")
        said("register", "churn.joblib", *rules, *SAMPLE, cwd=home, code=0)
        said("deploy", "churn:1", cwd=home, code=0)
        yield home
    finally:
        said("down", cwd=home, code=0)


MISTAKES = [
    ("predict chrun few.csv", 3, ["`chrun`", "`churn`"]),
    ("predict churn few.csv", 4, ["`visits` is missing"]),
    ("predict churn word.csv", 4, ["`age`, row 1", "'old'", "dtype FP64"]),
    ("predict churn null.csv", 4, ["`age`, row 1", "not null"]),
    ("predict churn aged.csv", 4, ["`age`, row 1", "900", "maximum 120"]),
    ("predict churn absent.csv", 4, ["`absent.csv`"]),
    ("predict churn -", 4, ["stdin"]),
    ("predict churn []", 4, ["no rows"]),
    ("show churn:9", 3, ["`churn:9`", "`churn:1`"]),
    ("deploy chrn:1", 3, ["`chrn`", "`churn`"]),
    ("deploy churn --placement sideways", 4, ["`sideways`", "`inline`"]),
    ("rollback churn", 5, ["`churn`", "no earlier version"]),
    ("delete churn", 4, ["`churn`", "--yes"]),
    ("apply -f misspelt.yaml", 4, ["`limits.deadline_m`", "`limits.deadline_ms`"]),
    ("apply -f torn.yaml", 4, ["`torn.yaml`", "line 2"]),
    ("up --port 99999", 2, ["65535"]),
]
NO_MODELS = [
    ("cut.joblib", ["Damaged file", "`cut.joblib`"]),
    ("text.onnx", ["Not a model", "`text.onnx`"]),
    ("empty.pkl", ["Not a model", "empty"]),
    ("dict.joblib", ["Not a model", "`dict.joblib`"]),
    ("absent.joblib", ["`absent.joblib`"]),
    ("main.pkl", ["Class missing", "`__main__.Model`", "--code"]),
    ("ours.pkl", ["Class missing", "`ourcode.Step`", "--code"]),
    ("package.pkl", ["Package missing", "`catboost`", "pip install catboost"]),
]


def told_at_once(cases):
    """What is wrong with what the commands say; two at a time, as each is mostly its start."""

    def wrong(case):
        words, cwd, code, wanted = case
        message = said(*words, cwd=cwd, code=code)
        return [f"{words}: {text} is not in {message}" for text in wanted if text not in message]

    with ThreadPoolExecutor(2) as pool:
        return [line for lines in pool.map(wrong, cases) for line in lines]


def test_a_mistake_is_told_in_words_with_its_exit_code(home):
    cases = [(words.split(), home, code, told) for words, code, told in MISTAKES]
    assert told_at_once(cases) == []


def test_what_is_no_model_is_named_and_nothing_is_registered(home):
    cases = [(["register", file, "--name", "bad"], home, 4, told) for file, told in NO_MODELS]
    assert told_at_once(cases) == []
    assert "bad" not in said("models", cwd=home, code=0)
    assert not list((home / ".shipway" / "staging").iterdir())


def test_a_name_that_will_be_refused_is_refused_before_the_model_is_packaged(home):
    message = said("register", "absent.joblib", "--name", "Bad Name", cwd=home, code=4)
    assert "`Bad Name`" in message


def test_modules_named_with_code_are_registered_and_serve(home):
    code = home / "code"
    code.mkdir()
    (code / "ourscale.py").write_text(
        "from sklearn.base import BaseEstimator\n\n\n"
        "class Half(BaseEstimator):\n"
        "    def fit(self, X, y=None):\n"
        "        self.n_features_in_ = 1\n"
        "        return self\n\n"
        "    def predict(self, X):\n"
        "        return X[:, 0] / 2\n"
    )
    make = "import joblib, ourscale; joblib.dump(ourscale.Half().fit([[1.0]]), 'half.joblib')"
    subprocess.run(
        [sys.executable, "-c", make], cwd=home, env=environ(PYTHONPATH=str(code)), check=True
    )
    said("register", "half.joblib", "--code", "code", cwd=home, code=0)
    said("deploy", "half", cwd=home, code=0)
    assert "2.5" in said("predict", "half", "[[5.0]]", cwd=home, code=0)


def test_registers_of_one_file_at_once_make_one_version(home):
    joblib.dump(model(2.0), home / "twice.joblib")
    words = ("register", "twice.joblib", *SAMPLE)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: said(*words, cwd=home, code=0), range(2)))
    assert all("twice:1" in text for text in both)
    assert "twice:2" not in said("models", cwd=home, code=0)


def test_a_killed_register_leaves_no_version_or_a_whole_one(home):
    joblib.dump(model(3.0), home / "killed.joblib")
    process = begun("register", "killed.joblib", *SAMPLE, cwd=home)
    time.sleep(1.5)
    process.kill()
    process.communicate(timeout=10)
    assert "killed:1" in said("register", "killed.joblib", *SAMPLE, cwd=home, code=0)
    assert "live, serves killed:1" in said("deploy", "killed:1", cwd=home, code=0)


def test_a_server_that_cannot_start_says_why_on_one_line(home, tmp_path):
    (tmp_path / "file").write_text("")
    below_a_file = str(tmp_path / "file" / "state")
    assert "cannot be used" in said("up", "--dir", below_a_file, *FREE, cwd=tmp_path, code=6)
    message = said("up", cwd=tmp_path, code=4, SHIPWAY_GATEWAY_PORT="abc")
    assert "`SHIPWAY_GATEWAY_PORT`" in message
    assert "pid" in said("up", "--detach", *FREE, cwd=home, code=5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        message = said("up", "--port", port, "--control-port", "0", cwd=tmp_path, code=5)
    assert f"Port {port}" in message
    assert "--port" in message


def test_a_newer_schema_is_refused(home, tmp_path):
    (tmp_path / ".shipway").mkdir()
    database = sqlite3.connect(home / ".shipway" / "shipway.db")
    newer = sqlite3.connect(tmp_path / ".shipway" / "shipway.db")
    database.backup(newer)
    newer.execute("UPDATE alembic_version SET version_num = '9999'")
    newer.commit()
    newer.close()
    database.close()
    message = said("up", "--detach", *FREE, cwd=tmp_path, code=6)
    assert "`9999`" in message
    assert "Upgrade Shipway" in message


def test_without_a_server_every_command_says_how_to_start_one(tmp_path):
    joblib.dump(model(), tmp_path / "churn.joblib")
    url = {"SHIPWAY_CONTROL_URL": "http://127.0.0.1:9"}
    for words in ("status", "predict x {}", "register churn.joblib"):
        message = said(*words.split(), cwd=tmp_path, code=6, **url)
        assert "`shipway up`" in message
    assert "No server runs" in said("down", cwd=tmp_path, code=0)


def test_ctrl_c_ends_a_server_and_what_it_started(tmp_path):
    process = begun("up", *FREE, cwd=tmp_path)
    assert process.stdout is not None
    assert "Shipway runs" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    code, _, _ = ended(process)
    assert code == 0
    assert "No server runs" in said("down", cwd=tmp_path, code=0)
