"""A real Prometheus over a real server: it scrapes with a key, and evaluates what is exported."""

import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import datetime, timedelta

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shipway.control import exposition
from shipway.control.prometheus import Prometheus
from shipway.core.errors import InvalidRequest, StoreUnavailable
from shipway.core.measures import MEASURES, OF_SERVER
from shipway.gateway import metrics
from shipway.testing.live import live_server, onnx_bundle, python_bundle
from shipway.testing.servers import free_port, prometheus

CODE = """
class Model:
    def predict(self, inputs):
        if inputs["x"][0] < 0:
            raise ValueError("below zero")
        return {"y": inputs["x"] * 3}
"""
SOUND, FAILING = "sound", "failing"


class World:
    """A server with a sound and a failing endpoint, and the Prometheus that watches it."""

    def __init__(self, server, url, directory):
        self.server = server
        self.url = url
        self.directory = directory
        self.source = Prometheus(url)

    def asked(self, path, **params):
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=params, trust_env=False)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def value(self, query):
        found = self.asked("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None

    def firing(self):
        alerts = self.asked("alerts")["alerts"]
        return {
            (one["labels"]["alertname"], one["labels"].get("endpoint", "")): one
            for one in alerts
            if one["state"] == "firing"
        }


def shipway(*arguments):
    run = subprocess.run(
        [sys.executable, "-m", "shipway.cli", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


def promtool(*arguments):
    binary = shutil.which("promtool")
    assert binary, "install Debian's package `prometheus` to run these tests"
    run = subprocess.run(
        [binary, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("prometheus")
    onnx_bundle(root / "inline", 2.0)
    python_bundle(root / "process", CODE)
    with live_server(root / "state") as server:
        for endpoint, bundle in ((SOUND, "inline"), (FAILING, "process")):
            server.register(endpoint, root / bundle)
            server.deploy(endpoint, f"{endpoint}:1")
            assert server.settled(endpoint)["phase"] == "live"
        grants = [{"role": "viewer"}]
        key = server.control.post("/keys", json={"name": "prometheus", "grants": grants})
        (root / "shipway.key").write_text(key.json()["key"])
        rules = ("--window", "10s", "--for", "1s", "--runbooks", "https://example.org/runbooks")
        shipway("export", "prometheus-rules", "-o", root / "rules.yml", *rules)
        shipway(
            "export", "prometheus-config", "-o", root / "prometheus.yml", "--interval", "1s",
            "--key-file", root / "shipway.key", "--rule-file", root / "rules.yml",
            "--dir", server.state_dir,
        )  # fmt: skip
        with prometheus(root / "prometheus.yml") as url:
            yield World(server, url, root)


@contextmanager
def traffic(server, endpoint, value):
    """Requests, one after the other, until the block ends."""
    is_over = threading.Event()

    def ask():
        while not is_over.wait(0.02):
            server.predict(endpoint, value)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_promtool_accepts_what_is_exported(world, tmp_path):
    shipway("export", "prometheus-rules", "-o", tmp_path / "rules.yml")
    assert re.search(
        r"SUCCESS: \d+ rules found", promtool("check", "rules", tmp_path / "rules.yml")
    )
    assert "SUCCESS" in promtool("check", "config", world.directory / "prometheus.yml")


def test_both_pages_are_scraped_with_the_key_and_are_sound(world):
    world.server.until(lambda: world.value('sum(up{job=~"shipway-.*"})') == 2)
    key = {"authorization": f"Bearer {(world.directory / 'shipway.key').read_text()}"}
    pages = (
        (world.server.running.gateway_url, metrics.FAMILIES),
        (world.server.running.control_url, exposition.FAMILIES),
    )
    for url, families in pages:
        assert httpx.get(f"{url}/metrics").status_code == 401
        page = httpx.get(f"{url}/metrics", headers=key).text
        run = subprocess.run(
            [shutil.which("promtool"), "check", "metrics"],
            input=page,
            text=True,
            capture_output=True,
        )
        assert run.returncode in (0, 3), run.stderr  # 3: advice on names
        parsed = {family.name: family for family in text_string_to_metric_families(page)}
        # What has no GPU says nothing of one.
        for family in families:
            if family is exposition.GPU:
                continue
            found = parsed[family.name.removesuffix("_total")]
            assert found.type == family.kind
            assert found.documentation == family.help


def test_rule_fires_for_the_endpoint_that_fails_and_for_no_other(world):
    with traffic(world.server, SOUND, 1.0):
        with traffic(world.server, FAILING, -1.0):
            found = world.server.until(lambda: world.firing().get(("ShipwayErrorRate", FAILING)))
            assert ("ShipwayErrorRate", SOUND) not in world.firing()
        assert found["labels"]["severity"] == "critical"
        assert found["annotations"]["summary"] == f"100% of the requests to {FAILING} fail."
        assert found["annotations"]["runbook_url"] == "https://example.org/runbooks/error-rate.md"
        with traffic(world.server, FAILING, 1.0):
            world.server.until(lambda: ("ShipwayErrorRate", FAILING) not in world.firing())
    broken = [rule for group in world.asked("rules")["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in broken if rule["health"] != "ok"] == []
    assert len(broken) > 8


def test_prometheus_and_the_history_measure_the_same(world):
    server = world.server
    with traffic(server, SOUND, 1.0), traffic(server, FAILING, 1.0):
        begin = datetime.fromisoformat(server.control.get("/top").json()["at"])
        now = server.until(
            lambda: (
                (at := datetime.fromisoformat(server.control.get("/top").json()["at"]))
                >= begin + timedelta(seconds=60)
                and at
            ),
            timeout_s=90,
        )
        # The window that has just ended is written within the next second or two.
        until = now - timedelta(seconds=10)
        period = {"since": until - timedelta(seconds=40), "until": until}

        def own(measure, endpoint):
            params = {"measure": measure, **{key: at.isoformat() for key, at in period.items()}}
            return server.control.get(f"/endpoints/{endpoint}/metrics", params=params).json()[
                "value"
            ]

        for measure, tolerance in (
            ("requests_per_s", 0.2), ("error_rate", 0.01), ("p50_ms", 0.3), ("p99_ms", 0.5),
            ("replicas_ready", 0.05), ("shed_rate", 0.01),
        ):  # fmt: skip
            for endpoint in (SOUND, FAILING):
                found = world.source.measure(measure, endpoint, **period)
                assert found == pytest.approx(own(measure, endpoint), rel=tolerance, abs=0.005), (
                    measure
                )
        assert world.source.measure("memory_mb", FAILING, **period) == pytest.approx(
            own("memory_mb", FAILING), rel=0.2
        )
        measured = world.source.period(**period)
        for measure in MEASURES.keys() - OF_SERVER:
            for endpoint in (SOUND, FAILING, "no-such"):
                by_itself = world.source.measure(measure, endpoint, **period)
                assert measured(measure, endpoint) == pytest.approx(by_itself), (measure, endpoint)
        assert measured("requests_per_s", FAILING) > 0
        series = world.source.series("requests_per_s", SOUND, **period, step_s=10)
        assert series.step_s == 10
        assert len(series.points) == 4
        assert all(point.value > 1 for point in series.points)


def test_every_measure_is_a_query_that_prometheus_understands(world):
    now = datetime.fromisoformat(world.server.control.get("/top").json()["at"])
    period = {"since": now - timedelta(seconds=30), "until": now}
    for name in MEASURES:
        endpoint = "" if name in OF_SERVER else SOUND
        world.source.measure(name, endpoint, **period)
    assert world.source.measure("error_rate", "no-such", **period) is None
    with pytest.raises(InvalidRequest):
        world.source.measure("p98_ms", SOUND, **period)


def test_server_asks_prometheus_when_it_is_told_to(world, tmp_path):
    onnx_bundle(tmp_path / "bundle", 2.0)
    with live_server(tmp_path / "state", prometheus_url=world.url) as other:
        other.register(SOUND, tmp_path / "bundle")
        other.deploy(SOUND, f"{SOUND}:1")
        answer = other.control.get(f"/endpoints/{SOUND}/metrics", params={"step": 60}).json()
        # It has had no request of its own: what it knows is what Prometheus saw of the other server.
        assert answer["value"] > 0


def test_prometheus_that_is_away_is_named_as_what_is_missing():
    away = Prometheus(f"http://127.0.0.1:{free_port()}")
    now = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    with pytest.raises(StoreUnavailable, match="SHIPWAY_PROMETHEUS_URL"):
        away.measure("p99_ms", "e", since=now - timedelta(hours=1), until=now)
    with pytest.raises(StoreUnavailable, match="SHIPWAY_PROMETHEUS_URL"):
        away.period(since=now - timedelta(hours=1), until=now)("p99_ms", "e")
