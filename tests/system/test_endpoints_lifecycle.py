"""A whole server: deploy, swap, break, recover, roll back."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from shipway.backends.identity import ProcessIdentity
from shipway.backends.records import RecordDirectory
from shipway.testing.live import live_server, onnx_bundle


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("server")
    with live_server(directory / "state") as server:
        for number, factor in ((1, 2.0), (2, 3.0), (3, 4.0)):
            onnx_bundle(directory / f"v{number}", factor)
            assert server.register("scale", directory / f"v{number}") == number
        yield server


class Load:
    """Callers that ask all the time; every answer that is not 200 is kept."""

    def __init__(self, server, endpoint, *, callers=4):
        self.failures = []
        self.answers = []
        self._stop = threading.Event()
        self._headers = server.headers
        self._url = f"{server.running.gateway_url}/v2/models/{endpoint}/infer"
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self):
        tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}
        with httpx.Client(timeout=20, headers=self._headers) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post(self._url, json={"inputs": [tensor]})
                except httpx.HTTPError as exc:
                    self.failures.append(repr(exc))
                    continue
                if answer.status_code == 200:
                    self.answers.append(answer.json()["outputs"][0]["data"][0])
                else:
                    self.failures.append(answer.text)


def deployed(server, endpoint, model, **fields):
    change = server.deploy(endpoint, model, **fields)
    assert change["endpoint"]["phase"] in ("starting", "live"), change
    view = server.settled(endpoint)
    assert (view["phase"], view["active"]) == ("live", model), view
    return view


@pytest.mark.parametrize("placement", ["inline", "process"])
def test_a_version_is_swapped_under_load_without_one_failed_request(server, placement):
    name = f"swap-{placement}"
    deployed(server, name, "scale:1", placement=placement)
    server.until(lambda: server.answers(name, 1.0) == 2.0)
    with Load(server, name) as load:
        server.until(lambda: len(load.answers) > 20)
        deployed(server, name, "scale:2")
        server.until(lambda: load.answers[-1] == 3.0)
        seen = len(load.answers)
        server.until(lambda: len(load.answers) > seen + 20)
    assert load.failures == []
    assert set(load.answers) == {2.0, 3.0}
    assert load.answers[-1] == 3.0


@pytest.mark.parametrize("placement", ["inline", "process"])
def test_rollback_to_a_warm_version_takes_under_a_second(server, placement):
    name = f"back-{placement}"
    deployed(server, name, "scale:1", placement=placement)
    deployed(server, name, "scale:2")
    server.until(lambda: server.answers(name, 1.0) == 3.0)
    with Load(server, name, callers=2) as load:
        began = time.monotonic()
        change = server.control.post(f"/endpoints/{name}/rollback").json()
        assert change["endpoint"]["active"] == "scale:1"
        server.until(lambda: server.answers(name, 1.0) == 2.0, timeout_s=5)
        took = time.monotonic() - began
    assert took < 1.0
    assert load.failures == []
    server.control.post(f"/endpoints/{name}/rollback")
    server.until(lambda: server.answers(name, 1.0) == 3.0, timeout_s=5)


def test_a_killed_replica_turns_red_and_is_started_again(server):
    deployed(server, "killed", "scale:1", placement="process")
    server.until(lambda: server.answers("killed", 1.0) == 2.0)
    (replica,) = server.replicas("killed", "scale:1")
    os.kill(replica["pid"], signal.SIGKILL)
    ready = "/v2/models/killed/ready"
    server.until(lambda: server.gateway.get(ready).status_code == 503, timeout_s=2)
    answer = server.predict("killed", 1.0)
    assert answer.status_code in (200, 503)
    server.until(lambda: server.answers("killed", 1.0) == 2.0, timeout_s=20)
    (again,) = server.until(
        lambda: [r for r in server.replicas("killed", "scale:1") if r["state"] == "ready"]
    )
    assert again["pid"] != replica["pid"]
    assert again["restarts"] == 1


def test_one_of_two_killed_replicas_costs_no_request(server):
    deployed(server, "pair", "scale:1", placement="process", replicas=2)
    server.until(lambda: server.answers("pair", 1.0) == 2.0)
    with Load(server, "pair") as load:
        server.until(lambda: len(load.answers) > 20)
        os.kill(server.replicas("pair", "scale:1")[0]["pid"], signal.SIGKILL)
        server.until(
            lambda: (
                {r["state"] for r in server.replicas("pair", "scale:1")} == {"ready"}
                and sum(r["restarts"] for r in server.replicas("pair", "scale:1")) == 1
            )
        )
    assert load.failures == []


def test_a_stopped_replica_is_red_in_two_seconds_then_replaced(server):
    deployed(server, "hung", "scale:1", placement="process")
    server.until(lambda: server.answers("hung", 1.0) == 2.0)
    (replica,) = server.replicas("hung", "scale:1")
    os.kill(replica["pid"], signal.SIGSTOP)
    began = time.monotonic()
    ready = "/v2/models/hung/ready"
    server.until(lambda: server.gateway.get(ready).status_code == 503, timeout_s=5)
    assert time.monotonic() - began < 2.0
    server.until(lambda: server.answers("hung", 1.0) == 2.0, timeout_s=20)
    assert not ProcessIdentity(replica["pid"], "").is_alive()


def test_killed_control_comes_back_and_adopts_what_runs(server):
    deployed(server, "adopted", "scale:1", placement="process")
    server.until(lambda: server.answers("adopted", 1.0) == 2.0)
    (before,) = server.replicas("adopted", "scale:1")
    record = (server.state_dir / "run" / "control.json").read_text()
    pid = int(record.split('"pid":')[1].split(",")[0])
    with Load(server, "adopted", callers=2) as load:
        os.kill(pid, signal.SIGKILL)

        def is_back():
            try:
                views = server.replicas("adopted", "scale:1")
            except (httpx.HTTPError, KeyError):
                return False
            return [(r["pid"], r["state"]) for r in views] == [(before["pid"], "ready")]

        server.until(is_back, timeout_s=20)
        deployed(server, "adopted", "scale:2")
    assert load.failures == []


def test_a_deleted_endpoint_is_gone_and_its_replica_ends(server):
    deployed(server, "gone", "scale:1", placement="process")
    (replica,) = server.replicas("gone", "scale:1")
    identity = ProcessIdentity.of(replica["pid"])
    change = server.control.delete("/endpoints/gone").json()
    assert change == {"endpoint": None, "changes": ["delete endpoint `gone`"], "dry_run": False}
    server.until(lambda: server.predict("gone", 1.0).status_code == 404)
    server.until(lambda: not identity.is_alive(), timeout_s=20)
    assert server.control.get("/endpoints/gone").status_code == 404


def test_nothing_to_roll_back_is_a_conflict(server):
    deployed(server, "first", "scale:1")
    answer = server.control.post("/endpoints/first/rollback")
    assert answer.status_code == 409
    assert answer.json()["code"] == "nothing_to_roll_back"


def test_a_dry_run_changes_nothing(server):
    change = server.deploy("only-asked", "scale:2", dry_run=True)
    assert change["dry_run"] is True
    assert change["changes"] == ["create endpoint `only-asked` in `dev`", "start scale:2"]
    assert server.control.get("/endpoints/only-asked").status_code == 404


def test_a_corrupt_bundle_fails_its_deployment_and_the_active_version_serves_on(server, tmp_path):
    onnx_bundle(tmp_path / "bad", 9.0)
    number = server.register("scale", tmp_path / "bad")
    digest = server.control.get(f"/models/scale/versions/{number}").json()["digest"]
    directory = server.state_dir / "artifacts" / "bundles" / digest.removeprefix("sha256:")
    model = directory / "model" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    for placement in ("inline", "process"):
        name = f"corrupt-{placement}"
        deployed(server, name, "scale:1", placement=placement)
        server.deploy(name, f"scale:{number}")
        view = server.settled(name)
        assert (view["phase"], view["active"]) == ("failed", "scale:1")
        assert "model/model.onnx" in view["message"]
        assert server.answers(name, 1.0) == 2.0


def test_records_and_sockets_of_ended_replicas_are_removed(server):
    records = RecordDirectory(Path(server.state_dir))
    deployed(server, "tidy", "scale:1", placement="process", warm_s=0)
    (replica,) = server.replicas("tidy", "scale:1")
    deployed(server, "tidy", "scale:2")
    server.until(lambda: replica["id"] not in {record.id for record in records.all()})
    assert not Path(replica["address"].removeprefix("unix:")).exists()
