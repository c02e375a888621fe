"""A whole server, its backup, and the server that comes back from it; and a doctor for both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shipway.testing.live import LiveServer, live_server, onnx_bundle

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
