"""Every strategy under load: a good candidate is promoted, each kind of bad one is rolled back.

In no case may a request fail that the primary would have answered.
"""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager

import msgspec
import pytest

from shipway.cli.demo.traffic import Traffic
from shipway.core.bundles import Format
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.testing.bundles import write_bundle
from shipway.testing.live import INHERIT, live_server, onnx_bundle, python_bundle

RATE = 300
XS = [round(random.Random(7).uniform(0.5, 10.0), 3) for _ in range(64)]

CODE = """
import os, random, threading, time
import numpy as np

class Model:
    def __init__(self):
        {start}

    def predict(self, inputs):
        x = inputs["x"]
        {body}
"""


def code(body: str, start: str = "pass") -> str:
    return CODE.format(body=body, start=start)


BAD = {
    "slow": code("time.sleep(0.06); return {'y': x * 2.0}"),
    "failing": code(
        "if random.random() < 0.3: raise RuntimeError('no luck')\n        return {'y': x * 2.0}"
    ),
    "shifted": code("return {'y': x * 2.0 + 6.0}"),
    "wrong-output": code("return {'y': np.array(['much'] * len(x), dtype=object)}"),
    "wrong-input": code("return {'y': x * 2.0}"),
    "crashing": code("return {'y': x * 2.0}", start="threading.Timer(30.0, os._exit, [1]).start()"),
}
"""What is wrong with a candidate, by its code."""

GUARD_OF = {
    "slow": {"latency"},
    "failing": {"error_rate"},
    "shifted": {"shift", "disagreement"},
    "wrong-output": {"error_rate", "disagreement"},
    "wrong-input": {"rejections"},
    "crashing": {"crashes", "error_rate", "ready"},
}
GUARDS = {"latency": {"max_ratio": 1.5, "max_ms": 40}, "crashes": {"max_exits": 0}}
UNTIMED = {**GUARDS, "latency": None}
"""For four candidates at once, whose latency is that of a machine which is too small for them."""
STAGES = {
    "canary": {"strategy": "canary", "steps": [20, 50], "hold_s": 1},
    "blue_green": {"strategy": "blue_green", "preview_s": 3, "bake_s": 3},
    "shadow": {"strategy": "shadow", "hold_s": 2},
    "ab": {"strategy": "ab", "metric": "sold", "min_samples": 100},
}
LONG = {
    "canary": {"strategy": "canary", "steps": [30], "hold_s": 45},
    "blue_green": {"strategy": "blue_green", "preview_s": 0, "bake_s": 45},
    "shadow": {"strategy": "shadow", "hold_s": 45},
    "ab": {"strategy": "ab", "metric": "sold", "min_samples": 10**9},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("server")
    with live_server(directory / "state") as server:
        onnx_bundle(directory / "v1", 2.0)
        assert server.register("double", directory / "v1") == 1
        onnx_bundle(directory / "v2", 2.0000001)
        assert server.register("double", directory / "v2") == 2
        server.numbers = {"good": 2}
        for name, text in BAD.items():
            make = whole_numbers_bundle if name == "wrong-input" else python_bundle
            make(directory / name, text)
            server.numbers[name] = server.register("double", directory / name)
        yield server


def whole_numbers_bundle(directory, text):
    """A bundle of that code, whose input takes whole numbers alone."""
    write_bundle(
        directory,
        files={"model/model.py": text.encode()},
        artifact="model",
        format=Format.PYTHON,
        options={"class": "model:Model"},
        signature=Signature(
            layout=Layout.COLUMNS,
            inputs=(Field(name="x", dtype=DataType.INT64),),
            outputs=(Field(name="y", dtype=DataType.FP64),),
        ),
        environment=INHERIT,
    )


def body(x: float) -> str:
    tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [x]}
    return msgspec.json.encode({"inputs": [tensor]}).decode()


def target(server, endpoint):
    shifted = str(server.numbers["shifted"])
    right = [[2.0 * x] for x in XS]
    expected = {str(number): right for number in server.numbers.values()}
    expected["1"] = right
    expected[shifted] = [[2.0 * x + 6.0] for x in XS]
    bodies = [body(x) for x in XS]
    return {"name": endpoint, "rate": RATE, "output": "y", "bodies": bodies, "expected": expected}


class Buyers(threading.Thread):
    """Posts an outcome for each answer: who got the candidate buys more often, or less often."""

    def __init__(self, server, traffic, endpoint, *, gain):
        super().__init__(daemon=True)
        self._server, self._traffic, self._endpoint = server, traffic, endpoint
        self._gain = gain
        self._random = random.Random(3)
        self._ending = threading.Event()

    def run(self):
        done: dict[str, int] = {}
        while not self._ending.wait(0.3):
            outcomes = []
            for version, count in self._traffic.totals(self._endpoint).versions.items():
                share = 0.3 if version == "1" else 0.3 + self._gain
                outcomes += [
                    {
                        "metric": "sold",
                        "version": version,
                        "value": float(self._random.random() < share),
                    }
                    for _ in range(count - done.get(version, 0))
                ]
                done[version] = count
            path = f"/endpoints/{self._endpoint}/rollout/outcomes"
            for at in range(0, len(outcomes), 5000):
                self._server.control.post(path, json=outcomes[at : at + 5000])

    def end(self):
        self._ending.set()
        self.join()


