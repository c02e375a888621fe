"""A whole server that tells a collector: one trace over processes, and logs that parse."""

import json

import pytest

from shipway.testing.collector import collecting
from shipway.testing.live import live_server, python_bundle

CODE = """
class Model:
    def predict(self, inputs):
        if (inputs["x"] == 13).any():
            raise ValueError("it is unlucky")
        return {"y": inputs["x"] * 2}
"""
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01", "x-request-id": "mine"}
PATH = "/v2/models/double/infer"


def body(value):
    return {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [value]}]}


@pytest.fixture(scope="module")
def collector():
    with collecting() as made:
        yield made


@pytest.fixture(scope="module")
def server(collector, tmp_path_factory):
    directory = tmp_path_factory.mktemp("traces")
    python_bundle(directory / "bundle", CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with live_server(directory / "state", trace_share=1.0, log_format="json") as made:
            made.register("double", directory / "bundle")
            made.deploy("double", "double:1")
            assert made.settled("double")["phase"] == "live"
            made.until(lambda: made.answers("double", 1.0) == 2.0)
            yield made


def logs_of(server, pattern):
    lines = []
    for path in server.state_dir.joinpath("logs").glob(pattern):
        lines += path.read_text().splitlines()
    return lines


def test_one_trace_goes_from_the_caller_into_the_replica(server, collector):
    assert server.gateway.post(PATH, json=body(3.0), headers=HEADERS).is_success
    server.until(lambda: any(span.name == "run" for span in collector.trace(TRACE)))
    spans = {span.name: span for span in collector.trace(TRACE)}
    (replica,) = server.replicas("double", "double:1")
    assert spans["request"].parent == CALLER
    assert spans["infer"].parent == spans["request"].id
    assert spans["run"].parent == spans["infer"].id
    assert (spans["run"].service, spans["run"].instance) == ("shipway-replica", replica["id"])


def test_controls_requests_have_spans_by_their_route(server, collector):
    trace = "c" * 32
    headers = {"traceparent": f"00-{trace}-{CALLER}-01"}
    server.control.get("/endpoints/double", headers=headers)
    server.until(lambda: collector.trace(trace))
    (span,) = collector.trace(trace)
    assert span.service == "shipway-control"
    assert span.name == "GET /api/v1/endpoints/{name}"
    assert span.attributes["http.response.status_code"] == 200
    assert not any("/internal/" in s.attributes.get("url.path", "") for s in collector.spans)


def test_lines_of_all_processes_parse_and_a_failure_is_found_by_its_id(server, collector):
    answer = server.gateway.post(PATH, json=body(13.0), headers=HEADERS)
    assert answer.status_code == 500
    lines = [json.loads(line) for line in logs_of(server, "**/*.log")]
    assert lines
    failed = [line for line in lines if line.get("request_id") == "mine"]
    assert [line["logger"] for line in failed] == ["shipway.engines.failures"]
    incident = answer.json()["error"].split("`")[1]
    (raised,) = [
        line for line in lines if incident in line.get("message", "") and line not in failed
    ]
    assert raised["trace_id"] == TRACE
    assert "it is unlucky" in raised["message"]
    assert failed[0]["trace_id"] == TRACE
    server.until(
        lambda: "mine" in {x.attributes.get("shipway.request_id") for x in collector.lines}
    )
    told = [x for x in collector.lines if x.attributes.get("shipway.request_id") == "mine"]
    assert [line.trace for line in told] == [TRACE]
