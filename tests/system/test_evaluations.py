"""Evaluating real models behind a real server: metrics, comparison, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, r2_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shipway import AsyncClient
from shipway.core.errors import InvalidInput, InvalidRequest, VersionNotFound

RNG = np.random.default_rng(7)
ROWS = 1600
TABLE = pd.DataFrame({"age": RNG.uniform(18, 90, ROWS), "visits": RNG.integers(0, 9, ROWS)})
CHURNED = np.where(TABLE["age"] + 5 * TABLE["visits"] + RNG.normal(0, 15, ROWS) > 75, "yes", "no")
PRICE = 3 * TABLE["age"] - 2 * TABLE["visits"] + RNG.normal(0, 4, ROWS)
TRAIN, TEST = slice(0, 400), slice(400, ROWS)
PLANS = np.where(np.arange(ROWS) % 3 == 0, "paid", "free")
HELD_OUT = TABLE.assign(churned=CHURNED, price=PRICE, plan=PLANS)[TEST].reset_index(drop=True)


def classifier(columns):
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return model.fit(TABLE[columns][TRAIN], CHURNED[TRAIN])


@pytest.fixture(scope="module")
def client(shared):
    directory = shared.directory
    with shared.client as client:
        sample = TABLE[TRAIN]
        for columns in (["visits"], ["age", "visits"]):
            path = directory / f"churn-{len(columns)}.joblib"
            joblib.dump(classifier(columns), path)
            client.register(path, name="churn", sample=sample[columns])
        joblib.dump(LinearRegression().fit(sample, PRICE[TRAIN]), directory / "price.joblib")
        client.register(directory / "price.joblib", name="price", sample=sample)
        client.deploy("churn:1")
        yield client


def values(evaluation):
    return {one.name: one.value for one in evaluation.measures}


def nothing_left(client):
    return [one.name for one in client.endpoints() if one.name.startswith("evaluate-")] == []


def test_a_classifier_is_judged_as_scikit_learn_judges_it_and_against_the_live_version(
    client, tmp_path
):
    path = tmp_path / "test.parquet"
    HELD_OUT.drop(columns="price").to_parquet(path)
    seen = []
    found = client.evaluate(
        "churn:2",
        path,
        label="churned",
        slices=["plan"],
        on_progress=lambda step, done, total: seen.append((step, done, total)),
    )
    model, truth = classifier(["age", "visits"]), HELD_OUT["churned"]
    scores = model.predict_proba(HELD_OUT[["age", "visits"]])
    measured = values(found)
    expected = accuracy_score(truth, model.predict(HELD_OUT[["age", "visits"]]))
    assert measured["accuracy"] == pytest.approx(expected, abs=1e-12)
    assert measured["roc_auc"] == pytest.approx(roc_auc_score(truth, scores[:, 1]), abs=1e-5)
    assert measured["log_loss"] == pytest.approx(log_loss(truth, scores), abs=1e-5)
    assert (found.rows, found.number, found.resamples) == (1200, 2, 1000)
    assert found.against.version == "churn:1"
    assert {one.name: one.verdict for one in found.against.differences}["accuracy"] == "better"
    assert [(one.value, one.rows) for one in found.slices] == [("free", 800), ("paid", 400)]
    assert ("rows", 1200, 1200) in seen
    assert client.evaluations("churn:2") == (found,)
    assert nothing_left(client)
    assert client.endpoint("churn").active == "churn:1"


def test_a_regressor_is_judged_and_says_that_nothing_is_live_to_compare_with(client, tmp_path):
    path = tmp_path / "test.csv"
    HELD_OUT.to_csv(path, index=False)
    found = client.evaluate("price", path, label="price")
    expected = LinearRegression().fit(TABLE[TRAIN], PRICE[TRAIN]).predict(TABLE[TEST])
    measured = values(found)
    assert measured["mae"] == pytest.approx(mean_absolute_error(PRICE[TEST], expected), abs=1e-3)
    assert measured["r2"] == pytest.approx(r2_score(PRICE[TEST], expected), abs=1e-3)
    assert found.against is None
    assert "No version of the model is live: there is nothing to compare with." in found.notes
    assert "Columns not used: churned, plan." in found.notes
    assert nothing_left(client)


async def test_the_asynchronous_client_judges_a_frame_in_memory_the_same(shared, client):
    async with AsyncClient(state_dir=shared.state_dir) as asynchronous:
        found = await asynchronous.evaluate("churn:1", HELD_OUT, label="churned", against="churn:2")
        again = await asynchronous.evaluate(
            "churn:1", HELD_OUT.sample(frac=1, random_state=1), label="churned", against="churn:2"
        )
    assert found.measures == again.measures
    assert found.against == again.against
    assert {one.name: one.verdict for one in found.against.differences}["accuracy"] == "worse"
    assert nothing_left(client)


def test_the_command_shows_metrics_latency_and_history_and_says_what_is_wrong(shared, client):
    directory = shared.directory
    HELD_OUT.to_csv(directory / "test.csv", index=False)
    words = ["evaluate", "churn:2", "--data", "test.csv", "--load", "2", "--slice", "plan"]
    said = command(shared, *words, "--label", "churned")
    assert said.returncode == 0, said.stderr
    for word in ("accuracy ↑", "LESS CHURN:1", "By slice", "2 callers: p50", "1,000 draws"):
        assert word in said.stdout
    assert "accuracy" in command(shared, "show", "churn:2").stdout
    newest = json.loads(command(shared, "evaluations", "churn:2", "--json").stdout)[0]
    assert newest["latency"]["callers"] == 2
    assert newest["latency"]["requests"] > 20
    assert newest["latency"]["p50_ms"] <= newest["latency"]["p99_ms"]
    wrong = command(shared, *words, "--label", "churnt")
    assert wrong.returncode == 4
    assert "Did you mean `churned`?" in wrong.stderr
    assert nothing_left(client)


@pytest.mark.parametrize(
    ("data", "label", "kind", "words"),
    [
        (HELD_OUT.assign(churned="maybe"), "churned", InvalidRequest, "maybe"),
        (HELD_OUT.assign(churned=None), "churned", InvalidRequest, "no value in row 1"),
        (HELD_OUT.drop(columns="age"), "churned", InvalidRequest, "no column `age`"),
        (HELD_OUT.assign(age=np.nan), "churned", InvalidInput, "rows 1 to 1000"),
    ],
)
def test_data_that_does_not_fit_leaves_no_endpoint_and_no_record(client, data, label, kind, words):
    before = client.evaluations("churn:2")
    with pytest.raises(kind, match=words):
        client.evaluate("churn:2", data, label=label)
    assert nothing_left(client)
    assert client.evaluations("churn:2") == before


def test_a_version_that_is_not_there_is_said_before_anything_is_started(client):
    with pytest.raises(VersionNotFound):
        client.evaluate("churn:9", HELD_OUT, label="churned")
    with pytest.raises(VersionNotFound):
        client.evaluate("churn:2", HELD_OUT, label="churned", against="churn:9")
    assert nothing_left(client)


def test_one_class_alone_is_judged_without_the_area_under_the_curve(client):
    found = client.evaluate(
        "churn:2", HELD_OUT[HELD_OUT["churned"] == "yes"], label="churned", against="none"
    )
    assert "roc_auc" not in values(found)
    assert any(note.startswith("roc_auc is left out") for note in found.notes)


def test_ctrl_c_removes_the_endpoint_and_what_a_kill_leaves_the_next_one_finds(
    shared, client, until
):
    HELD_OUT.to_csv(shared.directory / "test.csv", index=False)
    words = ["evaluate", "churn:2", "--data", "test.csv", "--label", "churned", "--load", "2"]
    for number, is_left in ((signal.SIGINT, False), (signal.SIGKILL, True)):
        process = start(shared, *words)
        until(lambda: not nothing_left(client))
        process.send_signal(number)
        process.communicate(timeout=30)
        assert process.returncode == (-signal.SIGKILL if is_left else 130)
        assert nothing_left(client) is not is_left
    client.evaluate("churn:2", HELD_OUT, label="churned", against="none")
    assert nothing_left(client)


def environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("SHIPWAY_")}


def start(shared, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "shipway.cli", *words, "--dir", str(shared.state_dir)],
        cwd=shared.directory,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def command(shared, *words):
    process = start(shared, *words)
    stdout, stderr = process.communicate(timeout=120)
    assert "Traceback" not in stderr
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)
