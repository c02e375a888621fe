"""A hundred switches under load, fifty with each placement: none costs a request, and the way back takes less than a second."""

from __future__ import annotations

import time

import pytest

from shipway.cli.demo.traffic import Traffic
from shipway.testing.live import live_server, onnx_bundle

SWITCHES = 50
RATE = 300
TENSOR = '{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1.5]}]}'
AT_ONCE = {
    "stages": [{"strategy": "blue_green", "preview_s": 0, "bake_s": 0}],
    "guards": {"min_requests": 1},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("server")
    with live_server(directory / "state") as server:
        for number, factor in ((1, 2.0), (2, 4.0)):
            onnx_bundle(directory / f"v{number}", factor)
            assert server.register("scale", directory / f"v{number}") == number
        yield server


def target(endpoint):
    expected = {"1": [[3.0]], "2": [[6.0]]}
    return {
        "name": endpoint, "rate": RATE, "output": "y", "bodies": [TENSOR], "expected": expected,
    }  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("placement", ["inline", "process"])
def test_promotions_and_rollbacks_cost_no_request_and_the_way_back_is_short(server, placement):
    name = f"switched-{placement}"
    server.deploy(name, "scale:1", placement=placement)
    assert server.settled(name)["active"] == "scale:1"
    server.until(lambda: server.answers(name, 1.0) == 2.0)
    backs = []
    traffic = Traffic(server.running.gateway_url, server.key, [target(name)])
    try:
        assert traffic.wait_until_sent(name, RATE // 2, timeout_s=20)
        for _ in range(SWITCHES // 2):
            server.deploy(name, "scale:2", rollout=AT_ONCE)
            server.until(lambda: server.answers(name, 1.0) == 4.0)
            server.until(lambda: server.endpoint(name)["active"] == "scale:2")
            began = time.monotonic()
            assert server.control.post(f"/endpoints/{name}/rollback").is_success
            server.until(lambda: server.answers(name, 1.0) == 2.0)
            backs.append(time.monotonic() - began)
    finally:
        traffic.end()
    totals = traffic.totals(name)
    assert (totals.failed, totals.wrong) == (0, 0), totals.errors
    assert totals.versions["1"] > 0
    assert totals.versions["2"] > 0
    # Of twenty-five, the 99th percentile is the longest.
    assert max(backs) < 1.0, sorted(backs)[-5:]
