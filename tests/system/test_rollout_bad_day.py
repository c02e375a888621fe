"""Rollouts on a bad day: control killed again and again, gateways that come and go, callers that return."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import httpx
import pytest

from shipway.cli.demo.traffic import Traffic
from shipway.testing.live import live_server, onnx_bundle, python_bundle

RATE = 300
TENSOR = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.5]}
BODY = json.dumps({"inputs": [TENSOR]})
HANGING = """
import threading
class Model:
    def predict(self, inputs):
        threading.Event().wait()
"""
USERS = [f"user-{number}" for number in range(200)]
STICKY = {"by": "header", "name": "x-user"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("server")
    with live_server(directory / "state") as server:
        for number, factor in ((1, 2.0), (2, 2.0000001), (3, 2.0000002)):
            onnx_bundle(directory / f"v{number}", factor)
            assert server.register("scale", directory / f"v{number}") == number
        python_bundle(directory / "v4", HANGING)
        assert server.register("scale", directory / "v4") == 4
        yield server


@contextmanager
def load(server, endpoint):
    right = {str(number): [[3.0]] for number in (1, 2, 3, 4)}
    target = {
        "name": endpoint, "rate": RATE, "output": "y", "bodies": [BODY], "expected": right,
    }  # fmt: skip
    traffic = Traffic(server.running.gateway_url, server.key, [target])
    try:
        assert traffic.wait_until_sent(endpoint, RATE // 2, timeout_s=20)
        yield traffic
    finally:
        traffic.end()


def deployed(server, endpoint, model="scale:1", **fields):
    server.deploy(endpoint, model, **fields)
    assert server.settled(endpoint)["active"] == model
    server.until(lambda: server.predict(endpoint, 1.5).is_success)


def rollout(server, endpoint):
    """The rollout's view; None while control is away."""
    with suppress(httpx.HTTPError, ValueError):
        answer = server.control.get(f"/endpoints/{endpoint}/rollout")
        return answer.json() if answer.is_success else None
    return None


def pid_of(server, role):
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads((server.state_dir / "run" / f"{role}.json").read_text())["pid"])
    return None


def test_a_rollout_goes_on_where_it_was_when_control_is_killed_again_and_again(server):
    deployed(server, "survivor")
    stage = {"strategy": "canary", "steps": [20, 50], "hold_s": 20}
    with load(server, "survivor") as traffic:
        server.deploy("survivor", "scale:2", rollout={"stages": [stage]})
        kills, phases, deadline = 0, [], time.monotonic() + 240
        while time.monotonic() < deadline:
            view = rollout(server, "survivor")
            if view is not None:
                phases.append((view["phase"], view["step"]))
                if view["ended_at"] is not None:
                    break
            pid = pid_of(server, "control")
            if kills < 5 and pid is not None and view is not None:
                # At another point of its work each time.
                time.sleep(0.3 + 0.37 * kills)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
            time.sleep(0.05)
        totals = traffic.totals("survivor")
    assert kills == 5
    assert view["phase"] == "promoted", phases
    assert server.endpoint("survivor")["active"] == "scale:2"
    assert (totals.failed, totals.wrong) == (0, 0), totals.errors
    events = [moment["event"] for moment in view["history"]]
    assert events == ["ready", "advance", "finish"]


def versions_of(client, endpoint):
    """Which version each user gets."""
    found = {}
    for user in USERS:
        answer = client.post(f"/v2/models/{endpoint}/infer", content=BODY, headers={"x-user": user})
        assert answer.is_success, answer.text
        found[user] = answer.json()["model_version"]
    return found


@contextmanager
def second_gateway(server):
    command = [
        sys.executable, "-m", "shipway.gateway", "--state-dir", str(server.state_dir),
        "--control-url", server.running.control_url, "--port", "0", "--grpc-port", "0",
        "--id", "second",
    ]  # fmt: skip
    process = subprocess.Popen(command)
    record = server.state_dir / "run" / "second.json"
    try:
        server.until(record.exists)
        url = json.loads(record.read_text())["url"]
        with httpx.Client(base_url=url, timeout=20, headers=server.headers) as client:
            yield client
    finally:
        process.terminate()
        process.wait(20)


def test_a_caller_keeps_their_version_through_restarts_gateways_and_growing_weights(server):
    deployed(server, "sticky")
    steps = [{"weight_pct": weight, "pause": True} for weight in (20, 60)]
    stage = {"strategy": "canary", "steps": steps, "hold_s": 0, "sticky": STICKY}
    guards = {"min_requests": 1, "shift": None, "latency": None}
    server.deploy("sticky", "scale:2", rollout={"stages": [stage], "guards": guards})
    server.until(lambda: server.endpoint("sticky")["phase"] == "releasing")
    server.until(lambda: "2" in versions_of(server.gateway, "sticky").values())
    first = versions_of(server.gateway, "sticky")
    chosen = {user for user, version in first.items() if version == "2"}
    assert 20 < len(chosen) < 60
    assert versions_of(server.gateway, "sticky") == first
    with second_gateway(server) as other:
        server.until(lambda: is_ready(other))
        assert versions_of(other, "sticky") == first
    restart_gateway(server)
    assert versions_of(server.gateway, "sticky") == first
    server.until(lambda: rollout(server, "sticky")["phase"] == "paused")
    assert server.control.post("/endpoints/sticky/rollout/resume", json={}).is_success
    server.until(lambda: rollout(server, "sticky")["candidate"]["weight_pct"] == 60)
    server.until(lambda: sum(v == "2" for v in versions_of(server.gateway, "sticky").values()) > 90)
    grown = {u for u, v in versions_of(server.gateway, "sticky").items() if v == "2"}
    assert chosen <= grown
    assert 90 < len(grown) < 150
    server.control.post("/endpoints/sticky/rollout/abort", json={})
    server.until(lambda: set(versions_of(server.gateway, "sticky").values()) == {"1"})


def is_ready(gateway):
    with suppress(httpx.HTTPError):
        return gateway.get("/v2/models/sticky/ready").is_success
    return False


def gateway_pids(server):
    records = (server.state_dir / "run").glob("gateway-*.json")
    return {json.loads(record.read_text())["pid"] for record in records}


def restart_gateway(server):
    (killed,) = gateway_pids(server)
    os.kill(killed, signal.SIGKILL)
    server.until(lambda: gateway_pids(server) - {killed})

    def answers():
        with suppress(httpx.HTTPError):
            return server.predict("sticky", 1.5).is_success
        return False

    server.until(answers)


@pytest.mark.parametrize("strategy", ["shadow", "canary"])
def test_a_candidate_that_hangs_fails_no_caller(server, strategy):
    name = f"hanging-{strategy}"
    deployed(server, name, limits={"deadline_ms": 4000})
    stage = {
        "shadow": {"strategy": "shadow", "hold_s": 3},
        "canary": {"strategy": "canary", "steps": [50], "hold_s": 3},
    }[strategy]
    with load(server, name) as traffic:
        server.deploy(name, "scale:4", rollout={"stages": [stage]})
        server.until(lambda: (rollout(server, name) or {}).get("ended_at"), timeout_s=90)
        totals = traffic.totals(name)
    assert rollout(server, name)["phase"] in ("rolled_back", "failed")
    assert (totals.failed, totals.wrong) == (0, 0), totals.errors
    assert server.endpoint(name)["active"] == "scale:1"
