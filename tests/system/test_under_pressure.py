"""Short runs of the benchmarks that hold the claims about pressure, with generous margins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shipway.testing.live import live_server, onnx_bundle

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def claims_hold(script, *options):
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *options],
        capture_output=True, text=True, timeout=150, check=False, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_twice_the_capacity_leaves_the_accepted_in_time_and_the_rest_refused():
    claims_hold(
        "overload.py",
        *("--seconds", "6", "--replicas", "2", "--work-ms", "10", "--deadline-ms", "1000"),
        *("--at-once-ms", "500", "--throughput", "0.7"),
    )


def test_killed_replicas_and_a_killed_gateway_cost_no_answer_that_could_be_saved():
    claims_hold(
        "soak.py",
        *("--seconds", "18", "--kill-every", "4", "--rate", "100", "--growth-mb", "40"),
    )


@pytest.mark.parametrize(
    ("fallback", "words"),
    [
        ({"endpoint": "gone"}, "does not exist"),
        ({"version": 9}, "9"),
        ({"answer": {"z": [1]}}, "the model gives `y`"),
        ({"answer": {"y": [1, 2]}}, "not one row"),
    ],
)
def test_fallback_that_could_not_answer_is_refused_when_it_is_declared(server, fallback, words):
    answer = server.deploy("scale", "scale", fallback=fallback)
    assert words in answer["detail"], answer


def test_fallback_declared_for_an_endpoint_reaches_its_gateways(server):
    server.deploy("scale", "scale", fallback={"answer": {"y": [7]}})
    assert server.settled("scale")["phase"] == "live"
    assert server.endpoint("scale")["spec"]["fallback"]["answer"] == {"y": [7]}
    assert server.answers("scale", 2) == 6


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pressure")
    onnx_bundle(directory / "bundle", 3)
    with live_server(directory / "state") as made:
        made.register("scale", directory / "bundle")
        yield made
