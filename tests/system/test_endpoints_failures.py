"""What a whole server does when models are bad, slow, or asked for wrongly."""

from __future__ import annotations

import time

import pytest

from shipway.testing.live import live_server, onnx_bundle, python_bundle

DOUBLE = """
class Model:
    def predict(self, inputs):
        return {"y": inputs["x"] * 2}
"""
HANGS = """
import time
class Model:
    def predict(self, inputs):
        if (inputs["x"] == 99).any():
            time.sleep(600)
        return {"y": inputs["x"] * 2}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("server")
    with live_server(directory / "state") as server:
        onnx_bundle(directory / "onnx", 2.0)
        server.register("scale", directory / "onnx")
        for number, code in (
            (1, DOUBLE),
            (2, "raise RuntimeError('no licence')" + DOUBLE),
            (3, HANGS),
        ):
            python_bundle(directory / f"code{number}", code)
            assert server.register("code", directory / f"code{number}") == number
        yield server


def test_a_model_that_never_loads_fails_its_deployment_with_its_own_words(server):
    server.deploy("loads", "code:1")
    assert server.settled("loads")["phase"] == "live"
    server.deploy("loads", "code:2")
    view = server.settled("loads")
    assert (view["phase"], view["active"], view["target"]) == ("failed", "code:1", "code:2")
    assert "no licence" in view["message"]
    assert server.answers("loads", 4.0) == 8.0
    lines = server.control.get("/endpoints/loads/logs", params={"tail": 500}).json()["lines"]
    assert any("RuntimeError: no licence" in line for line in lines), "the log stays readable"
    actions = [e["action"] for e in server.control.get("/audit?subject=loads").json()]
    assert actions == ["endpoint.fail", "endpoint.deploy", "endpoint.activate", "endpoint.deploy"]


def test_the_first_version_may_fail_too_and_then_be_replaced(server):
    server.deploy("first", "code:2")
    view = server.settled("first")
    assert (view["phase"], view["active"]) == ("failed", None)
    assert server.predict("first", 1.0).status_code == 503
    server.deploy("first", "code:1")
    assert server.settled("first")["phase"] == "live"
    server.until(lambda: server.answers("first", 1.0) == 2.0)


def test_a_model_call_past_its_deadline_costs_the_replica_and_not_the_endpoint(server):
    limits = {"deadline_ms": 500}
    server.deploy("hangs", "code:3", limits=limits)
    assert server.settled("hangs")["phase"] == "live"
    server.until(lambda: server.answers("hangs", 1.0) == 2.0)
    (before,) = server.replicas("hangs", "code:3")
    began = time.monotonic()
    assert server.predict("hangs", 99.0).status_code == 504
    assert time.monotonic() - began < 2.0
    server.until(lambda: server.answers("hangs", 1.0) == 2.0, timeout_s=20)
    (after,) = server.replicas("hangs", "code:3")
    assert after["pid"] != before["pid"]


def test_limits_change_without_a_new_version(server):
    server.deploy("limits", "code:1")
    assert server.settled("limits")["phase"] == "live"
    server.until(lambda: server.answers("limits", 1.0) == 2.0)
    change = server.deploy("limits", "code:1", limits={"max_body_bytes": 60})
    assert change["changes"] == ["limits.max_body_bytes: 16777216 -> 60"]
    server.until(lambda: server.predict("limits", *range(40)).status_code == 413)


def test_scaling_adds_and_removes_replicas(server):
    server.deploy("scaled", "code:1", replicas=2)
    assert server.settled("scaled")["phase"] == "live"
    assert len(server.replicas("scaled", "code:1")) == 2
    change = server.deploy("scaled", "code:1", replicas=1)
    assert change["changes"] == ["replicas: 2 -> 1"]
    server.until(lambda: len(server.replicas("scaled", "code:1")) == 1)
    assert server.answers("scaled", 1.0) == 2.0
    assert server.deploy("scaled", "code:1", replicas=1)["changes"] == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "code:1", "replica": 2}, "Did you mean `replicas`?"),
        ({"model": "code:1", "limits": {"max_que": 2}}, "Did you mean `limits.max_queue`?"),
        ({"model": "code:1", "replicas": 0}, "replicas"),
        ({"model": "code:1", "placement": "inline"}, "cannot run `inline`"),
        ({"model": "code:1", "environment": "production"}, "serves environment `dev`"),
        ({"model": "code:x"}, "version number"),
    ],
)
def test_a_wrong_spec_is_refused_and_named(server, fields, words):
    answer = server.control.post("/endpoints/wrong/deploy", json=fields)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_spec"
    assert words in answer.json()["detail"]
    assert server.control.get("/endpoints/wrong").status_code == 404


def test_an_unknown_version_or_endpoint_is_answered_with_the_nearest_name(server):
    unknown = server.control.post("/endpoints/any/deploy", json={"model": "scale:7"})
    assert unknown.status_code == 404
    assert "`scale:1`" in unknown.json()["detail"]
    misspelt = server.control.post("/endpoints/any/deploy", json={"model": "scael:1"})
    assert "`scale`" in misspelt.json()["detail"]
    server.deploy("loads-of", "scale:1")
    missing = server.control.get("/endpoints/loads-ov")
    assert missing.status_code == 404
    assert "`loads-of`" in missing.json()["detail"]


def test_a_spec_is_applied_whole(server):
    spec = {"name": "applied", "model": "scale:1", "warm_s": 5, "limits": {"max_queue": 9}}
    preview = server.control.put("/endpoints/applied?dry_run=true", json=spec).json()
    assert preview["dry_run"] is True
    assert server.control.put("/endpoints/applied", json=spec).status_code == 200
    view = server.settled("applied")
    assert (view["active"], view["spec"]["limits"]["max_queue"]) == ("scale:1", 9)
    del spec["limits"]
    changes = server.control.put("/endpoints/applied", json=spec).json()["changes"]
    assert changes == ["limits.max_queue: 9 -> 256"]
    other = server.control.put("/endpoints/other", json=spec)
    assert other.status_code == 422


def test_where_and_status_tell_what_runs(server):
    server.deploy("told", "code:1")
    assert server.settled("told")["phase"] == "live"
    places = server.control.get("/models/code/where").json()
    (place,) = [p for p in places if p["endpoint"] == "told"]
    assert (place["version"], place["role"]) == ("code:1", "primary")
    (replica,) = place["replicas"]
    assert replica["state"] == "ready"
    status = server.control.get("/status").json()
    assert status["control_url"] == server.running.control_url
    assert [g["address"] for g in status["gateways"]] == [server.running.gateway_url]
    (told,) = [e for e in status["endpoints"] if e["name"] == "told"]
    assert told["url"] == f"{server.running.gateway_url}/v2/models/told/infer"
    (variant,) = told["variants"]
    assert (variant["weight_pct"], variant["ready"], variant["placement"]) == (100, True, "process")


def test_a_version_that_serves_cannot_be_deleted(server):
    server.deploy("kept", "scale:1")
    assert server.settled("kept")["phase"] == "live"
    answer = server.control.delete("/models/scale/versions/1")
    assert answer.status_code == 409
    assert answer.json()["code"] == "version_in_use"
