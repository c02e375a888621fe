"""The audit record of a real control process: listed, exported, verified, and tampered with."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from shipway import AsyncClient, Client
from shipway.client.answers import PolicyChange
from shipway.core.audit import AuditEvent
from shipway.core.policy import EnvironmentPolicy
from shipway.testing.bundles import write_bundle


class Control:
    """`shipway control` in a process of its own."""

    def __init__(self, directory: Path) -> None:
        self.state_dir = directory / "state"
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Control:
        command = [sys.executable, "-m", "shipway.bootstrap", "control", "--port", "0"]
        # Keys are on the record too; without access control it begins with what a test does.
        environ = {**os.environ, "SHIPWAY_AUTH": "false"}
        with (self.directory / "control.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--state-dir", str(self.state_dir)], stdout=log, stderr=log, env=environ
            )
        return self

    def end(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(30)

    @property
    def url(self) -> str:
        record = self.state_dir / "run" / "control.json"
        url: str = json.loads(record.read_bytes())["url"]
        return url

    def is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "control.log").read_text()
        if not (self.state_dir / "run" / "control.json").exists():
            return False
        try:
            return httpx.get(f"{self.url}/api/v1/health").is_success
        except httpx.TransportError:
            return False

    def shipway(self, *words: str, code: int = 0) -> str:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("SHIPWAY_")}
        done = subprocess.run(
            [sys.executable, "-m", "shipway.cli", *words],
            cwd=self.directory,
            env=environ | {"LOGNAME": "ada", "SHIPWAY_CONTROL_URL": self.url},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout


@pytest.fixture
def control(tmp_path: Path, until: Callable[..., float]) -> Iterator[Control]:
    made = Control(tmp_path).start()
    until(made.is_up, within_s=60)
    yield made
    made.end()


def declare(client: Client, name: str) -> PolicyChange:
    return client.apply_policy(EnvironmentPolicy(name=name))


@pytest.fixture
def recorded(control: Control, until: Callable[..., float]) -> Control:
    """Control with three events that are signed."""
    with Client(control.url) as client:
        for name in ("dev", "staging", "production"):
            declare(client, name)
        until(lambda: client.audit_check().signed_through == 3)
    return control


def test_record_is_listed_and_shown(recorded: Control) -> None:
    listed = recorded.shipway("audit", "list", "--subject", "dev")
    assert "environment.apply" in listed
    assert "staging" not in listed
    found = json.loads(recorded.shipway("audit", "list", "--limit", "2", "--json"))
    assert [event["subject"] for event in found] == ["production", "staging"]
    assert msgspec.convert(found, list[AuditEvent], strict=False)[0].sequence == 3
    assert '"generation": 1' in recorded.shipway("audit", "show", "1")
    recorded.shipway("audit", "show", "9", code=3)


def test_why_an_endpoint_was_changed_is_on_the_record(control: Control, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    (tmp_path / "m.yaml").write_text("{name: m, model: 'm:1', limits: {max_queue: 7}}")
    shipway = control.shipway
    shipway("register", str(tmp_path / "bundle"), "--name", "m")
    shipway("deploy", "m:1", "--no-wait", "--reason", "the quarter's model")
    shipway("apply", "-f", "m.yaml", "--no-wait", "--reason", "ticket 7: fewer requests")
    shipway("delete", "m", "--yes", "--reason", "nobody asks it")
    found = json.loads(shipway("audit", "list", "--subject", "m", "--json"))
    reasons = {event["action"]: event["details"].get("reason") for event in found}
    assert reasons["endpoint.deploy"] == "the quarter's model"
    assert reasons["endpoint.apply"] == "ticket 7: fewer requests"
    assert reasons["endpoint.delete"] == "nobody asks it"
    long = {"model": "m:1", "reason": "x" * 5000}
    said = httpx.post(f"{control.url}/api/v1/endpoints/m/deploy", json=long)
    assert (said.status_code, "up to 4000" in said.text) == (400, True)


def test_export_is_verified_elsewhere_with_the_key_of_before_or_after_a_rotation(
    recorded: Control,
) -> None:
    shipway, export = recorded.shipway, recorded.directory / "export.jsonl"
    public_key = recorded.state_dir / "keys" / "audit.pub"
    (recorded.directory / "old.pub").write_bytes(public_key.read_bytes())
    assert "replaced by" in shipway("audit", "rotate-key")
    shipway("audit", "export", "-o", str(export))
    assert export.stat().st_mode & 0o777 == 0o600
    assert shipway("audit", "export") == export.read_text()
    for key in ("old.pub", str(public_key)):
        words = ("audit", "verify", "--file", "export.jsonl", "--public-key", key)
        assert shipway(*words).startswith("holds: events 1 to 4")
    export.write_text(export.read_text().replace("staging", "testing"))
    assert shipway(*words, code=1).startswith("BROKEN at event 2: event 2 was changed")
    table = list(csv.reader(shipway("audit", "export", "--format", "csv").splitlines()))
    assert [row[0] for row in table] == ["sequence", "1", "2", "3", "4"]


def test_record_is_archived_and_verifies_back_to_its_beginning(recorded: Control) -> None:
    shipway = recorded.shipway
    assert shipway("audit", "verify").startswith("holds: events 1 to 3")
    shipway("audit", "rotate-key")
    assert "Nothing is old enough" in shipway("audit", "prune")
    planned = shipway("audit", "prune", "--before", "2999-01-01", "--dry-run")
    assert planned.startswith("would archive 3 events, 1 to 3")
    shipway("audit", "prune", "--before", "2999-01-01")
    assert shipway("audit", "verify", "--archives").startswith("holds: events 4 to 5")


def test_tail_cut_off_while_control_was_down_is_found(
    control: Control, until: Callable[..., float]
) -> None:
    with Client(control.url) as client:
        for name in ("dev", "staging"):
            declare(client, name)
    # An orderly end signs what is there, however young.
    control.end()
    heads = (control.state_dir / "audit" / "heads.jsonl").read_text().splitlines()
    assert json.loads(heads[-1])["head"]["sequence"] == 2
    with sqlite3.connect(control.state_dir / "shipway.db") as database:
        database.execute("DELETE FROM audit WHERE sequence > 1")
        database.execute("DELETE FROM audit_heads WHERE sequence > 1")
    database.close()
    control.start()
    until(control.is_up, within_s=60)
    assert "BROKEN at event 2" in control.shipway("audit", "verify", code=1)
    assert json.loads(control.shipway("audit", "verify", "--json", code=1))["holds"] is False


def test_kill_9_before_the_signature_loses_nothing(
    control: Control, until: Callable[..., float]
) -> None:
    with Client(control.url) as client:
        declare(client, "dev")
    control.end(signal.SIGKILL)
    (control.state_dir / "run" / "control.json").unlink()
    control.start()
    until(control.is_up, within_s=60)

    async def checked() -> tuple[bool, int, int]:
        async with AsyncClient(control.url) as client:
            found = await client.audit_check()
            (event,) = await client.audit(subject="dev", limit=1)
            return found.holds, found.signed_through, event.sequence

    assert asyncio.run(checked()) == (True, 1, 1)
