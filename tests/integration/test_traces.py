"""Traces and logs of a real gateway and a real replica, told to a stand-in for a collector."""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import httpx
import msgspec
import pytest
import tritonclient.grpc as triton

from shipway.core.bundles import ModelConfig, Served
from shipway.core.endpoints import Limits
from shipway.testing.collector import collecting
from shipway.testing.live import SIGNATURE, onnx_bundle, python_bundle
from shipway.wire.snapshot import OPEN, ReplicaAddress, Route, Snapshot, Variant

REPLICA = Path(__import__("shipway.replica", fromlist=["x"]).__file__).parent / "__main__.py"
CODE = """
import time

class Model:
    def predict(self, inputs):
        x = inputs["x"]
        if (x == 13).any():
            raise ValueError("it is unlucky")
        if (x == 50).any():
            time.sleep(0.4)
        return {"y": x * 2}
"""
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CALLER}-01"
STAGES = {"authenticate", "admit", "route", "decode", "validate", "encode"}


def body(*values):
    return {"inputs": [{"name": "x", "shape": [len(values)], "datatype": "FP64", "data": values}]}


class World:
    """A gateway, with a replica of `code` and the model `data` in itself."""

    def __init__(self, directory, environment):
        self.directory = directory
        self.environment = {**os.environ, **environment}
        self.processes = []
        address = f"unix:{directory}/r.sock"
        code = python_bundle(directory / "code", CODE)
        data = onnx_bundle(directory / "data", 3.0)
        command = f"--digest {code.digest} --address {address} --id r7 --bundle {directory}/code"
        self.start("replica", [sys.executable, str(REPLICA), *command.split()])
        replicas = (ReplicaAddress(id="r7", address=address),)
        snapshot = Snapshot.of(
            (self.route("code", code, replicas), self.route("data", data, ())), OPEN
        )
        (directory / "snapshot.json").write_bytes(msgspec.json.encode(snapshot))
        options = f"--state-dir {directory} --control-url http://127.0.0.1:9 --port 0 --id g"
        self.start("gateway", [sys.executable, "-m", "shipway.gateway", *options.split()])
        record = directory / "run" / "g.json"
        until(record.exists)
        self.where = json.loads(record.read_text())
        self.client = httpx.Client(base_url=self.where["url"], timeout=20)
        until(lambda: all(self.is_ready(name) for name in ("code", "data")))

    def route(self, name, manifest, replicas):
        variant = Variant(
            model=name, version=1, digest=manifest.digest, weight_pct=100, inline=not replicas,
            bundle_dir=str(self.directory / name), config=ModelConfig(), signature=SIGNATURE,
            served=Served.ORIGINAL if replicas else Served.ONNX, replicas=replicas,
        )  # fmt: skip
        return Route(name=name, limits=Limits(), variants=(variant,))

    def start(self, name, command):
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)
            )

    def is_ready(self, name):
        with suppress(httpx.HTTPError):
            return self.client.get(f"/v2/models/{name}/ready").status_code == 200
        return False

    def infer(self, name, *values, **headers):
        told = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.client.post(f"/v2/models/{name}/infer", json=body(*values), headers=told)

    def log(self, name):
        return (self.directory / f"{name}.log").read_text()

    def lines(self, name="gateway"):
        return [json.loads(line) for line in self.log(name).splitlines()]

    def metric(self, name):
        page = self.client.get("/metrics").text
        return [line.split()[-1] for line in page.splitlines() if line.startswith(f"{name} ")]

    def end(self):
        self.client.close()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(20)


def until(claim, within_s=30.0):
    end = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < end, f"{claim} did not become true in {within_s} s"
        time.sleep(0.02)


@contextmanager
def world(**environment):
    with tempfile.TemporaryDirectory(prefix="shipway-traces-") as name:
        made = World(Path(name), environment)
        try:
            yield made
        finally:
            made.end()


@pytest.fixture(scope="module")
def collector():
    with collecting() as made:
        yield made


@pytest.fixture(scope="module")
def traced(collector):
    """All requests are traced, and logs are JSON."""
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-collector-key=a%20key",
        "SHIPWAY_TRACE_SHARE": "1",
        "SHIPWAY_LOG_FORMAT": "json",
        "SHIPWAY_ACCESS_LOG": "true",
    }
    with world(**environment) as made:
        yield made


def trace_of(collector, request_id):
    """The spans of the request with that id, by name."""

    def whole():
        found = [s for s in collector.named("request") if id_of(s) == request_id]
        return found and collector.trace(found[0].trace)

    until(whole)
    return {span.name: span for span in whole()}


def id_of(span):
    return span.attributes.get("shipway.request_id")


