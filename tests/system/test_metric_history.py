"""The metric history of a real server: what was asked is what is counted, whoever is killed meanwhile."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest

from shipway.testing.live import live_server, onnx_bundle, python_bundle

CODE = """
class Model:
    def predict(self, inputs):
        if inputs["x"][0] < 0:
            raise ValueError("below zero")
        return {"y": inputs["x"] * 3}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("metrics")
    onnx_bundle(root / "inline", 2.0)
    python_bundle(root / "process", CODE)
    with live_server(root / "state") as made:
        for name, endpoint in (("inline", "mine.m"), ("process", "theirs.m")):
            made.register(endpoint, root / name)
            made.deploy(endpoint, f"{endpoint}:1")
            assert made.settled(endpoint)["phase"] == "live"
        yield made


def command(server, *arguments):
    run = subprocess.run(
        [sys.executable, "-m", "shipway.cli", *arguments, "--dir", str(server.state_dir)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


def measured(server, endpoint, measure="requests_per_s", **more):
    """A measure of the last hour."""
    until = datetime.fromisoformat(server.control.get("/top").json()["at"])
    until += timedelta(seconds=20)
    since = until - timedelta(hours=1)
    period = {"since": since.isoformat(), "until": until.isoformat()}
    answer = server.control.get(
        f"/endpoints/{endpoint}/metrics", params={"measure": measure, **period, **more}
    )
    assert answer.is_success, answer.text
    return answer.json()


def requests(server, endpoint):
    """How many requests the history has of an endpoint; None while control is away."""
    with suppress(httpx.HTTPError):
        series = measured(server, endpoint, step=10)
        rates = [p["value"] for p in series["points"] if p["value"] is not None]
        return round(sum(rate * 10 for rate in rates))
    return None


def kill(server, role):
    """Ends control or the gateway at once, and waits for the one in its place."""

    def pid():
        with suppress(OSError, ValueError, KeyError):
            # A killed gateway leaves its record; the one in its place has another name.
            records = (server.state_dir / "run").glob(f"{role}*.json")
            record = max(records, key=lambda path: path.stat().st_mtime)
            return json.loads(record.read_text())["pid"]
        return None

    before = pid()
    os.kill(before, signal.SIGKILL)
    server.until(lambda: pid() not in (before, None))


def test_every_request_is_counted_once_over_kills_of_gateway_and_control(server):
    asked = 0

    def ask(times):
        nonlocal asked
        done = 0
        while done < times:
            with suppress(httpx.HTTPError):
                if server.predict("mine.m", 1.0).status_code == 200:
                    done += 1
        asked += done

    ask(30)
    server.until(lambda: requests(server, "mine.m") == asked)
    ask(20)
    kill(server, "gateway-")
    ask(25)
    kill(server, "control")
    ask(15)
    server.until(lambda: (requests(server, "mine.m") or 0) >= asked)
    kill(server, "control")
    kill(server, "gateway-")
    ask(10)
    server.until(lambda: (requests(server, "mine.m") or 0) >= asked)
    server.until(lambda: server.control.get("/top").is_success)
    assert requests(server, "mine.m") == asked


def test_errors_replicas_and_processes_are_measured(server):
    for value in (1.0, 1.0, 1.0, -1.0):
        server.predict("theirs.m", value)
    server.until(lambda: measured(server, "theirs.m", "error_rate")["value"] == 0.25)
    ready = server.until(lambda: measured(server, "theirs.m", "replicas_ready")["value"])
    assert 0 < ready <= 1
    assert measured(server, "theirs.m", "memory_mb")["value"] > 1
    assert measured(server, "theirs.m", "p99_ms", version="theirs.m:1")["value"] > 0
    assert measured(server, "mine.m", "memory_mb")["value"] is None

    (row,) = [
        r for r in server.control.get("/top").json()["endpoints"] if r["endpoint"] == "theirs.m"
    ]
    assert row["weights"] == {"theirs.m:1": 100}
    assert len(row["requests"]) == 30
    assert server.control.get("/top").json()["server"]["control_memory_mb"] > 10


def test_replica_that_is_killed_is_a_restart(server):
    (replica,) = server.replicas("theirs.m", "theirs.m:1")
    os.kill(replica["pid"], signal.SIGKILL)
    server.until(lambda: measured(server, "theirs.m", "restarts")["value"] == 1)


def test_tenant_sees_its_own_endpoints_and_nothing_of_the_server(server):
    grant = {"role": "viewer", "project": "mine"}
    key = server.control.post("/keys", json={"name": "v", "grants": [grant]}).json()["key"]
    mine = {"authorization": f"Bearer {key}"}
    url = server.running.control_url

    top = httpx.get(f"{url}/api/v1/top", headers=mine).json()
    assert [row["endpoint"] for row in top["endpoints"]] == ["mine.m"]
    assert top["server"] == {}
    assert httpx.get(f"{url}/api/v1/endpoints/mine.m/metrics", headers=mine).status_code == 200
    assert httpx.get(f"{url}/api/v1/endpoints/theirs.m/metrics", headers=mine).status_code == 404
    assert httpx.get(f"{url}/metrics", headers=mine).status_code == 403
    assert httpx.get(f"{url}/metrics").status_code == 401
    assert httpx.get(f"{url}/metrics", headers=server.headers).status_code == 200
    assert "theirs.m" not in json.dumps(top)


@pytest.mark.parametrize(
    ("params", "fact"),
    [
        ({"measure": "p98_ms"}, "no measure `p98_ms`"),
        ({"measure": "gateways"}, "no measure `gateways`"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "not before"),
        ({"since": "2020-01-01T00:00:00Z", "step": "1"}, "at most 5,000 points"),
        ({"step": "0"}, "step"),
        ({"until": "0001-01-01T00:00:00Z"}, "not between 1971 and 9000"),
        ({"until": "9999-12-31T23:59:59Z"}, "not between 1971 and 9000"),
        ({"version": "\0"}, "not a valid model name"),
    ],
)
def test_question_without_an_answer_is_refused(server, params, fact):
    answer = server.control.get("/endpoints/mine.m/metrics", params=params)
    assert 400 <= answer.status_code < 500
    assert fact in answer.text


def test_commands_show_what_the_history_has(server, tmp_path):
    top = command(server, "top", "--once")
    assert "mine.m" in top
    assert "theirs.m" in top
    assert "control" in top
    assert json.loads(command(server, "top", "--json"))["period_s"] == 60
    picture = tmp_path / "rate.svg"
    shown = command(server, "metrics", "mine.m", "--since", "30m", "--svg", str(picture))
    assert shown.startswith("requests_per_s of mine.m in the last 30m:")
    assert "█" in shown
    assert picture.read_text().startswith("<svg")
    assert "<polyline" in picture.read_text()
    found = json.loads(command(server, "metrics", "mine.m", "--measure", "p99_ms", "--json"))
    assert found["unit"] == "ms"
    assert found["value"] > 0
    dashboards = Path(tmp_path / "dashboards")
    command_without_server = [sys.executable, "-m", "shipway.cli", "export", "grafana"]
    subprocess.run([*command_without_server, "-o", str(dashboards)], check=True, timeout=60)
    assert {path.name for path in dashboards.iterdir()} == {
        "shipway-overview.json",
        "shipway-endpoint.json",
    }
