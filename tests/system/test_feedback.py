"""Ground truth through a whole server: what is posted of half the requests gives the accuracy computed offline."""

import csv
import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from shipway.client.synchronous import Client
from shipway.core.bundles import Feed, Format, OnnxForm, Served
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.testing.bundles import write_bundle
from shipway.testing.live import INHERIT, live_server

REQUESTS = 400
SIGNATURE = Signature(
    layout=Layout.COLUMNS,
    inputs=(Field(name="x", dtype=DataType.FP64),),
    outputs=(Field(name="label", dtype=DataType.INT64),),
)
CAPTURE = {
    "key": {"by": "header", "name": "x-customer"},
    "segment": {"by": "header", "name": "x-country"},
}


def threshold_bundle(directory, threshold):
    """A bundle whose ONNX graph gives `label = x > threshold`."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("Greater", ["x", "threshold"], ["above"]),
            helper.make_node("Cast", ["above"], ["label"], to=TensorProto.INT64),
        ],
        "threshold",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, 1])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, [None, 1])],
        [helper.make_tensor("threshold", TensorProto.DOUBLE, [1], [threshold])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    write_bundle(
        directory,
        files={"model/model.onnx": model.SerializeToString()},
        format=Format.ONNX,
        served=Served.ONNX,
        signature=SIGNATURE,
        environment=INHERIT,
        onnx=OnnxForm(
            path="model/model.onnx",
            feeds=(Feed(graph_input="x", dtype="FP64", columns=("x",)),),
            outputs={"label": "label"},
        ),
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("feedback")
    with live_server(directory / "state") as server:
        threshold_bundle(directory / "bundle", 0.5)
        server.register("churn", directory / "bundle")
        for name, capture in (("churn", CAPTURE), ("silent", None)):
            spec = {"name": name, "model": "churn:1", **({"capture": capture} if capture else {})}
            assert server.control.put(f"/endpoints/{name}", json=spec).status_code == 200
            assert server.settled(name)["phase"] == "live"
        yield server


def asked(server, request_id, x, **headers):
    body = {
        "id": request_id,
        "inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [x]}],
    }
    answer = server.gateway.post("/v2/models/churn/infer", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["outputs"][0]["data"][0]


def test_half_of_the_truth_shuffled_late_and_twice_gives_the_accuracy_computed_offline(server):
    dice = random.Random(11)
    answers = {}
    for n in range(REQUESTS):
        headers = {"x-customer": f"c{n}", "x-country": "de" if n % 2 else "fr"}
        answers[n] = asked(server, f"r{n}", dice.random(), **headers)
    now = datetime.now(UTC)  # noqa: TID251 - after the predictions, by the clock of the server
    truth = {n: answers[n] ^ (dice.random() < 0.25) for n in range(0, REQUESTS, 2)}
    items = []
    for place, (n, label) in enumerate(truth.items()):
        first = label ^ (place % 5 == 0)
        at = now + timedelta(seconds=place)
        about = {"key": f"c{n}"} if place % 3 == 0 else {"request_id": f"r{n}"}
        items += [{**about, "label": first, "id": f"m{place}", "at": at}] * (1 + place % 2)
        if first != label:
            later = at + timedelta(hours=1)
            items.append(
                {"request_id": f"r{n}", "label": bool(label), "id": f"c{place}", "at": later}
            )
    dice.shuffle(items)
    with Client(state_dir=server.state_dir) as client:
        assert client.post_feedback("churn", items) == len(items)
        found = server.until(lambda: measured(client, len(truth)), timeout_s=90)
        right = sum(answers[n] == label for n, label in truth.items())
        assert found.classification.accuracy.value == right / len(truth)
        assert found.unlabelled_share == 0.5
        by_country = client.performance("churn", by="segment")
        assert {(one.part, one.labelled) for one in by_country.parts} == {("fr", 200), ("de", 0)}
        hours = client.performance("churn", by="hour").parts
        assert sum(part.predictions for part in hours) == REQUESTS
        assert client.performance("churn", version=2).slices == ()


def measured(client, labelled):
    slices = client.performance("churn").slices
    done = len(slices) == 1 and (slices[0].predictions, slices[0].labelled) == (REQUESTS, labelled)
    return slices[0] if done else None


def shell(server, *words, code=0):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SHIPWAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "shipway.cli", *words, "--dir", str(server.state_dir)],
        env=environ, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout if code == 0 else done.stderr


def test_the_command_line_sends_one_and_files_and_shows_what_came_of_it(server, tmp_path):
    for n in range(6):
        asked(server, f"s{n}", n / 6, **{"x-customer": f"d{n}"})
    said = shell(
        server,
        "feedback",
        "churn",
        "--request-id",
        "s0",
        "--label",
        "0",
        "--outcome",
        "revenue=2.5",
    )
    assert said == "1 kept.\n"
    table = tmp_path / "truth.csv"
    rows = [["key", "label", "outcome.revenue"], *([f"d{n}", 1, n] for n in (1, 2, 3))]
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    assert (
        shell(server, "feedback", "churn", "--file", str(table), "--dry-run")
        == "3 sound; nothing was sent.\n"
    )
    for _ in range(2):
        assert shell(server, "feedback", "churn", "--file", str(table)) == "3 kept.\n"
    found = server.until(lambda: outcomes(server), timeout_s=60)
    assert found == [{"metric": "revenue", "n": 4, "total": 8.5}]
    shown = shell(server, "performance", "churn", "--svg", str(tmp_path / "chart.svg"))
    assert "ACCURACY" in shown
    assert "revenue" in shown
    assert (tmp_path / "chart.svg").read_text().startswith("<?xml")
    shown = shell(server, "performance", "churn", "--by", "segment")
    assert "SEGMENT" in shown


def outcomes(server):
    found = json.loads(shell(server, "performance", "churn", "--json"))
    listed = found["slices"][0].get("outcomes", [])
    kept = [{name: one[name] for name in ("metric", "n", "total")} for one in listed]
    return kept if kept and kept[0]["n"] == 4 else None


def test_what_cannot_be_is_refused_with_the_next_step(server):
    error = shell(server, "feedback", "silent", "--request-id", "a", "--label", "1", code=5)
    assert "capture" in error
    shell(server, "feedback", "nowhere", "--request-id", "a", "--label", "1", code=3)
    shell(server, "performance", "nowhere", code=3)
    assert "--request-id" in shell(server, "feedback", "churn", code=4)
    assert "No predictions" in shell(server, "performance", "silent")