def test_spans_nest_from_the_caller_over_the_gateway_to_the_replica(traced, collector):
    answer = traced.infer("code", 50.0, traceparent=PARENT, tracestate="a=1,b=2", x_request_id="n1")
    assert answer.status_code == 200
    spans = trace_of(collector, "n1")
    request, infer = spans["request"], spans["infer"]
    assert spans.keys() == STAGES | {"request", "infer", "queue", "run"}
    assert {span.trace for span in spans.values()} == {TRACE}
    assert (request.parent, request.state) == (CALLER, "a=1,b=2")
    assert {spans[name].parent for name in (*STAGES, "infer")} == {request.id}
    assert spans["queue"].parent == spans["run"].parent == infer.id
    assert len({span.id for span in spans.values()}) == len(spans)
    assert (request.kind, infer.kind, spans["run"].kind) == (2, 3, 2)
    replica = {(spans[name].service, spans[name].instance) for name in ("queue", "run")}
    assert replica == {("shipway-replica", "r7")}
    assert (request.service, request.instance) == ("shipway-gateway", "g")


def test_stages_follow_each_other_and_lie_inside_their_parents(traced, collector):
    began = time.time_ns()
    traced.infer("code", 50.0, x_request_id="n2")
    spans = trace_of(collector, "n2")
    order = ["authenticate", "admit", "route", "decode", "validate", "infer", "encode"]
    for before, after in pairwise(order):
        assert spans[before].end_ns <= spans[after].start_ns, (before, after)
    inside = [("request", name) for name in order] + [("infer", "queue"), ("infer", "run")]
    for outer, inner in inside:
        assert spans[outer].start_ns <= spans[inner].start_ns <= spans[inner].end_ns
        assert spans[inner].end_ns <= spans[outer].end_ns, (outer, inner)
    assert spans["run"].end_ns - spans["run"].start_ns >= 0.4e9
    assert began <= spans["request"].start_ns <= time.time_ns()


def test_request_says_what_was_asked_in_the_terms_of_the_conventions(traced, collector):
    traced.infer("data", 1.0, x_request_id="n3")
    spans = trace_of(collector, "n3")
    assert spans["request"].attributes == {
        "http.request.method": "POST",
        "url.path": "/v2/models/data/infer",
        "http.response.status_code": 200,
        "shipway.endpoint": "data",
        "shipway.version": "1",
        "shipway.role": "primary",
        "shipway.request_id": "n3",
    }
    assert "run" not in spans  # the model is in the gateway
    assert spans["infer"].kind == 1


def test_grpc_carries_the_callers_trace_in_its_metadata(traced, collector):
    client = triton.InferenceServerClient(traced.where["grpc"])
    asked = triton.InferInput("x", [1], "FP64")
    asked.set_data_from_numpy(__import__("numpy").array([1.0]))
    trace = "a" * 32
    headers = {"traceparent": f"00-{trace}-{CALLER}-01", "x-request-id": "n4"}
    client.infer("code", [asked], headers=headers)
    client.close()
    spans = trace_of(collector, "n4")
    assert {span.trace for span in spans.values()} == {trace}
    assert spans["request"].parent == CALLER
    assert spans["run"].parent == spans["infer"].id
    said = spans["request"].attributes
    assert said["rpc.service"] == "inference.GRPCInferenceService"
    assert (said["rpc.system"], said["rpc.method"]) == ("grpc", "ModelInfer")


@pytest.mark.parametrize(
    "given", ["", "00-1-2-01", PARENT.upper(), PARENT + "-00", f"{PARENT}, {PARENT}"]
)
def test_malformed_parent_begins_a_new_trace(traced, collector, given):
    request_id = f"bad{abs(hash(given))}"
    traced.infer("data", 1.0, traceparent=given, tracestate="a=1", x_request_id=request_id)
    request = trace_of(collector, request_id)["request"]
    assert request.trace != TRACE
    assert (request.parent, request.state) == ("", "")


def test_failure_is_marked_where_it_happened_and_found_in_both_logs(traced, collector):
    answer = traced.infer("code", 13.0, traceparent=PARENT.replace("4bf9", "beef"))
    assert answer.status_code == 500
    request_id = answer.headers["x-request-id"]
    spans = trace_of(collector, request_id)
    for name in ("request", "infer", "run"):
        assert spans[name].error == "model_failed", name
    assert spans["request"].attributes["error.type"] == "model_failed"
    assert not any(spans[name].error for name in ("decode", "validate", "queue"))
    (failed,) = [one for one in traced.lines() if one["logger"] == "shipway.engines.failures"
                 and one["request_id"] == request_id]  # fmt: skip
    assert (failed["level"], failed["status"]) == ("ERROR", 500)
    (incident,) = [line for line in traced.lines("replica") if "unlucky" in line["message"]]
    assert incident["trace_id"] == spans["request"].trace
    assert answer.json()["error"].split("`")[1] in incident["message"]
    assert spans["request"].attributes["shipway.incident"] in incident["message"]