@contextmanager
def load(server, *endpoints):
    traffic = Traffic(
        server.running.gateway_url, server.key, [target(server, name) for name in endpoints]
    )
    try:
        for name in endpoints:
            assert traffic.wait_until_sent(name, RATE // 2, timeout_s=20.0)
        yield traffic
    finally:
        traffic.end()


def begun(server, endpoint, number, stage, guards=GUARDS):
    server.deploy(endpoint, "double:1", warm_s=5)
    assert server.settled(endpoint)["active"] == "double:1"
    rollout = {"stages": [stage], "guards": guards}
    change = server.deploy(endpoint, f"double:{number}", rollout=rollout)
    assert change["endpoint"]["phase"] == "starting", change


def ended(server, endpoint, *, timeout_s=60.0):
    path = f"/endpoints/{endpoint}/rollout"
    server.until(
        lambda: server.control.get(path).json()["ended_at"] is not None, timeout_s=timeout_s
    )
    return server.control.get(path).json()


def rolled_out(server, endpoint, name, stage, *, gain=0.0):
    """The rollout of that candidate under load once it has ended, and the load's totals."""
    server.deploy(endpoint, "double:1", warm_s=5)
    assert server.settled(endpoint)["active"] == "double:1"
    with load(server, endpoint) as traffic:
        buyers = Buyers(server, traffic, endpoint, gain=gain)
        if stage["strategy"] == "ab":
            buyers.start()
        begun(server, endpoint, server.numbers[name], stage)
        rollout = ended(server, endpoint)
        if buyers.is_alive():
            buyers.end()
        sent = traffic.totals(endpoint).sent
        traffic.wait_until_sent(endpoint, sent + RATE, timeout_s=20.0)
    return rollout, traffic.totals(endpoint)


@pytest.mark.parametrize("strategy", STAGES)
def test_a_good_candidate_is_promoted_without_one_failed_request(server, strategy):
    name = f"good-{strategy}"
    rollout, totals = rolled_out(server, name, "good", STAGES[strategy], gain=0.2)
    assert rollout["phase"] == "promoted", rollout
    assert server.endpoint(name)["active"] == "double:2"
    assert (totals.failed, totals.wrong) == (0, 0), totals.errors
    assert set(totals.versions) <= {"1", "2"}


@pytest.mark.parametrize("fault", [name for name in BAD if name != "crashing"])
@pytest.mark.parametrize("strategy", STAGES)
def test_a_bad_candidate_is_rolled_back_without_one_failed_request(server, strategy, fault):
    name = f"{fault}-{strategy}"
    rollout, totals = rolled_out(server, name, fault, STAGES[strategy])
    assert rollout["phase"] == "rolled_back", rollout
    failed = {one["guard"] for one in rollout["findings"] if one["verdict"] == "fail"}
    assert failed & GUARD_OF[fault], rollout["findings"]
    assert server.endpoint(name)["active"] == "double:1"
    assert (totals.failed, totals.wrong) == (0, 0), totals.errors


def test_an_ab_test_rolls_back_what_sells_less(server):
    rollout, totals = rolled_out(server, "sells-less", "good", STAGES["ab"], gain=-0.2)
    assert rollout["phase"] == "rolled_back", rollout
    assert "ab" in {one["guard"] for one in rollout["findings"] if one["verdict"] == "fail"}
    assert (totals.failed, totals.wrong) == (0, 0)


def test_a_candidate_that_crashes_after_half_a_minute_is_rolled_back_by_every_strategy(server):
    endpoints = {f"crashing-{strategy}": stage for strategy, stage in LONG.items()}
    for endpoint in endpoints:
        server.deploy(endpoint, "double:1", warm_s=5)
        assert server.settled(endpoint)["active"] == "double:1"
    with load(server, *endpoints) as traffic:
        for endpoint, stage in endpoints.items():
            begun(server, endpoint, server.numbers["crashing"], stage, UNTIMED)
        ends = {endpoint: ended(server, endpoint, timeout_s=90) for endpoint in endpoints}
    for endpoint, rollout in ends.items():
        assert rollout["phase"] == "rolled_back", rollout
        failed = {one["guard"] for one in rollout["findings"] if one["verdict"] == "fail"}
        assert failed & GUARD_OF["crashing"], rollout["findings"]
        totals = traffic.totals(endpoint)
        assert (totals.failed, totals.wrong) == (0, 0), totals.errors
