"""A whole server, its backup, and the server that comes back from it; and a doctor for both."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shipway.supervisor.down import down
from shipway.testing.live import LiveServer, live_server, onnx_bundle, python_bundle

SHIPWAY = [sys.executable, "-m", "shipway.cli"]


def shipway(*arguments: str, expected: int = 0) -> Any:
    done = subprocess.run(
        [*SHIPWAY, *arguments, "--json"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def serve(server: LiveServer, endpoint: str, bundle: Path, factor: float) -> None:
    onnx_bundle(bundle, factor)
    server.register(endpoint, bundle)
    server.deploy(endpoint, endpoint)
    server.until(lambda: server.answers(endpoint, 2.0) == 2.0 * factor)


def wrong(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["check"], one["level"]) for one in found if one["level"] != "ok"]


@pytest.fixture
def own_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of the tests names is not these servers'."""
    for name in ("SHIPWAY_DATABASE_URL", "SHIPWAY_ARTIFACTS_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("own_state")
def test_server_comes_back_from_a_backup_and_answers_as_before(tmp_path: Path) -> None:
    backup = str(tmp_path / "backup.tar")
    with live_server(tmp_path / "first") as server:
        serve(server, "double", tmp_path / "double", 2.0)
        made = shipway("backup", backup, "--dir", str(server.state_dir))
        # What comes after the backup is not in it.
        serve(server, "triple", tmp_path / "triple", 3.0)
        refused = shipway("restore", backup, "--dir", str(server.state_dir), expected=5)
        assert "Next:" in refused
    assert shipway("backup", backup, "--verify")["tables"] == made["tables"]
    restored = shipway("restore", backup, "--dir", str(tmp_path / "second"))
    assert restored["audit_head"] == made["audit_head"]
    with live_server(tmp_path / "second") as server:
        server.until(lambda: server.answers("double", 5.0) == 10.0)
        assert server.answers("triple", 5.0) is None
        # Signed heads and keys came along: the chain is proven to its end, and goes on.
        assert shipway("audit", "verify", "--dir", str(server.state_dir))["holds"]


@pytest.mark.usefixtures("own_state")
def test_doctor_finds_a_live_server_well_and_then_what_was_done_to_it(tmp_path: Path) -> None:
    with live_server(tmp_path / "state") as server:
        serve(server, "double", tmp_path / "double", 2.0)
        place = ("doctor", "--dir", str(server.state_dir))
        found = shipway(*place)
        assert {"server", "gateways", "endpoints"} <= {one["check"] for one in found}
        (gateway,) = (server.state_dir / "run").glob("gateway-*.json")
        pid = json.loads(gateway.read_text())["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            server.until(lambda: not server.control.get("/status").json()["gateways"])
            assert ("gateways", "problem") in wrong(shipway(*place, expected=2))
        finally:
            os.kill(pid, signal.SIGCONT)
        server.until(lambda: server.control.get("/status").json()["gateways"])
        server.until(lambda: server.answers("double", 2.0) == 4.0)


SLOW = """
import time

class Model:
    def predict(self, inputs):
        time.sleep(float(inputs["x"][0]))
        return {"y": inputs["x"]}
"""


@pytest.mark.usefixtures("own_state")
def test_server_that_is_told_to_end_answers_what_it_has_accepted(tmp_path: Path) -> None:
    with live_server(tmp_path / "state") as server, ThreadPoolExecutor() as pool:
        python_bundle(tmp_path / "slow", SLOW)
        server.register("slow", tmp_path / "slow")
        server.deploy("slow", "slow")
        server.until(lambda: server.answers("slow", 0.0) == 0.0)
        asked = pool.submit(server.answers, "slow", 2.5)
        server.until(lambda: in_flight(server) == 1)
        down(server.state_dir)
        assert asked.result() == 2.5


def in_flight(server: LiveServer) -> int:
    page = server.gateway.get("/metrics").text
    found = re.findall(r'^shipway_in_flight\{endpoint="slow".*\} (\d+)', page, re.MULTILINE)
    return sum(map(int, found))


@pytest.mark.usefixtures("own_state")
def test_control_that_is_told_to_end_finishes_the_upload_it_has_begun(tmp_path: Path) -> None:
    with live_server(tmp_path / "state") as server:
        onnx_bundle(tmp_path / "double", 2.0)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path in sorted((tmp_path / "double").rglob("*")):
                tar.add(path, path.relative_to(tmp_path / "double").as_posix(), recursive=False)
        body = archive.getvalue()
        host, _, port = server.running.control_url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20) as uploading:
            head = f"POST /api/v1/models/double/versions HTTP/1.1\r\nHost: {host}\r\n"
            head += f"Authorization: Bearer {server.key}\r\n"
            uploading.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:600])
            pid = json.loads((server.state_dir / "run" / "control.json").read_text())["pid"]
            os.kill(pid, signal.SIGTERM)
            server.until(lambda: not listens(host, int(port)))
            uploading.sendall(body[600:])
            assert uploading.recv(1000).startswith(b"HTTP/1.1 201 ")


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True