def test_callers_mistake_is_no_failure_of_ours(traced, collector):
    answer = traced.infer("code", "no number", x_request_id="n5")
    assert 400 <= answer.status_code < 500
    spans = trace_of(collector, "n5")
    assert spans["request"].error == ""
    assert spans["request"].attributes["error.type"] == "invalid_input"
    assert "infer" not in spans


def test_every_line_is_json_and_the_access_log_names_request_and_trace(traced, collector):
    traced.infer("data", 2.0, traceparent=PARENT, x_request_id='n6\u202e" {\\'.encode())
    until(lambda: any("n6" in line.get("request_id", "") for line in traced.lines()))
    (line,) = [line for line in traced.lines() if "n6" in line.get("request_id", "")]
    assert {"time", "level", "logger", "message"} <= line.keys()
    assert line["logger"] == "shipway.access"
    assert (line["endpoint"], line["version"], line["status"]) == ("data", "1", 200)
    assert line["trace_id"] == TRACE
    assert line["duration_ms"] > 0
    assert line["request_id"] == 'n6\\u202e" {\\'
    assert "\u202e" not in traced.log("gateway")


def test_collector_is_told_the_log_lines_too_with_its_key(traced, collector):
    traced.infer("data", 2.0, traceparent=PARENT, x_request_id="n7")
    until(lambda: any(x.attributes.get("shipway.request_id") == "n7" for x in collector.lines))
    (line,) = [x for x in collector.lines if x.attributes.get("shipway.request_id") == "n7"]
    assert (line.service, line.level, line.trace) == ("shipway-gateway", "INFO", TRACE)
    assert {one["x-collector-key"] for one in collector.headers} == {"a key"}
    assert "a key" not in traced.log("gateway")


def test_without_a_share_the_failed_and_the_sampled_are_kept_and_no_others():
    environment = {"SHIPWAY_TRACE_SHARE": "0", "SHIPWAY_LOG_FORMAT": "json"}
    with collecting() as own:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = own.url
        with world(**environment) as made:
            for number in range(20):
                made.infer("code", 1.0, x_request_id=f"fine{number}")
            made.infer("code", 13.0, x_request_id="failed")
            made.infer("code", 1.0, x_request_id="sampled", traceparent=PARENT)
            made.infer("code", 1.0, x_request_id="not", traceparent=f"{PARENT[:-2]}00")
            own.until_named("request", count=2)
            incidents = [one for one in made.lines("replica") if "unlucky" in one["message"]]
        # It has ended, and so sent everything that it kept.
        assert {id_of(span) for span in own.named("request")} == {"failed", "sampled"}
        assert own.named("run")
        (failed,) = [span for span in own.named("request") if id_of(span) == "failed"]
        lines = [x for x in own.lines if x.attributes["logger"] == "shipway.engines.failures"]
        assert [line.trace for line in lines] == [failed.trace]
        assert [incident["trace_id"] for incident in incidents] == [failed.trace]


def test_slow_requests_are_kept_of_many_fast_ones():
    with collecting() as own:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": own.url, "SHIPWAY_TRACE_SHARE": "0"}
        with world(**environment) as made:
            for number in range(260):
                made.infer("code", 1.0, x_request_id=f"fast{number}")
            made.infer("code", 50.0, x_request_id="slow")
        kept = {id_of(span) for span in own.named("request")}
        assert "slow" in kept
        assert len(kept) < 40


@pytest.mark.parametrize("fault", ["down", "hanging", "refusing"])
def test_collector_that_is_away_costs_callers_nothing_and_is_counted(fault):
    with collecting() as own:
        own.hangs, own.status = fault == "hanging", 400 if fault == "refusing" else 200
        url = "http://127.0.0.1:9" if fault == "down" else own.url
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1000",
            "SHIPWAY_TRACE_SHARE": "1",
        }
        with world(**environment) as made:
            took = []
            for _ in range(200):
                began = time.perf_counter()
                assert made.infer("data", 1.0).status_code == 200
                took.append(time.perf_counter() - began)
            assert sorted(took)[100] < 0.3, "requests waited for the collector, who has a second"
            until(lambda: float(made.metric("shipway_telemetry_dropped_total")[0]) > 0)
            assert made.log("gateway").count("takes nothing now") == 1


def test_without_a_collector_nothing_is_traced_and_failures_are_still_logged():
    with world() as made:
        assert "x-request-id" not in made.infer("code", 1.0, traceparent=PARENT).headers
        answer = made.infer("code", 13.0, x_request_id="mine")
        assert answer.headers["x-request-id"] == "mine"
        assert "POST /v2/models/code/infer failed (500)" in made.log("gateway")
        assert made.metric("shipway_telemetry_dropped_total") == ["0"]
