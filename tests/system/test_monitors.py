"""A monitor of a whole server: predictions that callers made are judged, and the command line shows what was found."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from shipway.testing.live import live_server, onnx_bundle

SHIPWAY = Path(sys.executable).parent / "shipway"
LATELY = {"kind": "drift", "window": "1m", "every": "1d", "against": {"trailing": "1h"}}


@pytest.fixture
def server(tmp_path):
    with live_server(tmp_path / "state") as server:
        onnx_bundle(tmp_path / "bundle", 2.0)
        server.register("scale", tmp_path / "bundle")
        spec = {"name": "scale", "model": "scale:1", "capture": {}, "monitors": [LATELY]}
        answer = server.control.put("/endpoints/scale", json=spec)
        assert answer.status_code in (200, 202), answer.text
        server.until(lambda: ask(server, [1.0]).status_code == 200)
        yield server


def ask(server, values):
    body = {"inputs": [{"name": "x", "shape": [len(values)], "datatype": "FP64", "data": values}]}
    url = f"{server.running.gateway_url}/v2/models/scale/infer"
    return httpx.post(url, json=body, headers=server.headers, timeout=20)


def shipway(server, *words, code=0):
    command = [SHIPWAY, "monitors", *words, "--dir", server.state_dir]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout or done.stderr


def test_what_callers_sent_is_judged_on_demand(server, tmp_path):
    for n in range(20):
        assert ask(server, [float(n + k) for k in range(10)]).status_code == 200
    stats = "/endpoints/scale/predictions/stats"
    server.until(lambda: server.control.get(stats).json()["rows"] >= 200)
    page = tmp_path / "report.html"
    run = json.loads(shipway(server, "run", "scale", "drift", "--json", "--html", str(page)))
    # There is nothing of before the last minute to compare with: a verdict would be a guess.
    assert (run["state"], run["verdict"]) == ("done", "inconclusive")
    assert run["report"]["rows"] >= 200
    assert page.read_text().startswith("<!doctype html>")
    assert "inconclusive" in shipway(server, "list", "scale")
    assert "Too little data" in shipway(server, "show", "scale", "drift")
    for form in ("svg", "png"):
        said = shipway(server, "show", "scale", "drift", f"--{form}", "plot", code=3)
        assert f"has no `plot.{form}`" in said
    assert run["id"] in shipway(server, "history", "scale", "drift")
    times = ("--since", "2026-01-01", "--until", "2026-01-01T06:00:00")
    past = json.loads(shipway(server, "run", "scale", "drift", *times, "--json"))
    assert (past["report"]["start"], past["report"]["end"]) == (
        "2026-01-01T00:00:00Z",
        "2026-01-01T06:00:00Z",
    )
