"""The command line and the SDK against one real server: from a file to a rolled-back endpoint."""

import asyncio
import json
import os
import socket
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shipway import AsyncClient, Client
from shipway.core.endpoints import EndpointSpec, Limits
from shipway.core.errors import (
    DeployFailed,
    EndpointNotFound,
    InvalidInput,
    InvalidRequest,
    NothingToRollBack,
    ServerUnreachable,
    VersionInUse,
)

RNG = np.random.default_rng(7)
ROWS = pd.DataFrame({"age": RNG.uniform(18, 90, 80), "visits": RNG.integers(0, 9, 80)})
TARGET = np.where(ROWS["age"] + 5 * ROWS["visits"] > 75, "leaves", "stays")

FAILS_IN_A_REPLICA = """
import sys


class Broken:
    def __init__(self, *arguments, **options):
        if "--address" in sys.argv:
            raise RuntimeError("not in a replica")

    def predict(self, data):
        return [0.0] * len(data["age"])
"""


def trained(c):
    return make_pipeline(StandardScaler(), LogisticRegression(C=c)).fit(ROWS, TARGET)


def run(*words, cwd, stdin="", code=0):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SHIPWAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "shipway.cli", *words],
        cwd=cwd,
        env=environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory with a running server, two models, a sample, and version 1 live as `churn`."""
    directory = tmp_path_factory.mktemp("home")
    for number, c in enumerate((0.01, 10.0), start=1):
        joblib.dump(trained(c), directory / f"churn-{number}.joblib")
    ROWS.assign(churned=TARGET).to_csv(directory / "rows.csv", index=False)
    run("up", "--detach", "--port", "0", "--control-port", "0", cwd=directory)
    try:
        register = ["--name", "churn", "--sample", "rows.csv", "--drop", "churned"]
        assert "parity  holds" in run("register", "churn-1.joblib", *register, cwd=directory)
        run("register", "churn-2.joblib", *register, cwd=directory)
        run("deploy", "churn:1", cwd=directory)
        yield directory
    finally:
        run("down", cwd=directory)


@pytest.fixture
def client(home):
    with Client(state_dir=home / ".shipway") as client:
        yield client


def test_registering_the_same_file_again_gives_the_same_version(home):
    words = ["--name", "churn", "--sample", "rows.csv", "--drop", "churned", "--json"]
    again = json.loads(run("register", "churn-1.joblib", *words, cwd=home))
    assert (again["number"], again["created"]) == (1, False)


def test_predictions_of_every_kind_of_rows_agree_with_the_model(home, client):
    expected = trained(0.01).predict(ROWS).tolist()
    assert client.predict("churn", ROWS).label.tolist() == expected
    assert client.predict("churn", ROWS.to_numpy(dtype=float)).label.tolist() == expected
    assert client.predict("churn", ROWS.to_dict("list")).label.tolist() == expected
    assert client.predict("churn", ROWS.to_dict("records")).label.tolist() == expected
    said = run("predict", "churn", "--data", "rows.csv", "--drop", "churned", "--json", cwd=home)
    assert json.loads(said)["outputs"]["label"] == expected
    text = ROWS.to_csv(index=False)
    assert expected[0] in run("predict", "churn", "-", cwd=home, stdin=text)
    assert "leaves" in run("predict", "churn", '{"age": 90, "visits": 8}', cwd=home)


def test_requested_outputs_and_ids_are_honoured(client):
    prediction = client.predict("churn", ROWS[:2], outputs=["probabilities"], request_id="r7")
    assert list(prediction.outputs) == ["probabilities"]
    assert prediction["probabilities"].shape == (2, 2)
    assert (prediction.id, prediction.version) == ("r7", "1")


def test_bad_rows_come_back_as_typed_errors_that_name_the_place(home, client):
    with pytest.raises(InvalidInput) as caught:
        client.predict("churn", ROWS[["age"]])
    assert caught.value.details["column"] == "visits"
    with pytest.raises(InvalidRequest, match="agee"):
        client.predict("churn", {"agee": [1.0], "visits": [1]})
    with pytest.raises(InvalidInput) as caught:
        client.predict("churn", {"age": ["old"], "visits": [1]})
    assert caught.value.details["row"] == 0
    assert "churn" in run("predict", "chrun", '{"age": 1}', cwd=home, code=3)
    assert "visits" in run("predict", "churn", '{"age": 1}', cwd=home, code=4)


def test_deploy_swaps_and_rollback_returns(home, client):
    assert "churn:2" in run("deploy", "churn:2", "--dry-run", cwd=home)
    assert client.endpoint("churn").active == "churn:1"
    run("deploy", "churn:2", cwd=home)
    assert client.predict("churn", ROWS[:1]).version == "2"
    assert {place.version for place in client.where("churn")} == {"churn:1", "churn:2"}
    change = client.rollback("churn")
    assert change.endpoint is not None
    assert change.endpoint.active == "churn:1"
    assert client.predict("churn", ROWS[:1]).version == "1"


def test_show_and_diff_and_status_tell_people_what_is_there(home):
    shown = run("show", "churn:2", cwd=home)
    for part in ("Inputs", "visits", "parity", "Environment", "Baseline profile", "Lineage"):
        assert part in shown
    assert "onnx/model.onnx" in run("diff", "churn:1", "churn:2", cwd=home)
    status = run("status", cwd=home)
    assert "churn:1" in status
    command = status.partition("Try it: ")[2]
    answered = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=30, check=True
    )
    assert json.loads(answered.stdout)["model_name"] == "churn"


def test_every_reading_command_answers_in_json(home):
    for words in (
        ["status"],
        ["models"],
        ["show", "churn:1"],
        ["diff", "churn:1", "churn:2"],
        ["where", "churn"],
        ["get"],
        ["get", "churn"],
        ["logs", "churn"],
    ):
        assert json.loads(run(*words, "--json", cwd=home)) is not None


def test_an_alias_holds_its_version_in_the_registry(home, client):
    assert "churn:2" in run("alias", "churn:2", "keep", "--reason", "test", cwd=home)
    with pytest.raises(VersionInUse, match="keep"):
        client.delete_version("churn:2")
    assert client.show("churn@keep").number == 2
    run("alias", "churn", "keep", "--delete", cwd=home)


def test_apply_makes_what_the_file_says_and_delete_unmakes_it(home, client):
    spec = "name: second\nmodel: churn:2\nlimits: {deadline_ms: 5000}\n"
    (home / "second.yaml").write_text(spec)
    run("apply", "-f", "second.yaml", cwd=home)
    expected = EndpointSpec(
        name="second", environment="dev", model="churn:2", limits=Limits(deadline_ms=5000)
    )
    assert client.endpoint("second").spec == expected
    with pytest.raises(NothingToRollBack):
        client.rollback("second")
    assert "delete" in run("delete", "second", "--dry-run", cwd=home)
    run("delete", "second", "--yes", cwd=home)
    with pytest.raises(EndpointNotFound):
        client.endpoint("second")


def test_a_version_that_cannot_start_fails_the_deploy_and_leaves_the_old_one(home, client):
    (home / "broken").mkdir()
    (home / "broken" / "model.py").write_text(FAILS_IN_A_REPLICA)
    version = client.register(home / "broken", name="broken", sample=ROWS, entry="model:Broken")
    with pytest.raises(DeployFailed, match="churn:1` still serves"):
        client.deploy(str(version), endpoint="churn", placement="process")
    assert client.predict("churn", ROWS[:1]).version == "1"


async def test_the_async_client_does_the_same(home):
    async with AsyncClient(state_dir=home / ".shipway") as client:
        predictions = await asyncio.gather(*(client.predict("churn", ROWS) for _ in range(8)))
        assert {prediction.version for prediction in predictions} == {"1"}
        version = await client.register(home / "churn-1.joblib", name="other", sample=ROWS)
        change = await client.deploy(str(version))
        assert change.endpoint is not None
        assert (await client.predict("other", ROWS[:3])).label.shape == (3,)
        await client.delete("other")


def test_bad_artifacts_are_refused_and_nothing_is_registered(home, client):
    (home / "cut.joblib").write_bytes((home / "churn-1.joblib").read_bytes()[:200])
    for name in ("cut.joblib", "rows.csv", "absent.joblib"):
        run("register", name, "--name", "bad", cwd=home, code=4)
    assert "bad" not in {model.name for model in client.models()}


def test_a_second_server_on_the_directory_or_the_port_is_one_clear_line(home, tmp_path):
    ports = ["--port", "0", "--control-port", "0"]
    assert "Already running" in run("up", *ports, cwd=home, code=5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = run("up", "--detach", "--port", port, "--control-port", "0", cwd=tmp_path, code=5)
    assert port in said
    assert len(said.strip().splitlines()) <= 2


def test_client_without_a_server_says_how_to_start_one(tmp_path):
    with pytest.raises(ServerUnreachable, match="shipway up"):
        Client("http://127.0.0.1:9").models()
